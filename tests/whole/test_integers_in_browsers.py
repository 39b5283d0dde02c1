"""Products in integers, which a browser takes partly on a processor, and the form of them that one import misreads."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cli
from commands import Outcome, assert_refused, call
from families import EVERY, family_folder
from model_release.contract.activations import load_contract

pytestmark = [pytest.mark.network, pytest.mark.slow]

JSEP = "default import, webgpu"


def build(folder: Path, name: str, precision: str) -> Path:
    """A release of a tiny model that shows all its layers."""
    of_model = ("--model-path", family_folder(folder / "model", EVERY[name]), "--all-layers", "--precision", precision)
    outcome = call(cli.build, "--tag", "model-v1.0.0", *of_model, "--output", folder / "dist")
    assert outcome.code == 0, outcome.err
    return folder / "dist"


@pytest.mark.parametrize("name", ["llama, tied", "opt"])
def test_sums_are_not_written_over_on_their_way_back(
    name: str, browse_once: Callable[..., Outcome], tmp_path: Path
) -> None:
    """On WebGPU by the default import, whose answers were nonsense; see `int8._Lifts`."""
    browse_once(build(tmp_path, name, "int8-dynamic"), JSEP)


def test_what_the_default_import_misreads_is_refused_with_the_way_out(
    browse_once: Callable[..., Outcome], tmp_path: Path
) -> None:
    """QDQ on WebGPU. Once onnxruntime-web reads it, this fails, and the contract's advice has to go."""
    dist = build(tmp_path, "gpt2", "int8-static")
    browse_once(dist, "webgpu")
    advice = load_contract().precision("int8-static").advice
    says = (f"1 of 2 runs do not; the first: model_int8_static.onnx on {JSEP}: NUM01", advice)
    assert_refused(browse_once(dist, JSEP, code=4), 4, says, silent=False)
