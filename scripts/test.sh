#!/usr/bin/env bash
# Lint, types, documents and tests, side by side: those of a file one after another, so that they share what is made
# once. The longest two or three in a hundred run with --all as the first argument; with --fast only tests run that need
# no server, no tool and little time. Other arguments go to pytest, e.g. scripts/test.sh -k envfile. Safe to run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
environment requirements.txt tests/requirements.txt
case "${1:-}" in
    --fast)
        shift
        which=(-m "not (network or tools or slow)")
        ;;
    --all)
        shift
        install_chromium
        which=()
        ;;
    *)
        install_chromium
        which=(-m "not long")
        ;;
esac
bin=.venv/bin
"$bin"/ruff check .
"$bin"/ruff format --check .
"$bin"/python scripts/docs.py --check
types="$(mktemp)"
trap 'rm -f "$types"' EXIT
"$bin"/mypy >"$types" 2>&1 &
passed=true
"$bin"/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "${which[@]}" "$@" ||
    passed=false
wait "$!" || passed=false
cat "$types"
"$passed"
