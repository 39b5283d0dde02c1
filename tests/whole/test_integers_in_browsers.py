"""Products in integers, which a browser takes partly on a processor, and the form of them that one import misreads."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cli
from commands import Outcome, call
from families import EVERY, family_folder
from model_release.contract.activations import load_contract

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.long]

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


def test_a_backend_that_the_contract_says_misreads_a_precision_counts_as_one_that_cannot_run_it(
    browse_once: Callable[..., Outcome], tmp_path: Path
) -> None:
    """QDQ on WebGPU. Once onnxruntime-web reads it, this fails, and what the contract says has to go."""
    dist = build(tmp_path, "gpt2", "int8-static")
    precision = load_contract().precision("int8-static")
    assert precision.misread_by == (JSEP,)
    told = browse_once(dist, "webgpu", JSEP).out
    assert [line for line in told.splitlines() if precision.advice in line] == [
        f"model_int8_static.onnx on {JSEP}: {precision.advice}"
    ]
