"""try.html: a release that runs in the browser it is shown in."""

import contextlib
import json
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
import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

import cli
from commands import assert_refused, call, start
from model_release.browser import npm
from model_release.browser.pages.live import serve_release
from model_release.contract import manifest
from model_release.contract.measures import Array, softmax
from model_release.model.onnx_files.session import Session
from model_release.model.weights.source import DEMO_FOLDER
from pages import HEADS, LAYERS, choose_head, facts_of, number, opened, outputs_for, run_text, shown_numbers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route


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
        ids = Tokenizer.from_file(str(released / "tokenizer.json")).encode(text).ids
        run_text(page, text, len(ids))
        characters = page.locator("#tokens span").evaluate_all("spans => spans.map(span => span.firstChild.data ?? '')")
        assert "".join(characters) == text.replace(" ", "·"), "bytes stand under their characters"
        expected = outputs_for(released, ids)
        choose_head(page, 0, 1)
        np.testing.assert_allclose(shown_numbers(page), expected["layer_0_attn_probs"][1], atol=6e-4, rtol=0)
        scores = expected["logits"][-1].astype(np.float64)
        best = 100 * np.exp(scores).max() / np.exp(scores).sum()
        assert number(page.locator("#next .number").first.inner_text().removesuffix(" %")) == pytest.approx(
            best, abs=0.1
        )
        assert page.evaluate("document.getElementById('progress').value") == 1


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, released with a cache."""
    out = tmp_path_factory.mktemp("speaking")
    arguments = ("--demo", "--cache", "--precision", "fp16", "--no-env", "--host", f"local:{out}")
    outcome = call(cli.release, "--tag", "model-v1.0.0", *arguments)
    assert outcome.code == 0, outcome.err
    return out / "model-v1.0.0"


def write(page: "Page", *, tokens: int, **settings: float) -> list[int]:
    """Lets the page write on; returns the ids of all the text."""
    for name, value in settings.items():
        page.fill(f"#{name.replace('_', '-')}", str(value))
    page.fill("#count", str(tokens))
    page.click("#write")
    page.wait_for_selector("#write:enabled")
    return shown_ids(page)


def shown_ids(page: "Page") -> list[int]:
    titles = page.locator("#tokens label").evaluate_all("labels => labels.map(label => label.title)")
    return [int(re.findall(r"id (\d+)", title)[0]) for title in titles]


@pytest.mark.long_cases("cached")
@pytest.mark.network
@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("kind", ["released", "cached"])
def test_what_the_live_page_writes_is_what_the_model_finds_most_likely(
    browser: "Browser", request: pytest.FixtureRequest, kind: str
) -> None:
    release: Path = request.getfixturevalue(kind)
    with serve_release(release) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        assert page.locator("#no-cache:visible").count() == (kind == "released")
        page.fill("#text", "Ünï 🙂")
        ids = write(page, tokens=7, temperature=0)
        assert len(ids) == 10 + 7
        expected = outputs_for(release, ids)
        assert [int(row.argmax()) for row in expected["logits"][9:-1]] == ids[10:]
        for layer in range(LAYERS):
            choose_head(page, layer, 1)
            np.testing.assert_allclose(shown_numbers(page), expected[f"layer_{layer}_attn_probs"][1], atol=6e-4, rtol=0)
        assert re.search(r"Wrote 7 tokens: [\d.]+ ms each in the model", page.inner_text("#status"))
        page.click("#step")
        page.wait_for_selector("#step:enabled")
        assert shown_ids(page) == [*ids, int(expected["logits"][-1].argmax())]


@pytest.mark.long
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_the_live_page_writes_the_same_text_as_pytorch(browser: "Browser", speaking: Path) -> None:
    tokenizer, text = Tokenizer.from_file(str(speaking / "tokenizer.json")), "And God said, Let there be"
    ids = tokenizer.encode(text).ids
    model = GPT2LMHeadModel.from_pretrained(DEMO_FOLDER)
    written = list(ids)
    for _ in range(40):
        written.append(int(model(torch.tensor([written])).logits[0, -1].argmax()))
    with serve_release(speaking) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        page.select_option("#precision", "model.onnx")
        page.get_by_text(re.compile("^model.onnx: ")).wait_for()
        page.fill("#text", text)
        assert write(page, tokens=40, temperature=0) == written
        assert page.input_value("#text") == tokenizer.decode(written)


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_a_seed_writes_the_same_text_in_steps_and_in_one_go(browser: "Browser", cached: Path) -> None:
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")

        def writing(seed: int, *parts: int) -> list[int]:
            page.fill("#text", "abc")
            return [write(page, tokens=tokens, temperature=3, top_k=0, seed=seed) for tokens in parts][-1]

        once = writing(5, 12)
        assert writing(5, 1, 4, 7) == once
        assert writing(6, 12) != once


@pytest.mark.long
@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_writing_ends_with_the_context_and_with_a_token_that_ends_a_text(
    browser: "Browser", cached: Path, tmp_path: Path
) -> None:
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        page.fill("#text", "a" * 35)
        ids = write(page, tokens=20, temperature=0)
        assert len(ids) == 40
        assert page.inner_text("#status").endswith("The text must have at most 40 tokens, and has as many. Shorten it.")
        page.fill("#text", "a" * 35)
        write(page, tokens=2)
        page.locator("#next button").first.click()
        page.wait_for_selector("#tokens label:nth-child(38):last-child")
        assert shown_ids(page) == ids[:38]
        page.locator("#tokens label").nth(4).click()
        page.locator("#next button").nth(2).click()
        page.wait_for_selector("#tokens label:nth-child(6):last-child")
        assert page.input_value("#text").startswith("aaaaa")
    ending = shutil.copytree(cached, tmp_path / "ending")
    document = manifest.read(ending)
    config = json.loads((ending / "config.json").read_bytes()) | {"eos_token_id": [ids[37]]}
    (ending / "config.json").write_text(json.dumps(config))
    assert "config.json" in {entry.name for entry in document.files}
    with serve_release(ending) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        page.fill("#text", "a" * 35)
        kept = write(page, tokens=20, temperature=0)
        assert kept == ids[: ids.index(ids[37], 35)]
        assert "The model ends the text here, with" in page.inner_text("#status")


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_stop_button_and_escape_stop_the_writing(browser: "Browser", cached: Path) -> None:
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        for stop in ("document.getElementById('stop').click()", "document.body.dispatchEvent(ESCAPE)"):
            page.fill("#text", "ab")
            page.fill("#count", "30")
            script = stop.replace("ESCAPE", "new KeyboardEvent('keydown', {key: 'Escape', bubbles: true})")
            page.evaluate(
                f"""() => new MutationObserver((_, observer) => {{
                    if (document.querySelectorAll("#tokens label").length === 7) {{ observer.disconnect(); {script}; }}
                }}).observe(document.getElementById("tokens"), {{ childList: true }})"""
            )
            page.click("#write")
            page.wait_for_selector("#write:enabled")
            assert len(shown_ids(page)) == 7


def wait_for_progress(page: "Page", share: float) -> None:
    page.evaluate(
        """share => new Promise((resolve) => {
            const bar = document.getElementById("progress");
            const look = () => Math.abs(bar.value - share) < 1e-6 ? resolve() : setTimeout(look, 20);
            look();
        })""",
        share,
    )


def shown_shares(page: "Page") -> list[tuple[float, float]]:
    """The bars of the next token, before and after heads were switched off."""
    rows = page.locator("#next .number").all_inner_texts()
    return [(float(before), float(after)) for before, after in (re.findall(r"[\d.]+(?= %)", row) for row in rows)]


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_a_head_that_is_switched_off_changes_what_comes_next_and_both_stand_side_by_side(
    browser: "Browser", touchable: Path
) -> None:
    session = Session(touchable / manifest.read(touchable).delivery.file)
    gains = np.ones((LAYERS, HEADS), dtype=np.float32)
    gains[0, 1] = 0

    def shares(ids: list[int], gains: Array) -> Array:
        scores = session.run(np.array([ids]), ["logits"], touch={"head_gain": gains})["logits"]
        return 100 * softmax(scores[0].astype(np.float64))

    with serve_release(touchable) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        run_text(page, "abcdefgh", 8)
        choose_head(page, 0, 1)
        page.locator("#tokens label").nth(5).click()
        page.click("#switch-head")
        page.wait_for_selector(".compared")
        page.wait_for_selector("#run:enabled")
        ids = shown_ids(page)
        before, after = shares(ids, np.ones_like(gains)), shares(ids, gains)
        assert page.locator("#tokens input").nth(5).is_checked(), "the same text keeps its chosen token"
        most = np.sort(np.maximum(before[5], after[5]))[::-1][:10]
        np.testing.assert_allclose([max(pair) for pair in shown_shares(page)], most, atol=0.06)
        ids = write(page, tokens=4, temperature=0)
        off, on = shares(ids, gains), shares(ids, np.ones_like(gains))
        assert [int(row.argmax()) for row in off[7:-1]] == ids[8:], "the text goes on without the head"
        best = max(shown_shares(page), key=lambda pair: pair[1])
        assert best == pytest.approx((on[-1][off[-1].argmax()], off[-1].max()), abs=0.06)
        assert "Off: layer 0 head 1" in page.inner_text("#switch-hint")
        page.click("#all-on")
        page.wait_for_selector("#next:not(.compared)")
        page.wait_for_selector("#run:enabled")
        assert page.locator("#all-on:visible").count() == 0
        assert number(page.locator("#next .number").first.inner_text().removesuffix(" %")) == pytest.approx(
            on[-1].max(), abs=0.06
        )


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_a_file_without_gains_says_how_to_get_them(browser: "Browser", cached: Path) -> None:
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        run_text(page, "abc", 3)
        assert "--interventions" in page.inner_text("#switch-hint")
        assert page.locator("#switch-head:visible, #all-on:visible").count() == 0


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.usefixtures("packages")
def test_a_prompt_to_try_runs_and_opens_the_head_it_was_chosen_for(browser: "Browser", speaking: Path) -> None:
    facts = facts_of((speaking / "report.html").read_bytes())
    offered = [one for one in facts["tries"] if "sample" in one]
    assert offered
    with serve_release(speaking) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        assert page.locator("#heads input").nth(facts["telling"]["head"]).is_checked(), "the report's head comes first"
        for index, one in enumerate(offered):
            page.locator("#tries button").nth(index).click()
            page.wait_for_selector("#run:enabled")
            telling = one["sample"]["telling"]
            assert page.input_value("#text") == one["text"]
            assert shown_ids(page) == [token["id"] for token in one["sample"]["tokens"]]
            assert page.input_value("#layer") == str(telling["layer"])
            assert page.locator("#heads input").nth(telling["head"]).is_checked()


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_the_runtime_comes_beside_the_model_and_counts_in_the_bar(browser: "Browser", cached: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in (npm.BROWSER / "node_modules/onnxruntime-web/dist").iterdir()}
    model = manifest.read(cached).delivery
    runtime = sizes["ort-wasm-simd-threaded.wasm"]
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        held: list[Route] = []
        page.route(f"**/{model.file}", lambda route: held.append(route))
        page.reload()
        share = runtime / (runtime + model.size_bytes)
        # The whole runtime is here, and of the model nothing.
        wait_for_progress(page, share)
        held[0].continue_()
        wait_for_progress(page, 1)
        page.wait_for_selector("#run:enabled")


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_pictures_of_another_text_are_marked_until_ctrl_enter_runs_this_one(browser: "Browser", cached: Path) -> None:
    with serve_release(cached) as url, live(browser, url) as page:
        page.wait_for_selector("#run:enabled")
        run_text(page, "ab", 2)
        page.wait_for_selector("#run:enabled")
        assert page.locator("#stale:visible").count() == 0
        page.fill("#text", "abc")
        assert page.locator("#stale:visible").count() == 1
        page.press("#text", "Control+Enter")
        page.wait_for_selector("#tokens label:nth-child(3):last-child")
        page.wait_for_selector("#run:enabled")
        assert page.locator("#stale:visible").count() == 0
        page.press("#text", "d")
        assert page.locator("#stale:visible").count() == 1
        page.press("#text", "Backspace")
        assert page.locator("#stale:visible").count() == 0, "it is the same text again"
        page.fill("#text", "a" * 41)
        page.press("#text", "Control+Enter")
        page.wait_for_selector("#error:visible")
        assert page.locator("#stale:visible").count() == 1


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
        assert page.inner_text("#run") == "Try again"
        shutil.copy(released / model.name, model)
        page.fill("#text", "abc")
        page.click("#run")
        page.wait_for_selector("#views:visible")
        assert (page.inner_text("#run"), page.locator("#error:visible").count()) == ("Run", 0)


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
        page.wait_for_selector("#run:enabled")
        buttons = page.locator("#ask button:enabled, #ask select:enabled").all_inner_texts()
        assert buttons == ["Try again"], "nothing can be run"
        (silent / manifest.MANIFEST_NAME).write_bytes(manifest.render(document))
        page.fill("#text", "abc")
        page.click("#run")
        page.wait_for_selector("#views:visible")


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_serving_says_where_the_page_is_and_ends_with_ctrl_c(released: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with start("release.py", "serve", released, "--port", 0, cwd=tmp_path) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url.endswith("/try.html")
            origin = url.removesuffix("try.html")
            with urllib.request.urlopen(origin, timeout=10) as answer:  # noqa: S310 - http, as the command said
                assert answer.url == url
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert b"<h1>" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()  # Nobody waits for ever for one that did not end.


def test_serving_needs_a_release(tmp_path: Path) -> None:
    assert_refused(call(cli.release, "serve", tmp_path), 7, ["manifest.json"])
    assert_refused(call(cli.release, "--tag", "model-v1.0.0", "serve", tmp_path), 2, ["--tag"])
