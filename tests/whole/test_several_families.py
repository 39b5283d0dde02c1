"""One release of several families: GPT-2 with plain file names, a llama with grouped heads beside it."""

import shutil
from pathlib import Path

import onnx
import pytest

import cli
from builders import gpt2_folder
from commands import call
from families import FIRST_WAVE, family_folder
from model_release.contract import manifest
from model_release.contract.dist import check_dist
from model_release.contract.metadata import metadata_of
from model_release.contract.tag import parse_tag
from model_release.hosts.local import LocalHost

pytestmark = pytest.mark.slow
TAG = "model-v1.0.0"


def family_of(model: Path) -> str:
    """The family that a file's own metadata names."""
    props = {prop.key: prop.value for prop in onnx.load(model).metadata_props}
    return metadata_of(model.name, props).blueprint.family


@pytest.mark.long
def test_a_release_holds_gpt2_and_a_llama_and_each_file_says_what_it_is(tmp_path: Path) -> None:
    models = {
        "small": gpt2_folder(tmp_path / "small"),
        "herd": family_folder(tmp_path / "herd", FIRST_WAVE["llama, llama3 rope"]),
    }
    dist = tmp_path / "dist"
    for name, folder in models.items():
        part = tmp_path / f"part-{name}"
        beside = [] if name == "small" else ["--companion"]
        of_model = ("--model-path", folder, "--layers", "0-1", "--precision", "fp16", *beside)
        outcome = call(cli.build, "--tag", TAG, *of_model, "--output", part)
        assert outcome.code == 0, outcome.err
        shutil.copytree(part, dist, dirs_exist_ok=True)  # As artifacts of a matrix are merged.

    whole = check_dist(dist, parse_tag(TAG))
    (companion,) = whole.companions
    assert (whole.document.name, companion.name) == ("small", "herd")
    assert whole.document.delivery.file == "model_fp16.onnx", "the app gets the first model"
    families = {name: family_of(dist / name) for name in ("model_fp16.onnx", "herd-model_fp16.onnx")}
    assert families == {"model_fp16.onnx": "gpt2", "herd-model_fp16.onnx": "llama"}

    place = tmp_path / "releases"
    publish = ("--dist", dist, "--tag", TAG, "--host", f"local:{place}", "--no-env")
    outcome = call(cli.publish, *publish)
    assert outcome.code == 0, outcome.err
    state = LocalHost(place).state(TAG)
    assert state is not None
    assert state.published
    released = {file.name for file in state.files}
    own = [*manifest.part_names(""), *manifest.part_names("herd-")]
    assert released == {*whole.document.names, *companion.names, *own}
    assert "herd-report.html" in released
    assert call(cli.publish, *publish).code == 0, "a second run keeps it"
