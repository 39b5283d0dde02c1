"""Products in integers, which a browser takes partly on a processor, where queries, keys and values are products."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cli
from commands import call
from families import EVERY, family_folder

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.mark.parametrize("name", ["llama, tied", "opt"])
def test_sums_are_not_written_over_on_their_way_back(
    name: str, browse_once: Callable[..., None], tmp_path: Path
) -> None:
    """On WebGPU by the default import, whose answers were nonsense; see `int8._Lifts`."""
    folder = family_folder(tmp_path / "model", EVERY[name])
    of_model = ("--model-path", folder, "--all-layers", "--precision", "int8-dynamic")
    outcome = call(cli.build, "--tag", "model-v1.0.0", *of_model, "--output", tmp_path / "dist")
    assert outcome.code == 0, outcome.err
    browse_once(tmp_path / "dist", "default import, webgpu")
