"""Products in integers, which a browser takes partly on a processor, where queries, keys and values are products."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cli
from commands import call
from families import EVERY, family_folder
from model_release.browser import gate, npm

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.mark.parametrize("name", ["llama, tied", "opt"])
def test_sums_are_not_written_over_on_their_way_back(
    name: str,
    browser: "Browser",
    tool: Callable[[Callable[[], Path]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On WebGPU by the default import, whose answers were nonsense; see `int8._Lifts`."""
    tool(npm.install)
    monkeypatch.setattr(gate, "chromium", lambda: nullcontext(browser))
    folder = family_folder(tmp_path / "model", EVERY[name])
    of_model = ("--model-path", folder, "--all-layers", "--precision", "int8-dynamic")
    outcome = call(cli.build, "--tag", "model-v1.0.0", *of_model, "--output", tmp_path / "dist")
    assert outcome.code == 0, outcome.err
    (backend,) = [backend for backend in gate.BACKENDS if backend.name == "default import, webgpu"]
    gate.browse(tmp_path / "dist", backends=[backend]).require()
