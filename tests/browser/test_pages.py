"""report.html in a browser: its pictures and its numbers agree, by mouse, by keys, on any screen and on paper."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from model_release.browser.pages.sample import take_sample
from model_release.contract.activations import parse_activations
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.selection import Selection
from model_release.model.weights.folder import load_folder
from pages import (
    HEADS,
    HOSTILE,
    LAYERS,
    choose_head,
    facts_of,
    hostile_report,
    number,
    opened,
    report_of,
    sample_of,
    shown_numbers,
    unpacked,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def report(browser: "Browser", released: Path) -> "Iterator[Page]":
    with opened(browser, (released / "report.html").as_uri(), color_scheme="light") as page:
        yield page


def test_the_report_shows_the_attention_of_every_layer_and_head(report: "Page", released: Path) -> None:
    facts = facts_of((released / "report.html").read_bytes())
    for layer in range(LAYERS):
        expected = unpacked(facts["tensors"][f"layer_{layer}_attn_probs"])
        for head in range(HEADS):
            choose_head(report, layer, head)
            np.testing.assert_allclose(shown_numbers(report), expected[head], atol=5e-4, rtol=0)


def map_places(page: "Page") -> Callable[[int, int], tuple[float, float]]:
    """Row and column of the heat map -> pixels on its canvas; tokens name rows on the left and columns above."""
    box = page.locator("#map").bounding_box()
    assert box
    width = (box["width"] - 96) / page.locator("#tokens label").count()
    height = min(22.0, max(12.0, width))
    return lambda row, column: (96 + (column + 0.5) * width, 72 + (row + 0.5) * height)


def test_hovering_shows_a_cells_value_and_a_later_token_is_out_of_sight(report: "Page", released: Path) -> None:
    expected = unpacked(facts_of((released / "report.html").read_bytes())["tensors"]["layer_1_attn_probs"])
    choose_head(report, 1, 1)
    place = map_places(report)
    for row, column in ((0, 0), (9, 3), (27, 26)):
        x, y = place(row, column)
        report.hover("#map", position={"x": x, "y": y})
        said = report.inner_text("#map-value")
        assert report.inner_text(".tip") == said, "it stands beside the pointer, too"
        assert f"(row {row}, column {column})" in said
        found = re.search(r": ([0-9.e−]+) \(", said)
        assert found
        assert number(found[1]) == pytest.approx(expected[1, row, column], abs=5e-4)
    x, y = place(3, 9)
    report.hover("#map", position={"x": x, "y": y})
    assert "comes later" in report.inner_text("#map-value")


def test_a_larger_probability_is_darker_on_paper_and_lighter_in_the_dark(report: "Page", released: Path) -> None:
    expected = unpacked(facts_of((released / "report.html").read_bytes())["tensors"]["layer_0_attn_probs"])[0]
    choose_head(report, 0, 0)
    place = map_places(report)
    cells = [(row, column) for row in range(len(expected) - 1) for column in range(row + 1)]
    values = np.array([expected[cell] for cell in cells])
    for theme in (-1, 1):
        pixels = report.evaluate(
            """points => {
                const map = document.getElementById("map");
                const copy = new OffscreenCanvas(map.width, map.height).getContext("2d");
                copy.drawImage(map, 0, 0);
                const { data } = copy.getImageData(0, 0, map.width, map.height);
                const at = ([x, y]) => 4 * (Math.floor(y) * map.width + Math.floor(x));
                return points.map((point) => Array.from(data.slice(at(point), at(point) + 3)));
            }""",
            [place(*cell) for cell in cells],
        )
        lightness = np.array(pixels) @ [0.2126, 0.7152, 0.0722]
        order = np.argsort(values)
        assert (np.diff(theme * lightness[order]) >= -1.5).all()  # A step of 1 is what rounding a colour may cost.
        assert np.ptp(lightness) > 50
        report.click("#theme")


def test_keys_move_over_the_map_and_enter_chooses_a_token(report: "Page") -> None:
    choose_head(report, 0, 0)
    report.focus("#view input:checked")
    report.keyboard.press("Tab")  # The heads,
    report.keyboard.press("ArrowRight")
    assert report.locator("#heads input").nth(1).is_checked()
    report.keyboard.press("Tab")  # then the map, at the chosen token, which is the last.
    last = report.locator("#tokens label").count() - 1
    assert f"(row {last}, column 0)" in report.inner_text("#map-value")
    for key in ("ArrowUp", "ArrowUp", "End", "Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        report.keyboard.press(key)
    assert f"(row {last - 2}, column 1)" in report.inner_text("#map-value")
    report.keyboard.press("Enter")
    assert report.locator("#tokens input").nth(last - 2).is_checked()
    assert "What came: " in report.inner_text("#next-hint")


def test_a_head_of_the_whole_model_opens_and_the_address_brings_it_back(report: "Page", released: Path) -> None:
    report.check("#view input[value=whole]", force=True)
    assert report.locator("#whole button").count() == LAYERS * HEADS
    report.locator("#whole button").first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End"):
        report.keyboard.press(key)
    report.keyboard.press("Enter")
    assert report.locator("#map:visible").count() == 1
    assert report.locator("#heads input").nth(HEADS - 1).is_checked()
    report.locator("#tokens label").nth(5).click()
    report.check("#view input[value=lines]", force=True)
    facts = facts_of((released / "report.html").read_bytes())
    expected = unpacked(facts["tensors"][f"layer_{LAYERS - 1}_attn_probs"])[HEADS - 1, 5]
    shares = report.locator("#lines tspan").all_text_contents()
    assert [number(share.removesuffix(" %") or "0") for share in shares[:6]] == pytest.approx(100 * expected[:6], abs=1)
    assert set(shares[6:]) == {""}, "later tokens are out of sight"
    address = report.url
    assert address.endswith(f"#layer={LAYERS - 1}&head={HEADS - 1}&position=5&view=lines")
    report.goto("about:blank")
    report.goto(address)
    assert report.locator("#lines tspan").all_text_contents() == shares
    assert report.input_value("#layer") == str(LAYERS - 1)
    report.goto(address.replace("layer=1", "layer=77").replace("position=5", "position=999&head=x"))
    assert report.locator("#lines .chosen").count() == 1, "what is not there is not asked for"


def test_a_chosen_token_changes_every_view_and_moves_nothing(report: "Page", released: Path) -> None:
    facts = facts_of((released / "report.html").read_bytes())
    height = report.evaluate("document.documentElement.scrollHeight")
    report.locator("#tokens label").nth(4).click()
    entry = facts["next"][4]["top"]
    bars = report.locator("#next li .number").all_inner_texts()
    assert [number(bar.removesuffix(" %")) for bar in bars] == pytest.approx(
        [100 * row["p"] for row in entry], abs=0.06
    )
    assert report.evaluate("document.documentElement.scrollHeight") == height


def test_a_strip_tells_the_value_of_every_channel(report: "Page", released: Path) -> None:
    expected = unpacked(facts_of((released / "report.html").read_bytes())["tensors"]["embedding_sum"])
    report.locator("#tokens label").nth(2).click()
    report.focus("#strip-embedding_sum canvas")
    report.keyboard.press("Home")
    for channel in range(3):
        found = re.search(rf"channel {channel}: (.+)$", report.inner_text("#embedding_sum-value"))
        assert found
        assert number(found[1]) == pytest.approx(float(expected[2, channel]), abs=6e-4)
        report.keyboard.press("ArrowRight")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_systems_theme_until_its_button_is_pressed(
    browser: "Browser", released: Path, scheme: str
) -> None:
    def is_dark(page: "Page") -> bool:
        red = page.evaluate(
            """() => { const c = document.createElement("canvas").getContext("2d");
                c.fillStyle = getComputedStyle(document.body).backgroundColor; c.fillRect(0, 0, 1, 1);
                return c.getImageData(0, 0, 1, 1).data[0]; }"""
        )
        return bool(red < 128)

    with opened(browser, (released / "report.html").as_uri(), color_scheme=scheme) as page:
        assert is_dark(page) == (scheme == "dark")
        assert page.get_attribute("#theme", "aria-pressed") == str(scheme == "dark").lower()
        page.click("#theme")
        assert is_dark(page) == (scheme != "dark")


@pytest.mark.parametrize("width", [320, 800])
def test_a_narrow_screen_needs_no_sideways_scrolling(browser: "Browser", released: Path, width: int) -> None:
    with opened(
        browser, (released / "report.html").as_uri(), viewport={"width": width, "height": 640}, has_touch=True
    ) as page:
        page.click("#numbers summary")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_on_paper_the_pictures_are_light(browser: "Browser", released: Path) -> None:
    with opened(browser, (released / "report.html").as_uri(), color_scheme="dark") as page:
        page.emulate_media(media="print")
        page.wait_for_function("document.querySelector('#tokens span').style.color == 'black'")
        assert page.locator("#theme:visible").count() == 0


def test_without_javascript_the_tables_are_there(browser: "Browser", released: Path) -> None:
    with opened(browser, (released / "report.html").as_uri(), java_script_enabled=False) as page:
        assert page.locator("h2:visible").all_inner_texts() == [
            "Size against quality",
            "Error of every output",
            "The contract",
            "Origin",
            "Files",
        ]


def test_hostile_texts_are_shown_and_do_nothing(browser: "Browser", tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(hostile_report(tmp_path / "dist"))
    with opened(browser, path.as_uri(), viewport={"width": 320, "height": 640}) as page:
        assert page.title() == "gpt2 1.0.0, seen from inside"
        shown = page.locator("#tokens span").all_text_contents()
        assert shown == [text.replace(" ", "·").replace("\u202e", "\ufffd") for text in HOSTILE]
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 320


def byte_tokens(text: str) -> list[dict[str, object]]:
    """A text as a byte-level tokenizer without merges gives it: a token a byte."""
    ((letters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    bytewise = zip(text.encode(), letters, strict=True)
    return [
        {"id": byte, "text": chr(byte)} if byte < 128 else {"id": byte, "text": "\ufffd", "piece": letter}
        for byte, letter in bytewise
    ]


def test_bytes_stand_under_their_character_in_every_script(browser: "Browser", tmp_path: Path) -> None:
    fallback = [{"id": 300 + byte, "text": "\ufffd", "piece": f"<0x{byte:02X}>"} for byte in "文".encode()]
    emoji = "👩\u200d💻"
    whole = [{"id": 600, "text": "می\u200cخواهم"}, {"id": 601, "text": "\u0301"}, {"id": 602, "text": "\u200d"}]
    tokens = [*byte_tokens(f"中a{emoji}aب"), *fallback, *whole, *byte_tokens("中")[:2]]
    with opened(browser, report_of(tmp_path, sample_of(tokens)).as_uri()) as page:
        shown = "".join(page.locator("#tokens span").evaluate_all("spans => spans.map(span => span.firstChild.data)"))
        assert shown == f"中a{emoji}aب文می\u200cخواهم◌\u0301\ufffd⟨E4⟩⟨B8⟩"
        assert page.locator("#tokens small").all_text_contents()[:4] == ["E4", "B8", "AD", "3"]
        names = page.locator("#tokens input").evaluate_all("inputs => inputs.map(input => input.ariaLabel)")
        assert len(set(names)) == len(names)
        assert names[:4] == ["中\u200e 1/3", "中\u200e 2/3", "中\u200e 3/3", "a\u200e₃"]
        assert names[5] == f"{emoji}\u200e 2/11"
        follower = page.locator("#next b").first  # After E4 B8, the first of all tokens is E4: no character.
        assert follower.inner_text() == "⟨E4⟩"
        page.locator("#tokens label").nth(1).click()
        assert page.locator("#next b").nth(2).inner_text() == "中 ⟨AD⟩"


def test_prompts_to_try_show_the_head_that_they_were_chosen_for(browser: "Browser", tmp_path: Path) -> None:
    words = [{"id": token, "text": text} for token, text in enumerate(("a", "b", "c", "d"))]
    telling = {"layer": 0, "head": 0, "position": 1}
    found = {"name": "induction", "says": "what came", "score": 0.9, "chance": 0.12, "text": "abcd"}
    rest = {"name": "previous token", "says": "the token just before", "score": 0.2, "chance": 0.15}
    facts = sample_of(byte_tokens("xyz")) | {
        "tries": [found | {"sample": sample_of(words) | {"telling": telling}}, rest]
    }
    path = report_of(tmp_path, facts)
    with opened(browser, path.as_uri(), forced_colors="active") as page:
        assert "No previous token head: the nearest looks at the token just before with 20 %" in said(page, "#tries")
        page.click("#tries button")
        assert "Layer 0, head 0 looks at what came with 90 % of its attention (evenly spread: 12 %)" in said(
            page, "#tries"
        )
        assert page.locator("#tokens span").all_text_contents() == ["a", "b", "c", "d"]
        assert page.locator("#tokens input").nth(1).is_checked()
        bar, track = (
            page.locator(part).first.evaluate("one => getComputedStyle(one).backgroundColor")
            for part in ("#next i", "#next .bar")
        )
        assert bar != track, "the system's colours leave a bar"
        page.locator("#tokens label").nth(2).click()
        address = page.url
        page.click("#first-prompt")
        assert page.locator("#tokens span").all_text_contents() == ["x", "y", "z"]
        page.goto("about:blank")
        page.goto(address)
        assert page.locator("#tokens span").all_text_contents() == ["a", "b", "c", "d"]
        assert page.locator("#tokens input").nth(2).is_checked()


@pytest.fixture
def everything(browser: "Browser", tiny: Path, export: Callable[..., Path], tmp_path: Path) -> "Iterator[Page]":
    """The report of a model that returns all there is."""
    activations = "all,head_output,logit_lens"
    model = export(tiny, all_layers=True, activations=activations)
    selection = Selection(layers=(0, 1, 2), activations=parse_activations(activations))
    facts = take_sample(model, load_folder(tiny, source="local"), selection, None)
    with opened(browser, report_of(tmp_path, facts).as_uri()) as page:
        yield page


def test_a_pair_is_explained_from_query_and_key_to_its_probability(everything: "Page") -> None:
    choose_head(everything, 1, 1)
    everything.locator("#tokens label").nth(7).click()
    everything.locator("#product-rows .softmax button").nth(3).click()
    everything.keyboard.press("ArrowDown")
    everything.keyboard.press("Enter")
    assert (
        everything.locator("#product-rows .came button:focus").inner_text()
        == everything.locator("#product-rows .softmax button").nth(4).inner_text()
    )
    everything.keyboard.press("ArrowUp")
    everything.keyboard.press("Enter")
    expected = shown_numbers(everything)[7, :8]
    rows = [row.split("\n") for row in everything.locator("#product-rows .softmax li").all_inner_texts()]
    scores = np.array([number(row[1]) for row in rows])
    assert [number(row[-1]) for row in rows] == pytest.approx(list(expected), abs=1e-3)
    assert np.exp(scores) / np.exp(scores).sum() == pytest.approx(expected, abs=5e-3)
    found = re.search(
        r"Sum (\S+) ÷ √8 = score (\S+)\. Softmax over the row makes it (\S+)\.$", said(everything, ".sum")
    )
    assert found
    total, score, probability = map(number, found.groups())
    assert score == pytest.approx(total / np.sqrt(8), abs=2e-3)
    assert (score, probability) == pytest.approx((scores[3], expected[3]), abs=1e-3)
    products = everything.locator("#product-rows canvas").nth(2).get_attribute("aria-label") or ""
    assert sum(map(number, products.split(": ")[1].split(", "))) == pytest.approx(total, abs=5e-3)
    everything.locator("#tokens label").first.click()
    assert "Choose a later token" in said(everything, "#product-rows")


def said(page: "Page", selector: str) -> str:
    return page.locator(selector).inner_text()


def test_the_last_layer_of_the_lens_says_what_the_model_says(everything: "Page") -> None:
    columns = everything.locator("#lens-rows thead th").count() - 1
    last = everything.locator("#lens-rows tbody tr").first
    assert last.locator("th").inner_text() == "2"
    for position in (0, 4, columns - 1):
        last.locator("button").nth(position).click()
        best = everything.locator("#next li").first
        assert last.locator("button").nth(position).inner_text() == best.locator("b").inner_text()
        assert everything.locator("#lens-rows button[tabindex='0']").count() == 1, "Tab passes the table as one"
        share = number((last.locator("button").nth(position).get_attribute("aria-label") or "").rsplit(" ", 1)[1])
        assert number(best.locator(".number").inner_text().removesuffix(" %")) == pytest.approx(100 * share, abs=0.06)


def test_every_kind_of_output_is_shown_and_what_heads_write_opens_them(everything: "Page") -> None:
    shown = everything.locator("#kinds details:not([hidden])")
    kinds = [str(kind) for kind in shown.evaluate_all("all => all.map(one => one.dataset.kind)")]
    blueprint = gpt2_blueprint(layers=3, heads=2, hidden=16, intermediate=64, vocab=31, positions=12, tied=True)
    elsewhere = {"logits", "attn_probs", "logit_lens"}
    assert set(kinds) == {*blueprint.outputs, *blueprint.kinds["A"].outputs} - elsewhere
    for kind in kinds:
        everything.evaluate("kind => document.querySelector(`[data-kind=${kind}]`).open = true", kind)
        everything.wait_for_selector(f"#strip-{kind}:visible")
        assert re.search(r"from \S+ to \S+$", said(everything, f"#{kind}-value"))
    everything.evaluate("document.getElementById('missing').open = true")
    missing = everything.locator("#missing li:visible")
    assert "q_rot, where positions are rotary: export --activations default,q_rot." in " ".join(
        missing.all_inner_texts()
    )
    assert everything.locator("#spoken-for option").count() == 4
    everything.focus("#writes")
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "End", "Enter"):
        everything.keyboard.press(key)
    assert everything.input_value("#layer") == "0"
    assert everything.locator("#heads input").nth(1).is_checked()
