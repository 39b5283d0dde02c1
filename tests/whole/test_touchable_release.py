"""A release whose heads can be switched off: built, described, judged by a browser, run by a page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_release.browser.pages.live import serve_release
from model_release.contract import manifest, measured
from model_release.model.onnx_files.session import Session
from pages import HEADS, LAYERS, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

TEXT = "Some code"

RUN_WITHOUT = """
async ([file, text, off]) => {
  const { manifest, tokenizer } = await loadRelease();
  const reading = new Reading(await loadModel(file, manifest, () => {}), off);
  await reading.read(tokenizer.encode(text, { add_special_tokens: false }).ids);
  return Array.from(reading.sample(tokenizer, reading).tensors.layer_1_mlp_output.values);
}
"""


def test_a_release_says_that_its_files_can_be_touched_and_was_judged_by_that(touchable: Path) -> None:
    assert manifest.read(touchable).selection.interventions
    for clause in ("TOUCH01", "GAIN01", "STEER01"):
        assert all(clause in model.clauses for model in measured.read(touchable).models)
        assert clause in (touchable / "report.html").read_text()


@pytest.mark.network
def test_a_browser_touches_nothing_and_a_page_switches_heads_off(
    touchable: Path,
    browser: "Browser",
    browse_once: Callable[[Path], None],
) -> None:
    browse_once(touchable)
    ids = np.array([Tokenizer.from_file(str(touchable / "tokenizer.json")).encode(TEXT).ids])
    gain = np.ones((LAYERS, HEADS), np.float32)
    with serve_release(touchable) as url, opened(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        for off in ([], [{"layer": 0, "head": 1}]):
            for head in off:
                gain[head["layer"], head["head"]] = 0
            got = page.evaluate(RUN_WITHOUT, ["model.onnx", TEXT, off])
            expected = Session(touchable / "model.onnx").run(ids, ["layer_1_mlp_output"], touch={"head_gain": gain})
            np.testing.assert_allclose(got, expected["layer_1_mlp_output"].reshape(-1), atol=1e-4, rtol=1e-4)
