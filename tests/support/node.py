"""Runs `fetch.mjs` as an app's build does, with little patience; for tests."""

import json
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from commands import SCRIPTS, Outcome
from small_release import QUICK

# Node.js 20 reads the file of an `--env-file` itself, wherever that stands before a `--`.
_MAIN = """import {{ main }} from {url};
process.exitCode = await main(process.argv.slice(1), process.env, {patience});"""


def run_node(folder: Path, options: list[str], environment: Mapping[str, str], timeout_s: float) -> Outcome:
    """`fetch.mjs` in a process of its own; `timeout_s` is the longest silence of a server."""
    node = shutil.which("node")
    assert node, "Node.js must be installed"
    patience = {
        "attempts": QUICK.attempts,
        "requestTimeoutS": timeout_s,
        "totalTimeoutS": QUICK.total_timeout_s,
        "baseWaitS": QUICK.base_wait_s,
    }
    code = _MAIN.format(url=json.dumps((SCRIPTS / "fetch.mjs").as_uri()), patience=json.dumps(patience))
    command = [node, "--input-type=module", "--eval", code, "--", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=_lift_memory,
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)


def _lift_memory() -> None:
    """Node.js reserves far more addresses than it uses, so that no limit of a test can be its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
