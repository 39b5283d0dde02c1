#!/usr/bin/env bash
# The main job on the embedded model: export, quantize, verify, package, release into out/releases/, env file.
# Needs Python 3.11 and nothing else. Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
environment requirements.txt
mkdir -p out/app
touch out/app/.env.production
exec .venv/bin/python scripts/release.py --demo --tag model-v1.0.0 --layers 0,5,11 \
    --host local:out/releases --env-file out/app/.env.production --replace "$@"
