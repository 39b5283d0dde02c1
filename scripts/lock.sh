#!/usr/bin/env bash
# Writes scripts/locks/*.txt: every package of a workflow's job with its sha256, for the runner's Python. Run it after
# a change of requirements.txt, with uv on PATH (`pip install uv==0.13.9`). Arguments are uv's in place of torch's CPU
# index, such as --find-links and a folder with its wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed -E 's/^(torch==[^ ]+)/\1+cpu/' requirements.txt >"$folder/full.in" # what the CPU index has
{ cat "$folder/full.in" && grep -o '^boto3==[^ ]*' tests/requirements.txt; } >"$folder/constraints.txt"

# lock NAME INPUT [OPTION...]
lock() {
    local name=$1 input=$2
    shift 2
    {
        echo "# Made by scripts/lock.sh; every package of the set '$name' by its hash."
        uv pip compile "$input" --constraint "$folder/constraints.txt" --quiet --no-header --no-annotate --generate-hashes \
            --only-binary :all: --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@"
    } >"$folder/$name.txt"
    mv "$folder/$name.txt" "scripts/locks/$name.txt"
}

lock light scripts/locks/light.in
lock mirror scripts/locks/mirror.in
[ $# != 0 ] || set -- --extra-index-url "$TORCH_INDEX" --index-strategy unsafe-best-match # as pip does
lock full "$folder/full.in" "$@"
