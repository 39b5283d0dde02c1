"""Runs a release in headless Chromium and judges every output: a release is good when a browser says so.

Every model file of the manifest runs on every backend of onnxruntime-web that an app may import, on a
prompt read by the released tokenizer files. What it returns is compared with what onnxruntime, in
Python, returns for the fp32 file, which was proven equal to PyTorch when the release was made; so
NUM01 and REL01, with the limits of the file's own precision, judge a browser as `verify.py` judges a
file. A relative error of at most e is a cosine of at least √(1 − e²): cosines are told, not judged twice.

A backend that cannot run a precision says so, and that is reported. One that runs it wrongly says
nothing, and that is what fails; unless the contract says it, for a fault of that backend: then it
counts as one that cannot.
"""

import base64
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model_release.base.errors import ManifestError
from model_release.base.text import one_line
from model_release.browser import npm
from model_release.browser.chromium import (
    ANSWER_S,
    Ask,
    PageLostError,
    chromium,
    executable,
    opened,
)
from model_release.browser.judge import Judge, probes
from model_release.browser.pages.live import PACKAGES
from model_release.browser.pages.render import ASSETS
from model_release.browser.pages.sample import MAX_TOKENS, PROMPT, spread_ids
from model_release.browser.results import BackendRun, BrowserReport
from model_release.browser.server import serve
from model_release.contract import comparison_checks
from model_release.contract.activations import load_contract
from model_release.contract.clauses import NOTHING_JUDGED
from model_release.contract.dist import check_built
from model_release.contract.manifest import Manifest
from model_release.contract.measures import Array
from model_release.contract.metadata import metadata_of
from model_release.contract.precision import FULL_PRECISION, Precision
from model_release.model.onnx_files.data_files import data_files, model_bytes
from model_release.model.onnx_files.facts import read_facts
from model_release.model.onnx_files.session import Session
from model_release.model.weights.file_names import TOKENIZER
from model_release.model.weights.tokenizer import Tokenizer

_TIMED_RUNS = 5
_TIMED_MS = 1000  # A WebGPU without a GPU takes seconds a run; one of them tells as much.

PAGES = {
    **{name: npm.BROWSER / name for name in ("gate.html", "gate.mjs")},
    "fetching.js": ASSETS / "fetching.js",
}
"""What the gate's page is made of, by the name it is served under."""

HARD_TEXT = "“Déjà vu?”\n\tShe can't have 1,000 of them…  🙂"
"""What readers of tokenizers get wrong: bytes of other letters, spaces in a row, contractions, digits."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to run models in a browser.

    Attributes:
        name: In tables.
        build: What an app imports.
        providers: Execution providers to ask for; none leaves the choice to the package.
        threads: Of WebAssembly; 0 leaves them to the package.
    """

    name: str
    build: str
    providers: tuple[str, ...] = ()
    threads: int = 0


BACKENDS = (
    Backend(name="wasm, 1 thread", build="onnxruntime-web/wasm", providers=("wasm",), threads=1),
    Backend(name="wasm, 2 threads", build="onnxruntime-web/wasm", providers=("wasm",), threads=2),
    Backend(name="webgpu", build="onnxruntime-web/webgpu", providers=("webgpu",)),
    Backend(name="default import", build="onnxruntime-web"),
    Backend(name="default import, webgpu", build="onnxruntime-web", providers=("webgpu",)),
)


def browse(
    folder: Path,
    *,
    backends: Sequence[Backend] | None = None,
    limit_s: float = ANSWER_S,
    progress: Callable[[str], None] = lambda _: None,
) -> BrowserReport:
    """Runs every model file of a release on every backend.

    Args:
        folder: A release, its manifest in it. Nothing is written there.
        backends: Where to run; by default on `BACKENDS`.
        limit_s: For each answer of a page; a backend on which none comes cannot run the file.
        progress: Told of each trial.

    Returns:
        What happened; see `BrowserReport.require`.

    Raises:
        ManifestError: The folder holds no release, or other files than its manifest says.
        MissingToolError: Chromium, Playwright or npm is missing.
        ContractError: onnxruntime cannot run the fp32 file.
    """
    release = check_built(folder)
    executable()  # What is missing is said before anything is installed.
    mounts = {PACKAGES: npm.install(progress=progress), **PAGES}
    with chromium() as browser, serve(folder, mounts=mounts) as origin:
        gate = _Gate(partial(opened, browser, f"{origin}/gate.html", limit_s=limit_s), folder, progress)
        trials = [
            trial
            for document in (release.document, *release.companions)
            for trial in gate.try_model(document, BACKENDS if backends is None else backends)
        ]
        return BrowserReport(browser=browser.version, trials=tuple(trials), of_release=gate.judgement)


class _RefusedError(Exception):
    """A backend that cannot load or run a file, in its own words."""


class _Gate:
    """A browser's pages, and the release served to them."""

    def __init__(
        self, open_page: Callable[[], AbstractContextManager[Ask]], folder: Path, progress: Callable[[str], None]
    ) -> None:
        self._open_page, self._folder, self._progress = open_page, folder, progress
        self.judgement = NOTHING_JUDGED

    def try_model(self, document: Manifest, backends: Sequence[Backend]) -> Iterator[BackendRun]:
        """Every file of one model of the release, given its manifest, on every backend."""
        full = document.variant(FULL_PRECISION)
        if full is None:
            raise ManifestError(f"the manifest must list an {FULL_PRECISION} model, got none. Make the release again.")
        metadata = metadata_of(full.file, read_facts(self._folder / full.file).props)
        prompt = self._prompt(document, metadata.blueprint.vocab, metadata.blueprint.context)
        judge = Judge(
            load_contract().expected_outputs(metadata.blueprint, metadata.selection),
            probes(Session(self._folder / full.file), prompt, metadata.blueprint.vocab),
        )
        for variant in document.variants:
            precision = load_contract().precision(variant.precision).in_model(metadata.blueprint)
            for backend in backends:
                self._progress(f"browse {variant.file}: {backend.name}")
                yield self._try(variant.file, precision, backend, judge)

    def _prompt(self, document: Manifest, vocab: int, positions: int) -> list[int]:
        """The prompt by the released tokenizer files, or ids spread over a vocabulary without words."""
        longest = min(MAX_TOKENS, positions)
        tokenizer, config = (document.asset_prefix + name for name in (TOKENIZER, "tokenizer_config.json"))
        if tokenizer not in document.names:
            return spread_ids(vocab, longest)
        files = {"tokenizer": tokenizer, "config": config if config in document.names else None}
        reader = Tokenizer(self._folder / tokenizer, vocab)
        ids: list[int] = []
        with self._open_page() as ask:
            for text in (HARD_TEXT, PROMPT):
                reading = reader.read(text)
                if not reading.knows:  # What stands for all that it does not know, each library decides for itself.
                    ids = []
                    continue
                ids = ask("gate.encode", {"text": text, **files})
                self.judgement += comparison_checks.check_tokens(text, ids, reading.ids)
        return ids[:longest] or spread_ids(vocab, longest)

    def _try(self, file: str, precision: Precision, backend: Backend, judge: "Judge") -> BackendRun:
        path = self._folder / file
        trial = BackendRun(file=file, precision=precision.name, backend=backend.name, size_bytes=model_bytes(path))
        try:
            with self._open_page() as ask:  # Its own: no trial sees another's settings or memory.
                measured = replace(trial, **_measure(ask, path, backend, precision, judge))
        except (_RefusedError, PageLostError) as failure:
            return replace(trial, refused=one_line(str(failure))[:300])
        if measured.findings and backend.name in precision.misread_by:
            return replace(trial, refused=precision.advice)
        return measured


def _measure(ask: Ask, path: Path, backend: Backend, precision: Precision, judge: "Judge") -> dict[str, Any]:
    """The figures and the judgement of a trial.

    Raises:
        _RefusedError: The backend cannot load or run the file.
        PageLostError: The page has died of it, or hangs.
    """
    request = {
        "build": backend.build,
        "files": [path.name, *(data.name for data in data_files(path))],
        "providers": list(backend.providers),
        "threads": backend.threads,
    }
    opened = _accepted(ask("gate.open", request))
    answers = [_accepted(ask("gate.run", probe.ids.tolist())) for probe in judge.probes]
    first = judge.probes[0].ids.tolist()
    times_ms = ask("gate.time", {"rows": first, "times": _TIMED_RUNS, "enough_ms": _TIMED_MS})
    memory = ask("gate.memory")
    return {
        "load_s": opened["load_ms"] / 1e3,
        "session_s": opened["session_ms"] / 1e3,
        "first_run_ms": answers[0]["run_ms"],
        "median_run_ms": statistics.median(times_ms),
        "js_bytes": memory["js"],
        "wasm_bytes": memory["wasm"],
        **judge.judge([_unpack(answer["outputs"]) for answer in answers], precision),
    }


def _accepted(answer: dict[str, Any]) -> dict[str, Any]:
    if "refused" in answer:
        raise _RefusedError(answer["refused"])
    return answer


def _unpack(outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """The page's tensors as arrays. Any type but float32 breaks the contract, whatever its bytes mean."""
    return {
        name: np.frombuffer(
            base64.b64decode(tensor["data"]), "<f4" if tensor["type"] == "float32" else np.uint8
        ).reshape(tensor["dims"] if tensor["type"] == "float32" else -1)
        for name, tensor in outputs.items()
    }
