"""Runs `fetch.mjs` as an app's build does, with little patience, or for many cases in one process; for tests."""

import json
import resource
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from commands import SCRIPTS, Outcome
from small_release import QUICK

# Node.js 20 reads the file of an `--env-file` itself, wherever that stands before a `--`.
_MAIN = """import {{ main }} from {url};
process.exitCode = await main(process.argv.slice(1), process.env, {patience});"""
_LOOP = """import {{ createInterface }} from "node:readline";
import {{ main }} from {url};
const answer = process.stdout.write.bind(process.stdout);
let said;
process.stdout.write = (text) => {{ said.out += text; return true; }};
process.stderr.write = (text) => {{ said.err += text; return true; }};
for await (const line of createInterface({{ input: process.stdin }})) {{
    const {{ folder, options, environment, patience }} = JSON.parse(line);
    said = {{ out: "", err: "" }};
    process.chdir(folder);
    const code = await main(options, environment, patience);
    answer(JSON.stringify({{ code, ...said }}) + "\\n");
}}"""


def run_node(folder: Path, options: list[str], environment: Mapping[str, str], timeout_s: float) -> Outcome:
    """`fetch.mjs` in a process of its own; `timeout_s` is the longest silence of a server."""
    done = subprocess.run(
        [*_node(_MAIN, patience=json.dumps(_patience(timeout_s))), "--", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=_lift_memory,
    )
    return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)


class NodeLoop:
    """One process that runs `fetch.mjs` for whoever asks: its start takes longer than most cases."""

    def __enter__(self) -> Self:
        command = _node(_LOOP)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_lift_memory
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, folder: Path, options: list[str], environment: Mapping[str, str], timeout_s: float) -> Outcome:
        """As `run_node`; that the process ends by itself is not seen here."""
        asked = {
            "folder": str(folder),
            "options": options,
            "environment": dict(environment),
            "patience": _patience(timeout_s),
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"code": "it died", "out": "", "err": ""}')
        return Outcome(code=answer["code"], out=answer["out"], err=answer["err"])


def _node(code: str, **values: str) -> list[str]:
    node = shutil.which("node")
    assert node, "Node.js must be installed"
    url = json.dumps((SCRIPTS / "fetch.mjs").as_uri())
    return [node, "--input-type=module", "--eval", code.format(url=url, **values)]


def _patience(timeout_s: float) -> dict[str, Any]:
    return {
        "attempts": QUICK.attempts,
        "requestTimeoutS": timeout_s,
        "totalTimeoutS": QUICK.total_timeout_s,
        "baseWaitS": QUICK.base_wait_s,
    }


def _lift_memory() -> None:
    """Node.js reserves far more addresses than it uses, so that no limit of a test can be its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
