"""The actions that the workflows use, with folders in place of GitHub's storage; act runs them.

`python standin.py ACTION` does what the action of that name does as far as our workflows can tell, with its inputs
as JSON in INPUTS, and notes the call in `calls.jsonl`. Everything is below STANDIN_STATE:

    repositories/OWNER/NAME   what checkout finds; `repositories/self` is the workflows' own
    artifacts/NAME  caches/KEY  attested.json  summaries/*.md  calls.jsonl
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

STATE = Path(os.environ.get("STANDIN_STATE", ""))
WORKSPACE = Path(os.environ.get("GITHUB_WORKSPACE", ""))

_PYTHON = """#!/bin/bash
# The test's own Python, which has everything: an installation is only noted. What a step adds to its summary is kept,
# and a build with the same request as an earlier one is that one's, where STANDIN_BUILT says so.
if [ "$1 $2 $3" = "-m pip install" ]; then
    echo "$GITHUB_JOB: $*" >>"{state}/installed.txt"
    exit 0
fi
export PYTHONPATH="$STANDIN_ACTIONS/python"
built=
if [ "$1" = scripts/build.py ] && [ -n "$STANDIN_BUILT" ]; then
    # Without what build.py has no option for: what a run publishes, and where, makes no other build.
    other='^MODEL_RELEASE_(MODELS|ENV_FILE|CREATE_ENV_FILE|STATIC_DIR|DEPLOY_WORKFLOW|NO_ENV|MIRROR[A-Z_]*|ORIGIN)='
    asked=$(env | grep ^MODEL_RELEASE_ | grep -vE "$other" | sort | sha256sum | cut -c 1-16)
    built="$STANDIN_BUILT/$asked"
fi
if [ -d "$built" ]; then
    cp -r "$built" dist
    cat "$built.md" >>"$GITHUB_STEP_SUMMARY"
    status=0
else
    "{python}" "$@"
    status=$?
fi
if [ -n "$built" ] && [ $status = 0 ] && [ ! -d "$built" ]; then
    cp "$GITHUB_STEP_SUMMARY" "$built.md"
    cp -r dist "$built"
fi
if [ -s "$GITHUB_STEP_SUMMARY" ]; then
    cp "$GITHUB_STEP_SUMMARY" "{state}/summaries/$GITHUB_JOB-$(basename "$1" .py)-$$.md"
fi
exit $status
"""


def checkout(inputs: dict[str, str]) -> None:
    """Copies a repository into the workspace; refuses to leave credentials there, and to guess in a call.

    The action takes an empty `repository` for the caller's, whose files are not the called workflow's.
    """
    if inputs.get("persist-credentials") != "false":
        raise SystemExit("checkout must be told persist-credentials: false")
    named = inputs.get("repository")
    if not named or (named != "self" and not inputs.get("ref")):
        raise SystemExit("checkout must be told a repository and its commit, or neither")
    source = STATE / "repositories" / named
    shutil.copytree(source, WORKSPACE / (inputs.get("path") or "."), dirs_exist_ok=True, symlinks=True)


def setup_python(inputs: dict[str, str]) -> None:
    """Puts a `python` on PATH."""
    if not inputs.get("python-version"):
        raise SystemExit("setup-python must be told a version")
    folder = STATE / "bin"
    script = folder / "python"
    if not script.exists():
        folder.mkdir(exist_ok=True)
        draft = folder / f"draft-{os.getpid()}"
        draft.write_text(_PYTHON.format(state=STATE, python=sys.executable))
        draft.chmod(0o755)
        draft.replace(script)
    _append("GITHUB_PATH", str(folder))


def cache_restore(inputs: dict[str, str]) -> None:
    """Brings a folder back, if there is one under the key."""
    stored = STATE / "caches" / inputs["key"]
    if stored.is_dir() and inputs.get("lookup-only") != "true":
        shutil.copytree(stored, WORKSPACE / inputs["path"], dirs_exist_ok=True, symlinks=True)
    _append("GITHUB_OUTPUT", f"cache-hit={'true' if stored.is_dir() else ''}")


def cache_save(inputs: dict[str, str]) -> None:
    """Stores a folder; a key is written once."""
    stored = STATE / "caches" / inputs["key"]
    if not stored.exists():
        shutil.copytree(WORKSPACE / inputs["path"], stored, symlinks=True)


def upload_artifact(inputs: dict[str, str]) -> None:
    """Stores a folder without its hidden files; a name is used once a run, unless it may be overwritten."""
    source, stored = WORKSPACE / inputs["path"], STATE / "artifacts" / inputs["name"]
    if not any(path.is_file() for path in source.rglob("*")):
        raise SystemExit(f"no files were found in {inputs['path']}")
    if inputs.get("overwrite") == "true":
        shutil.rmtree(stored, ignore_errors=True)
    shutil.copytree(source, stored, ignore=shutil.ignore_patterns(".*"))


def download_artifact(inputs: dict[str, str]) -> None:
    """Merges the artifacts that a pattern names into one folder."""
    if inputs.get("merge-multiple") != "true":
        raise SystemExit("this stand-in knows download-artifact with merge-multiple alone")
    for stored in sorted((STATE / "artifacts").glob(inputs["pattern"])):
        shutil.copytree(stored, WORKSPACE / inputs["path"], dirs_exist_ok=True)


def attest(inputs: dict[str, str]) -> None:
    """Notes the sha256 of every file that a pattern names."""
    paths = [path for path in sorted(WORKSPACE.glob(inputs["subject-path"])) if path.is_file()]
    if not paths:
        raise SystemExit(f"no subject matches {inputs['subject-path']}")
    subjects = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    (STATE / "attested.json").write_text(json.dumps(subjects))


def _append(variable: str, line: str) -> None:
    with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


ACTIONS: dict[str, Callable[[dict[str, str]], None]] = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "actions/cache/restore": cache_restore,
    "actions/cache/save": cache_save,
    "actions/upload-artifact": upload_artifact,
    "actions/download-artifact": download_artifact,
    "actions/attest": attest,
}

if __name__ == "__main__":
    name = sys.argv[1]
    given = {key: value for key, value in json.loads(os.environ["INPUTS"]).items() if value != ""}
    with (STATE / "calls.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"job": os.environ.get("GITHUB_JOB", ""), "action": name, "inputs": given}) + "\n")
    ACTIONS[name](given)
