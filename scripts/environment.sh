# Makes .venv with the pinned requirements, once. Sourced by demo.sh, test.sh and install.sh from the repository's root.
#
# environment FILE...: installs the requirement files unless they are installed already, perhaps among others.

environment() {
    local python=.venv/bin/python stamp=.venv/requirements.sha256 wanted
    wanted=$(sha256sum "$@")
    if [ -f "$stamp" ] && [ -x "$python" ] && ! grep --quiet --invert-match --line-regexp --file "$stamp" <<<"$wanted"; then
        return
    fi
    if ! command -v python3 >/dev/null || ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: Python 3.11 or newer must be installed as python3. Install it and run this again." >&2
        return 1
    fi
    echo "making .venv with the pinned requirements (some minutes the first time)" >&2
    [ -x "$python" ] || python3 -m venv .venv
    install_pinned "$python" "$@"
    echo "$wanted" >"$stamp"
}

# install_pinned PYTHON FILE...: installs the requirement files, of which the first one pins torch.
install_pinned() {
    local python=$1 file
    shift
    install_torch "$python" "$1"
    for file in "$@"; do
        "$python" -m pip install --quiet --disable-pip-version-check --requirement "$file"
    done
}

TORCH_INDEX=https://download.pytorch.org/whl/cpu

# PyTorch's CPU index serves the small build; elsewhere the same version brings gigabytes of CUDA, or is the
# CPU build already. The index may be out of reach: try it briefly, then take the plain install of the pin. A
# workflow's job tries it for longer, and takes nothing else.
install_torch() {
    local python=$1 pin small=(install --quiet --disable-pip-version-check --index-url "$TORCH_INDEX")
    pin=$(grep -o '^torch==[^ ]*' "$2")
    "$python" -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '${pin#torch==}')" 2>/dev/null && return
    if [ "${GITHUB_ACTIONS:-}" = true ]; then
        "$python" -m pip "${small[@]}" --retries 8 --timeout 60 "$pin+cpu"
        return
    fi
    "$python" -m pip "${small[@]}" --retries 0 --timeout 10 "$pin" 2>/dev/null ||
        "$python" -m pip install --quiet --disable-pip-version-check "$pin"
}

# install_locked PYTHON FILE: installs a set of scripts/locks, each package by its hash; nothing is built here.
install_locked() {
    "$1" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
        --retries 8 --timeout 60 --extra-index-url "$TORCH_INDEX" --requirement "$2"
}

# Chromium for the browser tests, on Debian and where we may install it. Without it a person's run skips them, and
# one with CI set fails.
install_chromium() {
    if [ -n "${CHROMIUM_PATH:-}$(type -P chromium chromium-browser google-chrome{,-stable})" ]; then return; fi
    local as=()
    [ "$(id -u)" = 0 ] || as=(sudo -n)
    echo "installing chromium" >&2
    if ! { "${as[@]}" apt-get update -qq && "${as[@]}" apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1; then
        echo "note: chromium could not be installed; the browser tests need it" >&2
    fi
}
