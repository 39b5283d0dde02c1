"""A release to look at, and what the tests of its pages share: their data, and a strict browser page."""

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dists import make_dist
from model_release.browser.pages.render import render_report
from model_release.contract import manifest, measured
from model_release.contract.measures import Array, Deviation
from model_release.model.onnx_files.session import Session

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


def facts_of(report: bytes) -> dict[str, Any]:
    """The data in a report."""
    found = re.search(rb'<script type="application/json" id="sample">(.*?)</script>', report, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def unpacked(tensor: dict[str, Any]) -> Array:
    return np.frombuffer(base64.b64decode(tensor["float16"]), "<f2").reshape(tensor["shape"]).astype(np.float32)


def outputs_for(release: Path, ids: list[int]) -> dict[str, Array]:
    """What the released model that the app gets returns, without the batch axis."""
    file = manifest.parse((release / "manifest.json").read_bytes()).delivery.file
    return {name: array[0] for name, array in Session(release / file).run(np.array([ids])).items()}


def hostile_report(folder: Path) -> bytes:
    """A report in which every text that comes from a model is an attack."""

    def attack(document: dict[str, Any]) -> None:
        document["model"]["source"] = document["model"]["revision"] = HOSTILE[0]
        document["model"]["shape"] = {"layers": 1, "heads": 1}
        document["variants"][0] |= {"precision": HOSTILE[0], "computed": HOSTILE[1]}

    def measure(figures: dict[str, Any]) -> None:
        figures["made_with"] = {HOSTILE[1]: HOSTILE[2]}

    make_dist(folder, change=attack, measure=measure)
    tokens = [{"id": token, "text": text} for token, text in enumerate(HOSTILE)]
    facts = {**sample_of(tokens), "left_out": [HOSTILE[1]]}
    worst = {HOSTILE[0]: {HOSTILE[1]: Deviation(kind="logits", max_abs=0.1, relative=0.0, cosine=1.0)}}
    return render_report(manifest.read(folder), measured.read(folder), worst, facts)


def sample_of(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    """What a page is given for a prompt of these tokens: each looks at all before it, and all are likely to follow."""
    seq = len(tokens)
    values = base64.b64encode(np.tri(seq, dtype="<f2").tobytes()).decode()
    return {
        "tokens": tokens,
        "tensors": {"layer_0_attn_probs": {"shape": [1, seq, seq], "float16": values}},
        "next": [{"position": position, "top": [{**token, "p": 0.1} for token in tokens]} for position in range(seq)],
        "left_out": [],
        "tries": [],
    }


def report_of(folder: Path, facts: dict[str, Any]) -> Path:
    """A report that shows a sample."""
    make_dist(folder / "dist", change=lambda document: document["model"].update(shape={"layers": 1, "heads": 1}))
    path = folder / "report.html"
    path.write_bytes(render_report(manifest.read(folder / "dist"), measured.read(folder / "dist"), {}, facts))
    return path


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


def run_text(page: "Page", text: str, tokens: int) -> None:
    """Runs a text of so many tokens in the live page, until its pictures are there."""
    page.fill("#text", text)
    page.click("#run")
    page.wait_for_selector(f"#tokens label:nth-child({tokens}):last-child")


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
