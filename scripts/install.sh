#!/usr/bin/env bash
# Installs pinned requirements into the Python on PATH, as a workflow's job has it. Arguments: `light` is what
# plan, publish, fetch and probe need, `mirror` what publish needs for a mirror too; else requirement files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
libraries=(click jsonschema pathspec requests PyGithub)
case "$*" in
    mirror) libraries+=(huggingface-hub httpx2 boto3) ;&
    light) python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt "${libraries[@]}" ;;
    *) install_pinned python "$@" ;;
esac
