"""try.html: a release that runs in the browser it is shown in."""

import contextlib
import re
import shutil
import signal
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import Tokenizer

import cli
from commands import assert_refused, call, start
from model_release.browser import npm
from model_release.browser.pages.live import serve_release
from model_release.contract import manifest
from pages import choose_head, number, opened, outputs_for, shown_numbers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def packages(tool: Callable[[Callable[[], Path]], Path]) -> Path:
    return tool(npm.install)


def live(browser: "Browser", url: str) -> contextlib.AbstractContextManager["Page"]:
    return opened(browser, url, color_scheme="light")


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_live_page_runs_the_released_model_on_any_text(browser: "Browser", released: Path) -> None:
    text = "Ünï 🙂 code"
    with serve_release(released) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        page.fill("#text", text)
        page.click("#run")
        ids = Tokenizer.from_file(str(released / "tokenizer.json")).encode(text).ids
        page.wait_for_selector(f"#tokens label:nth-child({len(ids)}):last-child")
        expected = outputs_for(released, ids)
        choose_head(page, 0, 1)
        np.testing.assert_allclose(shown_numbers(page), expected["layer_0_attn_probs"][1], atol=6e-4, rtol=0)
        scores = expected["logits"][-1].astype(np.float64)
        best = 100 * np.exp(scores).max() / np.exp(scores).sum()
        assert number(page.locator("#next .number").first.inner_text().removesuffix(" %")) == pytest.approx(
            best, abs=0.1
        )
        assert page.evaluate("document.getElementById('progress').value") == 1


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_live_page_changes_the_precision_and_refuses_a_text_that_is_too_long(
    browser: "Browser", released: Path
) -> None:
    with serve_release(released) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        page.select_option("#precision", "model.onnx")
        page.get_by_text(re.compile("^model.onnx: ")).wait_for()
        page.fill("#text", "a" * 41)
        page.click("#run")
        page.wait_for_selector("#error:visible")
        assert page.inner_text("#error") == "The text must have 1 to 40 tokens, it has 41. Shorten it."
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_live_page_refuses_a_model_that_is_not_the_manifests(
    browser: "Browser", released: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(released, tmp_path / "broken")
    model = broken / manifest.parse((broken / "manifest.json").read_bytes()).delivery.file
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with serve_release(broken) as url, live(browser, url) as page:
        page.wait_for_selector("#error:visible")
        assert f"{model.name} must be the file of the manifest, its sha256 is" in page.inner_text("#error")
        assert page.locator("#views:visible").count() == 0


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_live_page_of_a_release_without_a_tokenizer_says_so_and_offers_nothing(
    browser: "Browser", released: Path, tmp_path: Path
) -> None:
    silent = shutil.copytree(released, tmp_path / "silent")
    document = manifest.read(silent)
    wordless = replace(document, files=tuple(entry for entry in document.files if entry.name != "tokenizer.json"))
    (silent / manifest.MANIFEST_NAME).write_bytes(manifest.render(wordless))
    with serve_release(silent) as url, live(browser, url) as page:
        page.wait_for_selector("#error:visible")
        assert page.inner_text("#error").startswith("The release must hold tokenizer.json to read text, it has none.")
        assert page.locator("#ask :enabled").all_inner_texts() == [""], "only the text can be changed"


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_serving_says_where_the_page_is_and_ends_with_ctrl_c(released: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with start("release.py", "serve", released, "--port", 0, cwd=tmp_path) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url.endswith("/try.html")
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, as the command said
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert b"<h1>" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()  # Nobody waits for ever for one that did not end.


def test_serving_needs_a_release(tmp_path: Path) -> None:
    assert_refused(call(cli.release, "serve", tmp_path), 7, ["manifest.json"])
    assert_refused(call(cli.release, "--tag", "model-v1.0.0", "serve", tmp_path), 2, ["--tag"])
