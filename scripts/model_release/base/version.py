"""The tool's own version: that of the newest `v*` tag and of CHANGELOG.md. Models have their own, `model-v*`."""

VERSION = "1.0.0"
