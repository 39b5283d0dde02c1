#!/usr/bin/env bash
# Installs pinned requirements into the Python on PATH, as a workflow's job has it. Arguments: a set of scripts/locks
# (`light` is what plan, publish, fetch and probe need, `mirror` what publish needs for a mirror too, `full` is
# everything); else requirement files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
if [ -f "scripts/locks/$*.txt" ]; then
    install_locked python "scripts/locks/$*.txt"
else
    install_pinned python "$@"
fi
