#!/usr/bin/env bash
# Lint, types and all tests, side by side (of a file one after another). Arguments go to pytest, e.g. scripts/test.sh -k envfile.
# Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
environment requirements.txt tests/requirements.txt
chromium
bin=.venv/bin
"$bin"/ruff check .
"$bin"/ruff format --check .
"$bin"/mypy
"$bin"/python scripts/docs.py --check
"$bin"/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
