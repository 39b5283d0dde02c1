#!/usr/bin/env bash
# Installs pinned requirements into the Python on PATH, as a workflow's job has it. Arguments: `light` is what
# plan, publish, fetch and probe need; else requirement files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
if [ "$*" = light ]; then
    python -m pip install --quiet --disable-pip-version-check --constraint requirements.txt \
        click jsonschema pathspec requests PyGithub
else
    install_pinned python "$@"
fi
