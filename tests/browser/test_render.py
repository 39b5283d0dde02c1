"""report.html as text: what it shows is what the model returned, whatever its texts are, in at most two megabytes."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from dists import make_dist
from model_release.browser.pages import sample
from model_release.browser.pages.plot import log_plot
from model_release.browser.pages.render import render_live, render_report
from model_release.contract import manifest, measured
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.clauses import VERIFIED
from model_release.contract.measures import Deviation
from model_release.contract.selection import Selection
from pages import HOSTILE, facts_of, hostile_report, outputs_for, unpacked


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


def test_the_manifest_names_the_report_and_the_checksums_have_its_hash(released: Path) -> None:
    digest = hashlib.sha256((released / "report.html").read_bytes()).hexdigest()
    document = manifest.parse((released / "manifest.json").read_bytes())
    assert document.descriptions == ("measured.json", "report.html", "bom.cdx.json")
    assert document.entry("report.html") is None, "its bytes are another machine's business"
    assert f"{digest}  report.html" in (released / "SHA256SUMS").read_text().splitlines()


def test_a_report_tells_every_file_and_hash_clause_and_output(released: Path) -> None:
    text = (released / "report.html").read_text()
    document = manifest.parse((released / "manifest.json").read_bytes())
    told = [entry.sha256 for entry in document.files]
    clauses = [clause.id for clause in load_contract().clauses.values() if clause.stage in VERIFIED]
    told += [document.model.weights_sha256, "layer_0_attn_probs", "layer_1_mlp_output", *clauses]
    assert [fact for fact in told if fact not in text] == []
    unseen = ("SUM01", "ATTN01", "LENS01")  # By default.
    held = tuple(clause for clause in clauses if clause not in unseen)
    assert [model.clauses for model in measured.read(released).models] == [held] * len(document.variants)
    assert text.count('aria-label="holds"') == len(held) * len(document.variants)
    assert text.count('aria-label="nothing to judge"') == 3 * len(document.variants)


def test_in_the_plot_smaller_is_further_left_and_closer_is_further_down() -> None:
    plot = log_plot([("fp32", 498, 0.0), ("fp16", 249, 3e-9), ("int4", 70.9, 2e-2)], floor=1e-9)
    across, down = [point.at for point in plot.points], [point.y for point in plot.points]
    assert across == sorted(across, reverse=True)
    assert down == sorted(down, reverse=True)
    assert plot.left < min(across) < max(across) < plot.right
    assert plot.top < min(down) < max(down) < plot.bottom
    assert [tick.label for tick in plot.x_ticks] == ["50", "100", "200", "500"]


def test_the_same_model_gives_the_same_sample(tiny_onnx: Path) -> None:
    shape = gpt2_blueprint(layers=3, heads=2, hidden=16, intermediate=64, vocab=31, positions=12, tied=True)
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
    shape = gpt2_blueprint(
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
    shape = gpt2_blueprint(layers=48, heads=25, hidden=1600, intermediate=1, vocab=50257, positions=1024, tied=True)
    selection = Selection(layers=tuple(range(48)), activations=load_contract().all_activations)
    names = [output.name for output in load_contract().expected_outputs(shape, selection)]

    def enlarge(document: dict[str, Any]) -> None:
        document["model"]["shape"] = {"layers": 48, "heads": 25}
        document["variants"] *= 6

    folder = make_dist(tmp_path / "dist", change=enlarge)
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
    assert len(render_report(manifest.read(folder), measured.read(folder), worst, facts)) < 2_000_000


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
