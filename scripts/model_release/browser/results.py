"""What running a release in a browser showed, file by file and backend by backend.

Times and memory differ from run to run, so they are in no manifest and no asset: `browser.json` lies beside a release's
files and stays behind when they are published. Equal releases keep equal bytes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from model_release.base.errors import ContractError, ManifestError, NumericMismatchError
from model_release.base.files import read_bytes
from model_release.contract.clauses import NOTHING_JUDGED, Finding, Judgement
from model_release.contract.manifest import MAX_MANIFEST_BYTES


@dataclass(frozen=True, kw_only=True)
class Timings:
    """What one file needed on one backend; None for what could not be had.

    Attributes:
        load_s: Download and creation of the session.
        session_s: Creation of the session alone.
        js_bytes: JavaScript's heap after the runs, without array buffers.
        wasm_bytes: WebAssembly's memory after the runs.
    """

    load_s: float | None = None
    session_s: float | None = None
    first_run_ms: float | None = None
    median_run_ms: float | None = None
    js_bytes: float | None = None
    wasm_bytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class BackendRun(Timings):
    """One file on one backend: what it needed, and whether what it returned is right.

    Attributes:
        refused: Why the backend cannot run the file; empty if it does.
        judgement: Which clauses hold for what it returns, and which are broken.
        worst_cosine: The least of any kind of output; None if values are missing or not finite.
        worst_relative: The largest relative error of any, likewise.
    """

    file: str
    precision: str
    backend: str
    size_bytes: int
    refused: str = ""
    judgement: Judgement = NOTHING_JUDGED
    worst_cosine: float | None = None
    worst_relative: float | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Clauses broken by what it returns."""
        return self.judgement.findings

    @property
    def verdict(self) -> str:
        """`good`, `cannot run` or `wrong`."""
        return "cannot run" if self.refused else "wrong" if self.findings else "good"


@dataclass(frozen=True, kw_only=True)
class BrowserReport:
    """A release in a browser.

    Attributes:
        browser: Its version.
        trials: File after file, each on every backend.
        of_release: Which clauses hold for the release itself, whatever runs it, and which are broken.
    """

    browser: str
    trials: tuple[BackendRun, ...]
    of_release: Judgement = NOTHING_JUDGED

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Clauses broken by the release itself."""
        return self.of_release.findings

    @property
    def judgement(self) -> Judgement:
        """Of the release and of all runs: a clause that one backend breaks is broken."""
        return sum((trial.judgement for trial in self.trials), start=self.of_release)

    def require(self) -> None:
        """Fails once, with the first of what is wrong.

        Raises:
            NumericMismatchError: A backend runs a file wrongly.
            ContractError: No backend can run a file, or a page reads other tokens.
        """
        wrong = [trial for trial in self.trials if trial.findings]
        if wrong:
            first = wrong[0]
            raise NumericMismatchError(
                f"a browser must return what the fp32 file returns, {len(wrong)} of {len(self.trials)} runs do not; "
                f"the first: {first.file} on {first.backend}: {first.findings[0]}. Do not release this file."
            )
        if self.findings:
            raise ContractError(f"a page must read texts as the model does: {self.findings[0]}. Correct the tokenizer.")
        for file in dict.fromkeys(trial.file for trial in self.trials):
            of_file = [trial for trial in self.trials if trial.file == file]
            if all(trial.refused for trial in of_file):
                raise ContractError(
                    f"RUN01: a browser must run {file}, no backend can: {of_file[0].refused}. Do not release this file."
                )


TimingsByFile = Mapping[tuple[str, str], Timings]
"""By file and backend."""


def render_timings(measured: TimingsByFile) -> bytes:
    """Timings as the bytes of `browser.json`."""
    rows = [{"file": file, "backend": backend, **asdict(of)} for (file, backend), of in measured.items()]
    return f"{json.dumps(rows, indent=2, allow_nan=False)}\n".encode()


def read_timings(path: Path) -> TimingsByFile:
    """Timings from a `browser.json`, which may come from anywhere.

    Raises:
        ManifestError: It cannot be read, or holds something else.
    """
    try:
        content = read_bytes(path, limit_bytes=MAX_MANIFEST_BYTES)
        return {(str(row.pop("file")), str(row.pop("backend"))): _timings(row) for row in json.loads(content)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as failure:
        raise ManifestError(f"{path} must hold a browser's figures, got: {failure!r:.100}. Remove it.") from failure


def _timings(row: Mapping[str, float | None]) -> Timings:
    """A row without its file and backend.

    Raises:
        ValueError: A value is no figure.
        TypeError: It has other keys.
    """
    for value in row.values():
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(value)
    return Timings(**row)
