"""The pages people look at: what they show is what the model returned, whatever its texts are, on any screen."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from builders import gpt2_folder
from commands import SCRIPTS, assert_refused, call, traced_once
from dists import make_dist
from model_release import cli, manifest, npm
from model_release.architecture import ModelShape
from model_release.contract import Selection, load_contract
from model_release.measures import Array, Deviation
from model_release.page import sample
from model_release.page.live import serve_release
from model_release.page.plot import log_plot
from model_release.page.render import render_live, render_report
from model_release.runtime import Session

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HEADS, LAYERS = 2, 2
HOSTILE = [
    "</script><script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "<!--<script>",
    "\u202eright to left",
    "{{ 7 * 7 }}",
    "&amp; ' \" `",
]


def write_tokenizer(path: Path) -> None:
    """A byte-level tokenizer of single bytes, in the layout of GPT-2's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: token for token, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release with a tokenizer, every layer to see."""
    folder = gpt2_folder(tmp_path_factory.mktemp("model"), layers=LAYERS, heads=HEADS, vocab=256, positions=40)
    write_tokenizer(folder / "tokenizer.json")
    out = tmp_path_factory.mktemp("out")
    with traced_once():
        outcome = call(
            cli.release,
            *("--tag", "model-v1.0.0", "--model-path", folder, "--all-layers", "--precision", "fp16", "--no-env"),
            *("--host", f"local:{out}"),
        )
    assert outcome.code == 0, outcome.err
    return out / "model-v1.0.0"


def facts_of(report: bytes) -> dict[str, Any]:
    """The data in a report."""
    found = re.search(rb'<script type="application/json" id="sample">(.*?)</script>', report, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def unpacked(tensor: dict[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(tensor["float16"]), "<f2").reshape(tensor["shape"]).astype(np.float32)


def outputs_for(release: Path, ids: list[int]) -> dict[str, Array]:
    """What the released model that the app gets returns, without the batch axis."""
    file = manifest.parse((release / "manifest.json").read_bytes())["delivery"]["file"]
    return {name: array[0] for name, array in Session(release / file).run(np.array([ids])).items()}


# -- the report as text


def test_a_report_holds_what_the_released_model_returns_for_the_prompt(released: Path) -> None:
    facts = facts_of((released / "report.html").read_bytes())
    ids = [token["id"] for token in facts["tokens"]]
    tokenizer = Tokenizer.from_file(str(released / "tokenizer.json"))
    assert ids == tokenizer.encode(sample.PROMPT).ids[: sample.MAX_TOKENS]
    assert "".join(token["text"] for token in facts["tokens"]) == sample.PROMPT[: sample.MAX_TOKENS]
    expected = outputs_for(released, ids)
    assert set(facts["tensors"]) == set(expected) - {"logits"}
    for name, tensor in facts["tensors"].items():
        np.testing.assert_allclose(unpacked(tensor), expected[name], rtol=1e-3, atol=1e-6)
    for entry in facts["next"]:
        scores = expected["logits"][entry["position"]].astype(np.float64)
        probabilities = np.exp(scores) / np.exp(scores).sum()
        assert entry["top"][0]["id"] == probabilities.argmax()
        assert [row["p"] for row in entry["top"]] == pytest.approx(sorted(probabilities, reverse=True)[:10], rel=1e-2)


def test_the_manifest_and_the_checksums_list_the_report(released: Path) -> None:
    digest = hashlib.sha256((released / "report.html").read_bytes()).hexdigest()
    document = manifest.parse((released / "manifest.json").read_bytes())
    assert {entry["sha256"] for entry in document["files"] if entry["name"] == "report.html"} == {digest}
    assert f"{digest}  report.html" in (released / "SHA256SUMS").read_text().splitlines()


def test_a_report_tells_every_file_and_hash_clause_and_output(released: Path) -> None:
    text = (released / "report.html").read_text()
    document = manifest.parse((released / "manifest.json").read_bytes())
    told = [entry["sha256"] for entry in document["files"] if entry["name"] != "report.html"]
    judged = [clause.id for clause in load_contract().clauses.values() if clause.stage != "browser"]
    told += [document["model"]["weights_sha256"], "layer_0_attn_probs", "layer_1_mlp_output", *judged]
    assert [fact for fact in told if fact not in text] == []
    assert text.count('aria-label="holds"') == len(judged) * len(document["variants"])


def test_in_the_plot_smaller_is_further_left_and_closer_is_further_down() -> None:
    plot = log_plot([("fp32", 498, 0.0), ("fp16", 249, 3e-9), ("int4", 70.9, 2e-2)], floor=1e-9)
    across, down = [point.at for point in plot.points], [point.y for point in plot.points]
    assert across == sorted(across, reverse=True)
    assert down == sorted(down, reverse=True)
    assert plot.left < min(across) < max(across) < plot.right
    assert plot.top < min(down) < max(down) < plot.bottom
    assert [tick.label for tick in plot.x_ticks] == ["50", "100", "200", "500"]


def test_the_same_model_gives_the_same_sample(tiny_onnx: Path) -> None:
    shape = ModelShape(layers=3, heads=2, hidden=16, intermediate=64, vocab=31, positions=12, tied=True)
    selection = Selection(layers=(0, 1, 2), activations=load_contract().all_activations)
    first, second = (sample.take_sample(tiny_onnx, shape, selection, None) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert [token["text"] for token in first["tokens"]][:2] == ["#0", "#2"]  # No tokenizer: ids.


@pytest.mark.parametrize(
    ("layers", "heads", "hidden", "tokens", "left_out"), [(12, 12, 768, 28, 0), (48, 25, 1600, 12, 30)]
)
def test_a_large_model_gets_a_shorter_prompt_and_then_fewer_layers(
    layers: int, heads: int, hidden: int, tokens: int, left_out: int
) -> None:
    shape = ModelShape(
        layers=layers, heads=heads, hidden=hidden, intermediate=1, vocab=50257, positions=1024, tied=True
    )
    selection = Selection(layers=tuple(range(layers)), activations=load_contract().default_activations)
    outputs = [output for output in load_contract().expected_outputs(shape, selection) if output.kind != "logits"]
    fitting = sample._fitting_tokens(outputs, sample.MAX_TOKENS)
    shown = sample._fitting_outputs(outputs, fitting)
    assert fitting == tokens
    assert sample._packed_bytes(shown, fitting) <= sample.MAX_BYTES
    kept = sorted({output.layer for output in shown if output.layer is not None})
    assert (kept[0], kept[-1]) == (0, layers - 1)
    assert layers - len(kept) == left_out


def test_the_largest_report_stays_below_two_megabytes(tmp_path: Path) -> None:
    shape = ModelShape(layers=48, heads=25, hidden=1600, intermediate=1, vocab=50257, positions=1024, tied=True)
    selection = Selection(layers=tuple(range(48)), activations=load_contract().all_activations)
    names = [output.name for output in load_contract().expected_outputs(shape, selection)]
    document = json.loads((make_dist(tmp_path / "dist") / "manifest.json").read_bytes())
    document["model"]["shape"] = {"layers": 48, "heads": 25}
    document["variants"] *= 6
    deviation = Deviation(kind="logits", max_abs=0.1, relative=0.1, cosine=1.0)
    worst = {str(variant): dict.fromkeys(names, deviation) for variant in range(6)}
    tensors = {"embedding_sum": {"shape": [12, 1600], "float16": "A" * sample.MAX_BYTES}}
    next_tokens = [{"id": 50257, "text": "x" * 20, "p": 0.123}] * sample.TOP
    facts = {
        "tokens": [{"id": 50257, "text": "x" * 20}] * sample.MAX_TOKENS,
        "tensors": tensors,
        "next": [{"position": 0, "top": next_tokens}] * sample.MAX_TOKENS,
        "left_out": names,
    }
    assert len(render_report(document, worst, facts)) < 2_000_000


def hostile_report(folder: Path) -> bytes:
    """A report in which every text that comes from a model is an attack."""

    def attack(document: dict[str, Any]) -> None:
        document["model"]["source"] = document["model"]["revision"] = HOSTILE[0]
        document["model"]["shape"] = {"layers": 1, "heads": 1}
        document["made_with"] = {HOSTILE[1]: HOSTILE[2]}
        document["variants"][0] |= {"precision": HOSTILE[0], "computed": HOSTILE[1]}

    document = json.loads((make_dist(folder, change=attack) / "manifest.json").read_bytes())
    seq = len(HOSTILE)
    values = base64.b64encode(np.tri(seq, dtype="<f2").tobytes()).decode()
    top = [{"id": token, "text": text, "p": 0.1} for token, text in enumerate(HOSTILE)]
    facts = {
        "tokens": [{"id": token, "text": text} for token, text in enumerate(HOSTILE)],
        "tensors": {"layer_0_attn_probs": {"shape": [1, seq, seq], "float16": values}},
        "next": [{"position": position, "top": top} for position in range(seq)],
        "left_out": [HOSTILE[1]],
    }
    worst = {HOSTILE[0]: {HOSTILE[1]: Deviation(kind="logits", max_abs=0.1, relative=0.0, cosine=1.0)}}
    return render_report(document, worst, facts)


class Elements(HTMLParser):
    """Counts the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Counts an element, which must not hold a script of its own."""
        self.counts[tag] = self.counts.get(tag, 0) + 1
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("style", "srcdoc")]


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    report = hostile_report(tmp_path / "dist")
    assert [token["text"] for token in facts_of(report)["tokens"]] == HOSTILE
    counts = Elements(report.decode()).counts
    assert (counts["script"], counts.get("img", 0)) == (2, 0)


@pytest.mark.parametrize("page", ["report", "live"])
def test_a_page_allows_its_own_style_and_script_and_no_other(page: str, tmp_path: Path) -> None:
    text = (hostile_report(tmp_path / "dist") if page == "report" else render_live("A text")).decode()
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert found
    policy = found[1].replace("&#39;", "'")
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe-inline" not in policy
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)


# -- the report in a browser


@contextlib.contextmanager
def opened(browser: "Browser", url: str, **options: Any) -> Iterator["Page"]:
    """A page in which nothing may go wrong, and which may ask its own origin alone."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type != "info" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    origin = url if url.startswith("file:") else url.rsplit("/", 1)[0]
    page.on("request", lambda asked: None if asked.url.startswith(origin) else troubles.append(asked.url))
    page.goto(url)
    try:
        yield page
        assert troubles == []
    finally:
        context.close()


@pytest.fixture
def report(browser: "Browser", released: Path) -> "Iterator[Page]":
    with opened(browser, (released / "report.html").as_uri(), color_scheme="light") as page:
        yield page


def choose_head(page: "Page", layer: int, head: int) -> None:
    page.select_option("#layer", str(layer))
    page.locator("#heads label").nth(head).click()


def shown_numbers(page: "Page") -> Array:
    """The table beside the heat map, [query, key]; later keys have no number."""
    if page.locator("#numbers[open]").count() == 0:
        page.click("#numbers summary")
        page.wait_for_selector("#numbers tbody tr")
    rows = page.locator("#numbers tbody tr").all_inner_texts()
    return np.array([[number(cell) if cell.strip() else 0.0 for cell in row.split("\t")[1:]] for row in rows])


def number(text: str) -> float:
    return float(text.replace("−", "-"))


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
    report.focus("#layer")
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
        tint = page.locator("#tokens span").first
        assert tint.evaluate("span => span.style.color") == "black"
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


# -- the live page


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
    model = broken / manifest.parse((broken / "manifest.json").read_bytes())["delivery"]["file"]
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    with serve_release(broken) as url, live(browser, url) as page:
        page.wait_for_selector("#error:visible")
        assert f"{model.name} must be the file of the manifest, its sha256 is" in page.inner_text("#error")
        assert page.locator("#views:visible").count() == 0


@pytest.mark.network
@pytest.mark.usefixtures("packages")
def test_serving_says_where_the_page_is_and_ends_with_ctrl_c(released: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "release.py"), "serve", str(released), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url.endswith("/try.html")
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, as the command said
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert b"<h1>" in answer.read()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_serving_needs_a_release(tmp_path: Path) -> None:
    assert_refused(call(cli.release, "serve", tmp_path), 7, ["manifest.json"])
    assert_refused(call(cli.release, "--tag", "model-v1.0.0", "serve", tmp_path), 2, ["--tag"])
