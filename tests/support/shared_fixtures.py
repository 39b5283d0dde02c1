"""What every test has: no sockets unless it says so, and a few small models exported once."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import onnxruntime
import pytest
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

import cli
from builders import gpt2_folder
from commands import Outcome, call, exported, traced_once
from model_release.base.errors import MissingToolError, ReleaseError
from model_release.base.lock import locked
from model_release.base.progress import silent
from model_release.browser import gate, npm
from model_release.browser.chromium import chromium
from model_release.contract.activations import parse_activations
from model_release.contract.request import SelectionRequest
from model_release.model.pipeline import export_model
from model_release.model.weights.source import SourceRequest
from pages import HEADS, LAYERS, write_tokenizer
from workroom import Workshop

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T = TypeVar("T")


_start = onnxruntime.InferenceSession.__init__


def _start_one_thread(
    self: onnxruntime.InferenceSession,
    model: str | bytes | os.PathLike[str],
    sess_options: onnxruntime.SessionOptions | None = None,
    **settings: Any,
) -> None:
    options = sess_options or onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.intra_op_num_threads or 1
    _start(self, model, options, **settings)


# Threads that wait for work keep the other tests' core busy.
onnxruntime.InferenceSession.__init__ = _start_one_thread


@pytest.fixture(autouse=True)
def _no_sockets(request: pytest.FixtureRequest) -> None:
    """Unit tests open no socket; those marked `network` reach 127.0.0.1 alone."""
    if request.node.get_closest_marker("network"):
        enable_socket()
        socket_allow_hosts(["127.0.0.1", "localhost", "::1"], allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=True)


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a folder's model; equal requests are exported once, and equal graphs are traced once."""
    known: dict[tuple[object, ...], Path] = {}

    def run(folder: Path, *, activations: str | None = "all", **request: object) -> Path:
        key = (folder, activations, *sorted(request.items()))
        if key not in known:
            parse_activations(activations)
            output = tmp_path_factory.mktemp("exported") / "model.onnx"
            selection = SelectionRequest(activations=activations, **request)  # type: ignore[arg-type]
            with traced_once():
                export_model(SourceRequest(folder=folder), selection, output)
            known[key] = output
        return known[key]

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 3 layers with random weights, its embedding tied to its head."""
    return gpt2_folder(tmp_path_factory.mktemp("tiny"), layers=3, hidden=16, heads=2, vocab=31, positions=12)


@pytest.fixture(scope="session")
def tiny_onnx(tiny: Path, export: Callable[..., Path]) -> Path:
    """`tiny` with every layer and activation as an output."""
    return export(tiny, all_layers=True)


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release with a tokenizer, every layer to see."""
    return _small_release(tmp_path_factory)


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with files that take and return keys and values."""
    return _small_release(tmp_path_factory, "--cache")


@pytest.fixture(scope="session")
def touchable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with files that take gains of heads and vectors to steer with, besides."""
    return _small_release(tmp_path_factory, "--cache", "--interventions")


def _small_release(tmp_path_factory: pytest.TempPathFactory, *arguments: str) -> Path:
    def make() -> Path:
        folder = gpt2_folder(tmp_path_factory.mktemp("model"), layers=LAYERS, heads=HEADS, vocab=256, positions=40)
        write_tokenizer(folder / "tokenizer.json")
        out = tmp_path_factory.mktemp("out")
        with traced_once():
            outcome = call(
                cli.release,
                *("--tag", "model-v1.0.0", "--model-path", folder, "--all-layers", "--precision", "fp16", "--no-env"),
                *("--host", f"local:{out}", *arguments),
            )
        assert outcome.code == 0, outcome.err
        return out / "model-v1.0.0"

    return _made_once("".join(["release", *arguments]), tmp_path_factory, make)


@pytest.fixture(scope="session")
def tiny_file(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export.py --model-path TINY` writes."""

    def export() -> Path:
        path = tmp_path_factory.mktemp("exported") / "model.onnx"
        path.write_bytes(exported(tiny))
        return path

    return _made_once("tiny_file", tmp_path_factory, export)


def _made_once(name: str, tmp_path_factory: pytest.TempPathFactory, make: Callable[[], Path]) -> Path:
    """What one of the processes that run tests makes for all of them."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / f"once_{name}"
    folder.mkdir(exist_ok=True)
    with locked(folder, silent, deadline=time.monotonic() + 300, error=ReleaseError):
        made = folder / "made"
        if not made.exists():
            made.write_text(str(make()))
        return Path(made.read_text())


@pytest.fixture
def workshop(tmp_path: Path, tiny: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    shutil.copytree(tiny, tmp_path / "model")
    shutil.copy(tiny_file, tmp_path / "model.onnx")
    for folder in ("app", "tmp"):
        (tmp_path / folder).mkdir()
    (tmp_path / "app/env").write_bytes(b"# app\r\nOTHER='1'\r\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with traced_once():
        yield Workshop(root=tmp_path)
    for path in tmp_path.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)  # Read-only folders could not be cleared away.


@pytest.fixture
def idle(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - exports before this forbids it
    """Whatever is refused here must be refused before a graph is traced."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("this must be refused before the work")

    monkeypatch.setattr("model_release.model.export.trace.trace", work)


@pytest.fixture(scope="session")
def tool() -> Callable[[Callable[[], T]], T]:
    """Gets a program that a person's machine may lack: its tests are skipped then, and fail where CI is set."""

    def get(find: Callable[[], T]) -> T:
        try:
            return find()
        except MissingToolError as missing:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(missing))

    return get


@pytest.fixture
def browse_once(
    browser: "Browser", tool: Callable[[Callable[[], Path]], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Lets a browser judge a release on some backends, by default on the first; it must find it good."""
    tool(npm.install)
    monkeypatch.setattr(gate, "chromium", lambda: nullcontext(browser))
    backends = {backend.name: backend for backend in gate.BACKENDS}

    def run(release: Path, *names: str) -> Outcome:
        monkeypatch.setattr(gate, "BACKENDS", [backends[name] for name in names] or gate.BACKENDS[:1])
        outcome = call(cli.browse, release)
        assert outcome.code == 0, outcome.err
        return outcome

    return run


@pytest.fixture(scope="session")
def browser(tool: Callable[[Callable[[], "Browser"]], "Browser"]) -> Iterator["Browser"]:
    """Chromium, started once."""
    with ExitStack() as stack:
        yield tool(lambda: stack.enter_context(chromium()))
