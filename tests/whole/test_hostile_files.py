"""What stands in a file's place and is none: nothing waits for it, reads it whole or follows it for ever."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cli
from builders import gpt2_state, save_weights
from commands import Outcome, assert_refused, call
from node import run_node
from pages import write_tokenizer
from serving import Asked, Reply, Server, ranged
from small_release import CONTENTS, VERSION, release, sha256
from workroom import TAG, Workshop, at_most

CONTRACT, WEIGHTS, EXPORT, QUANTIZE, MANIFEST, HOST, ENV = 3, 5, 5, 6, 7, 8, 9
GIANT_BYTES = 50 << 30


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(GIANT_BYTES)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


NO_FILES = [pipe, endless_device, sparse_giant, link_to_itself, folder, unix_socket]


@pytest.fixture(params=NO_FILES, ids=[make.__name__ for make in NO_FILES])
def no_file(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts something that is no file in a file's place."""

    def put(name: str) -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        request.param(path)

    return put


@pytest.fixture(autouse=True)
def _bounded(workshop: Workshop) -> Iterator[None]:  # noqa: ARG001 - what is made before takes its own time
    with at_most(seconds=60, memory_bytes=2 << 30):
        yield


Put = Callable[[str], None]


def refused(workshop: Workshop, codes: int | tuple[int, ...], command: str, *options: object) -> None:
    """The command is refused in a sentence, and nothing is left behind."""
    before = names(workshop.root)
    outcome = call(getattr(cli, command), *options)
    assert outcome.code in (codes if isinstance(codes, tuple) else (codes,)), outcome.err
    assert_refused(outcome, int(str(outcome.code)))
    assert names(workshop.root) == before


def names(root: Path) -> list[str]:
    """Everything below a folder, but what is in it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_model_that_is_no_file_is_refused(workshop: Workshop, no_file: Put) -> None:
    no_file("odd.onnx")
    refused(workshop, CONTRACT, "verify", "--model", "odd.onnx")
    refused(workshop, QUANTIZE, "quantize", "--model", "odd.onnx", "--precision", "fp16", "--output-dir", "new")


def test_a_precision_in_whose_place_is_no_file_is_refused(workshop: Workshop, no_file: Put) -> None:
    no_file("out/model_fp16.onnx")
    if Path("out/model_fp16.onnx").is_file():
        return  # A file of any size may be replaced.
    refused(workshop, QUANTIZE, "quantize", "--model", "model.onnx", "--precision", "fp16", "--output-dir", "out")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_part_of_a_model_that_is_no_file_is_refused(workshop: Workshop, no_file: Put, name: str) -> None:
    no_file(f"model/{name}")
    options = ("--model-path", "model", "--host", "local:releases", "--no-env", "--tag", TAG)
    if name == "tokenizer.json" and not Path("model/tokenizer.json").is_file():
        return  # A model without a tokenizer is one.
    refused(workshop, WEIGHTS, "release", *options)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "model-00002-of-00002.safetensors"])
def test_a_part_of_sharded_weights_that_is_no_file_is_refused(workshop: Workshop, no_file: Put, name: str) -> None:
    Path("model/model.safetensors").unlink()
    save_weights(Path("model"), gpt2_state(json.loads(Path("model/config.json").read_text())), format="sharded")
    no_file(f"model/{name}")
    refused(workshop, WEIGHTS, "export", "--model-path", "model", "--output", "new/out.onnx")


def test_a_pickle_that_is_no_file_is_refused(workshop: Workshop, no_file: Put) -> None:
    Path("model/model.safetensors").unlink()
    no_file("model/pytorch_model.bin")
    refused(workshop, WEIGHTS, "export", "--model-path", "model", "--output", "new/out.onnx")


def test_a_text_or_a_tokenizer_that_is_no_file_is_refused(workshop: Workshop, no_file: Put) -> None:
    no_file("odd")
    write_tokenizer(Path("tokenizer.json"))
    options = ("--model", "model.onnx", "--precision", "small", "--output-dir", "new")
    refused(workshop, WEIGHTS, "quantize", *options, "--tokenizer", "odd")
    refused(workshop, WEIGHTS, "quantize", *options, "--calibration", "odd")


# -- releases

PUBLISH = ("--tag", "model-v1.2.0", "--host", "local:releases", "--no-env")
FETCH = ("--tag", "model-v1.2.0", "--env-file", "app/.env.production", "--from", "local:from")


@pytest.fixture
def dist(workshop: Workshop) -> Path:  # noqa: ARG001 - its working directory
    """A release folder in the working directory."""
    path = Path("from/model-v1.2.0")
    path.mkdir(parents=True)
    for name, content in release().items():
        (path / name).write_bytes(content)
    lines = release()["SHA256SUMS"].decode().splitlines(keepends=True)
    (path / "SHA256SUMS").write_text("".join(sorted(lines, key=lambda line: line.split()[1])))
    return path


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "browser.json", "model.onnx", "config.json"])
def test_a_release_in_which_is_no_file_is_not_published(
    workshop: Workshop, dist: Path, no_file: Put, name: str
) -> None:
    no_file(f"{dist}/{name}")
    refused(workshop, (MANIFEST, HOST), "publish", "--dist", dist, *PUBLISH)


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "model_fp16.onnx", "config.json"])
def test_a_release_in_which_is_no_file_is_not_fetched(workshop: Workshop, dist: Path, no_file: Put, name: str) -> None:
    no_file(f"{dist}/{name}")
    refused(workshop, (MANIFEST, HOST), "fetch", *FETCH)


def test_an_earlier_release_whose_manifest_is_no_file_does_not_hang_the_next(dist: Path, no_file: Put) -> None:
    no_file("releases/model-v1.1.0/manifest.json")
    outcome = call(cli.publish, "--dist", dist, *PUBLISH)
    assert outcome.code in (0, HOST), outcome.err


def test_a_tag_under_which_is_no_release_is_refused(workshop: Workshop, dist: Path, no_file: Put) -> None:
    no_file("releases/model-v1.2.0/model.onnx")
    refused(workshop, HOST, "publish", "--dist", dist, *PUBLISH)


def partial(name: str) -> str:
    return f"app/static/models/gpt2/.{name}.{sha256(CONTENTS[name])[:16]}.partial"


def test_a_partial_file_that_is_none_is_begun_anew(workshop: Workshop, dist: Path, no_file: Put) -> None:  # noqa: ARG001
    no_file(partial("config.json"))
    outcome = call(cli.fetch, *FETCH)
    if Path(partial("config.json")).is_dir():
        assert_refused(outcome, EXPORT, ["Is a directory"])
        return
    assert outcome.code == 0, outcome.err
    assert Path("app/static/models/gpt2/config.json").read_bytes() == CONTENTS["config.json"]


@pytest.mark.usefixtures("dist")
def test_a_link_in_a_partial_files_place_is_not_written_through(workshop: Workshop) -> None:
    (workshop.root / "precious").write_bytes(b"")
    Path(partial("config.json")).parent.mkdir(parents=True)
    Path(partial("config.json")).symlink_to(workshop.root / "precious")
    assert call(cli.fetch, *FETCH).code == 0
    assert (workshop.root / "precious").read_bytes() == b""


@pytest.mark.usefixtures("dist")
@pytest.mark.parametrize("name", ["manifest.json", "config.json", "model_fp16.onnx"])
def test_no_file_in_the_apps_folder_is_replaced_or_refused(no_file: Put, name: str) -> None:
    no_file(f"app/static/models/gpt2/{name}")
    outcome = call(cli.fetch, *FETCH)
    assert outcome.code in (0, EXPORT, MANIFEST), outcome.err
    if outcome.code != 0:
        assert_refused(outcome, int(str(outcome.code)))


# -- env files


@pytest.mark.usefixtures("dist")
def test_an_env_file_that_is_none_is_refused_before_anything_is_fetched(workshop: Workshop, no_file: Put) -> None:
    no_file("app/.env.production")
    refused(workshop, ENV, "fetch", *FETCH)
    refused(workshop, ENV, "release", *workshop.release("--env-file", "app/.env.production"))


@pytest.mark.usefixtures("dist")
def test_a_local_env_file_that_is_none_is_refused_before_anything_is_fetched(workshop: Workshop, no_file: Put) -> None:
    no_file("app/.env.production.local")
    refused(workshop, ENV, "fetch", *FETCH)


@pytest.mark.usefixtures("dist")
@pytest.mark.parametrize("name", ["app/.env.production", ".github/workflows/deploy.yml"])
def test_what_lies_around_an_env_file_is_looked_at_with_care(no_file: Put, name: str) -> None:
    no_file(name)
    outcome = call(cli.fetch, *FETCH[:2], "--env-file", "app/.env", *FETCH[4:])
    assert outcome.code == 0, outcome.err


@pytest.mark.usefixtures("dist")
@pytest.mark.parametrize("text", ["VITE_MODEL_URL=a\nVITE_MODEL_URL=b\n", "VITE_MODEL_VERSION=\n'1'\n"])
def test_a_local_env_file_that_cannot_be_edited_is_refused_before_anything_is_fetched(
    workshop: Workshop, text: str
) -> None:
    Path("app/.env.production.local").write_text(text)
    refused(workshop, ENV, "fetch", *FETCH)


@pytest.mark.usefixtures("dist")
def test_a_static_folder_with_a_name_too_long_is_refused(workshop: Workshop) -> None:
    refused(workshop, EXPORT, "fetch", *FETCH, "--static-dir", "x" * 300)


# -- fetch.mjs


def fetch_mjs() -> Outcome:
    return run_node(Path.cwd(), ["--env-file", "app/.env.production"], os.environ, 5.0)


ADDRESS = "http://127.0.0.1:9/model-v1.2.0/model_fp16.onnx"


@pytest.mark.usefixtures("workshop")
@pytest.mark.parametrize("name", [".env.production", ".env.production.local"])
def test_the_build_of_an_app_refuses_an_env_file_that_is_none(no_file: Put, name: str) -> None:
    Path("app/.env.production").write_text(f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={ADDRESS}?v={VERSION}\n")
    no_file(f"app/{name}")
    assert_refused(fetch_mjs(), ENV, ["must be a readable file"])


@pytest.mark.usefixtures("workshop")
def test_the_build_of_an_app_refuses_a_tree_whose_manifest_is_none(no_file: Put) -> None:
    path = f"models/gpt2/model_fp16.onnx?v={VERSION}"
    Path("app/.env.production").write_text(f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={path}\n")
    no_file("app/static/models/gpt2/manifest.json")
    assert_refused(fetch_mjs(), MANIFEST, ["manifest.json must be in the app's tree"])


@pytest.mark.network
def test_the_build_of_an_app_begins_a_partial_file_that_is_none_anew(dist: Path, no_file: Put) -> None:
    files = {name: (dist / name).read_bytes() for name in release()}

    def reply(asked: Asked) -> Reply:
        return ranged(asked, files[asked.path.partition("?")[0].rpartition("/")[2]])

    no_file(partial("config.json"))
    with Server(reply) as server:
        url = f"{server.url}/model-v1.2.0/model_fp16.onnx"
        Path("app/.env.production").write_text(f"VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL={url}?v={VERSION}\n")
        outcome = fetch_mjs()
    if Path(partial("config.json")).is_dir():
        assert_refused(outcome, EXPORT, ["must be writable"])
        return
    assert outcome.code == 0, outcome.err
    assert Path("app/static/models/gpt2/config.json").read_bytes() == CONTENTS["config.json"]


# -- what a failed fetch leaves


@pytest.mark.parametrize("missing", ["model_fp16.onnx", "vocab.json", "merges.txt"])
def test_a_final_no_leaves_no_file_and_no_folder(workshop: Workshop, dist: Path, missing: str) -> None:
    (dist / missing).unlink()
    refused(workshop, HOST, "fetch", *FETCH)


@pytest.mark.parametrize("wrong", ["model_fp16.onnx", "vocab.json", "merges.txt"])
def test_wrong_bytes_leave_no_file_and_no_folder(workshop: Workshop, dist: Path, wrong: str) -> None:
    content = (dist / wrong).read_bytes()
    (dist / wrong).write_bytes(bytes(len(content)))
    before = names(workshop.root)
    outcome = call(cli.fetch, *FETCH)
    assert (outcome.code, "Traceback" in outcome.err) == (MANIFEST, False), outcome.err
    assert names(workshop.root) == before


def test_folders_that_were_there_stay(workshop: Workshop, dist: Path) -> None:
    Path("app/static/models/gpt2").mkdir(parents=True)
    (dist / "vocab.json").unlink()
    refused(workshop, HOST, "fetch", *FETCH)
