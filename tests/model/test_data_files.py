"""Models past 2 GiB: data files beside the model file. The limit is lowered here; nothing else is."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from tokenizers import Tokenizer

import cli
from builders import gpt2_folder
from commands import assert_refused, call, traced_once
from dists import make_dist
from model_release.base.errors import ContractError, ExportError, UsageError
from model_release.browser import gate, npm
from model_release.browser.gate import BACKENDS, browse
from model_release.browser.pages.live import serve_release
from model_release.contract import manifest
from model_release.contract.manifest import is_data_file
from model_release.contract.request import SelectionRequest
from model_release.contract.transformers_js import delivered_names
from model_release.model.onnx_files import file
from model_release.model.onnx_files.data_files import data_files, model_bytes
from model_release.model.onnx_files.file import read_model, write_model
from model_release.model.pipeline import export_model, quantize_model
from model_release.model.verify.verification import verify_file
from model_release.model.weights.source import SourceRequest
from pages import choose_head, opened, outputs_for, run_text, shown_numbers, write_tokenizer

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIMIT_BYTES = 60_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of about 140 kB, in one file."""
    folder = gpt2_folder(tmp_path_factory.mktemp("weights"), hidden=32, layers=2)
    output = tmp_path_factory.mktemp("whole") / "model.onnx"
    export_model(SourceRequest(folder=folder), SelectionRequest(), output)
    return output


@pytest.fixture
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_FILE_BYTES", LIMIT_BYTES)
    monkeypatch.setattr(file, "_GRAPH_ROOM_BYTES", 35_000)
    monkeypatch.setattr(file, "_OUTSIDE_BYTES", 2048)


@pytest.fixture
def parted(whole: Path, tmp_path: Path, _low_limit: None) -> Path:
    """The same model, in files of at most `LIMIT_BYTES`."""
    write_model(read_model(whole), tmp_path / "model.onnx", error=ExportError)
    return tmp_path / "model.onnx"


def tensors(path: Path) -> dict[str, bytes]:
    """The values of a model, as the onnx package reads them."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


@pytest.mark.slow
def test_every_file_is_within_the_limit_and_none_is_left_over(parted: Path) -> None:
    files = sorted(parted.parent.iterdir())
    assert [file.name for file in files] == ["model.onnx", "model.onnx_data", "model.onnx_data_1"]
    assert all(file.stat().st_size <= LIMIT_BYTES for file in files)
    assert model_bytes(parted) == sum(file.stat().st_size for file in files)


def test_the_onnx_package_and_onnxruntime_read_the_same_model(parted: Path, whole: Path) -> None:
    assert tensors(parted) == tensors(whole)
    ids = {"input_ids": np.arange(10).reshape(2, 5)}
    ours, theirs = (onnxruntime.InferenceSession(path).run(None, ids) for path in (parted, whole))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_tensors_in_data_files_start_at_a_page(parted: Path) -> None:
    model = onnx.load(parted, load_external_data=False)
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in model.graph.initializer]
    offsets = [int(place["offset"]) for place in places if place]
    assert len(offsets) > 2
    assert [offset for offset in offsets if offset % 4096] == []


def test_equal_models_give_equal_files(parted: Path, whole: Path, tmp_path: Path) -> None:
    again = tmp_path / "again" / "model.onnx"
    write_model(read_model(whole), again, error=ExportError)
    for one, other in zip((parted, *data_files(parted)), (again, *data_files(again)), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_model_with_data_files_reads_back_into_one_file(
    parted: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_model(parted)
    monkeypatch.undo()
    write_model(model, parted.with_name("one.onnx"), error=ExportError)
    assert parted.with_name("one.onnx").read_bytes() == whole.read_bytes()


def test_it_is_quantized_and_verified_like_any_other(parted: Path) -> None:
    made = quantize_model(parted, ["fp16", "int8-dynamic"], parted.parent)
    assert [file.name for file in data_files(made[0])] == ["model_fp16.onnx_data"]
    for path in (parted, *made):
        assert list(map(str, verify_file(path).findings)) == []


def test_a_smaller_model_in_its_place_leaves_no_data_file_behind(
    parted: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    write_model(read_model(whole), parted, error=ExportError)
    assert [file.name for file in parted.parent.iterdir()] == ["model.onnx"]


def test_a_write_that_fails_leaves_the_model_that_was_there(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in parted.parent.iterdir()}
    monkeypatch.setattr(ir.LazyTensor, "tofile", _fail)
    with pytest.raises(ExportError, match="No space"):
        write_model(read_model(parted), parted, error=ExportError)
    assert {file.name: file.read_bytes() for file in parted.parent.iterdir()} == before


def _fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_missing_a_cut_and_a_stranger_s_data_file_are_refused(parted: Path) -> None:
    renamed = parted.with_name("other.onnx")
    renamed.write_bytes(parted.read_bytes())
    with pytest.raises(ContractError, match=r"points at another file, 'model\.onnx_data'"):
        read_model(renamed)
    first, second = data_files(parted)
    with second.open("rb+") as file:
        file.truncate(second.stat().st_size - 1)
    with pytest.raises(ContractError, match=r"model\.onnx_data_1 must be whole"):
        read_model(parted)
    first.unlink()
    with pytest.raises(ContractError, match=r"model\.onnx_data must hold .* No such file"):
        read_model(parted)


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.onnx_data_", "model.onnx_data_01", "../model.onnx_data", "model.onnx_data\n", ""]
)
def test_only_exact_names_are_data_files(name: str) -> None:
    assert not is_data_file(name, "model.onnx")


def test_the_app_gets_the_data_files_of_its_model_and_of_no_other(tmp_path: Path) -> None:
    names = ["model.onnx", "model.onnx_data", "model.onnx_data_1", "model_fp16.onnx", "model_fp16.onnx_data"]
    files = dict.fromkeys((*names, "config.json", "vocab.json"), b"content")
    document = manifest.read(make_dist(tmp_path / "dist", files=files))
    delivered = delivered_names(document, "model_fp16.onnx")
    assert delivered == ("model_fp16.onnx", "model_fp16.onnx_data", "vocab.json", "config.json")


@pytest.mark.slow
@pytest.mark.usefixtures("_low_limit")
def test_a_companion_of_several_files_is_refused(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "weights", hidden=32, layers=2)
    with traced_once():
        outcome = call(
            *(cli.build, "--model-path", folder, "--tag", "model-v1.0.0", "--companion", "--output", tmp_path / "dist")
        )
    assert_refused(outcome, UsageError.exit_code, ["--companion"])
    assert not (tmp_path / "dist").exists()


@pytest.mark.long
@pytest.mark.network
@pytest.mark.usefixtures("_low_limit")
def test_a_browser_loads_a_model_with_its_data_files(
    browser: "Browser", tool: Callable[[Callable[[], Path]], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(npm.install)
    monkeypatch.setattr(gate, "chromium", lambda: nullcontext(browser))
    weights = gpt2_folder(tmp_path / "weights", hidden=32, layers=2, vocab=256, positions=40)
    write_tokenizer(weights / "tokenizer.json")
    release = tmp_path / "release"
    with traced_once():
        made = call(
            cli.build, "--model-path", weights, "--tag", "model-v1.0.0", "--precision", "fp16", "--output", release
        )
    assert made.code == 0, made.err
    assert all(data_files(release / name) for name in ("model.onnx", "model_fp16.onnx"))
    result = browse(release, backends=BACKENDS[:1])
    assert [trial.verdict for trial in result.trials] == ["good"] * 2
    result.require()
    with serve_release(release) as url, opened(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        assert page.evaluate("document.getElementById('progress').value") == 1
        run_text(page, "The king", 8)
        ids = Tokenizer.from_file(str(release / "tokenizer.json")).encode("The king").ids
        expected = outputs_for(release, ids)
        choose_head(page, 1, 1)
        np.testing.assert_allclose(shown_numbers(page), expected["layer_1_attn_probs"][1], atol=6e-4, rtol=0)
