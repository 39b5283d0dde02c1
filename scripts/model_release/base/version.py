"""The tool's own version: that of the newest `v*` tag and of CHANGELOG.md. Models have their own, `model-v*`."""

TOOL = "transformer-model-release"
VERSION = "1.0.0"
