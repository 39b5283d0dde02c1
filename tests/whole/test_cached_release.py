"""A release whose files take and return keys and values: built, described, judged by a browser, run by a page."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import cli
from commands import call
from model_release.browser import gate, npm
from model_release.browser.pages.live import serve_release
from model_release.contract import manifest, measured
from pages import choose_head, opened, outputs_for, shown_numbers

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
    tool: Callable[[Callable[[], Any]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool(npm.install)
    monkeypatch.setattr(gate, "chromium", lambda: contextlib.nullcontext(browser))
    monkeypatch.setattr(gate, "BACKENDS", gate.BACKENDS[:1])
    outcome = call(cli.browse, cached)
    assert outcome.code == 0, outcome.err
    with serve_release(cached) as url, opened(browser, url, color_scheme="light") as page:
        page.wait_for_selector("#run:enabled")
        page.fill("#text", "Some code")
        page.click("#run")
        ids = Tokenizer.from_file(str(cached / "tokenizer.json")).encode("Some code").ids
        page.wait_for_selector(f"#tokens label:nth-child({len(ids)}):last-child")
        choose_head(page, 0, 1)
        expected = outputs_for(cached, ids)["layer_0_attn_probs"][1]
        np.testing.assert_allclose(shown_numbers(page), expected, atol=6e-4, rtol=0)
