"""A release whose files take and return keys and values: built, described, judged by a browser, run by a page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_release.browser.pages.live import serve_release
from model_release.contract import manifest, measured
from pages import choose_head, opened, outputs_for, run_text, shown_numbers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_a_release_says_that_its_files_take_keys_and_values_and_was_judged_in_steps(cached: Path) -> None:
    assert manifest.read(cached).selection.cache
    assert all("STEP01" in model.clauses for model in measured.read(cached).models)
    assert "STEP01" in (cached / "report.html").read_text()


@pytest.mark.network
def test_a_browser_and_a_page_give_such_a_file_nothing_to_begin_with(
    cached: Path,
    browser: "Browser",
    browse_once: Callable[[Path], None],
) -> None:
    browse_once(cached)
    with serve_release(cached) as url, opened(browser, url, color_scheme="light") as page:
        page.wait_for_selector("#run:enabled")
        ids = Tokenizer.from_file(str(cached / "tokenizer.json")).encode("Some code").ids
        run_text(page, "Some code", len(ids))
        choose_head(page, 0, 1)
        expected = outputs_for(cached, ids)["layer_0_attn_probs"][1]
        np.testing.assert_allclose(shown_numbers(page), expected, atol=6e-4, rtol=0)
