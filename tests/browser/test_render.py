"""report.html as text: what it shows is what the model returned, whatever its texts are, in at most two megabytes."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from dists import make_dist
from model_release.browser.pages import fitting, sample, telling, writes
from model_release.browser.pages.plot import log_plot
from model_release.browser.pages.render import render_live, render_report
from model_release.contract import manifest, measured
from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.clauses import VERIFIED
from model_release.contract.measures import Deviation
from model_release.contract.selection import Selection
from model_release.model.onnx_files.session import Session
from model_release.model.weights.folder import load_folder
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


def test_in_the_plot_no_label_covers_another_or_a_point() -> None:
    sizes = {"fp32": 498, "fp16": 249, "int8-dynamic": 126, "int8-static": 126, "int4": 90, "int4-other": 88}
    plot = log_plot([(name, size, 2e-2 - size / 1e5) for name, size in sizes.items()], floor=1e-9)
    half = {mark.label: len(mark.label) * 11.5 / 2 for mark in plot.points}  # Of the letters on a phone.
    for mark in plot.points:
        assert 0 <= mark.label_at - half[mark.label] < mark.label_at + half[mark.label] <= plot.width
        for other in plot.points:
            aside = abs(mark.label_at - other.label_at) >= half[mark.label] + half[other.label]
            assert mark is other or aside or abs(mark.label_y - other.label_y) >= 20
            beside = abs(mark.label_at - other.at) >= half[mark.label] + 6
            assert beside or not mark.label_y - 22 < other.y < mark.label_y + 10


def test_the_same_model_gives_the_same_sample(tiny: Path, tiny_onnx: Path) -> None:
    selection = Selection(layers=(0, 1, 2), activations=load_contract().common_activations)
    first, second = (
        sample.take_sample(tiny_onnx, load_folder(tiny, source="local"), selection, None) for _ in range(2)
    )
    assert json.dumps(first) == json.dumps(second)
    assert [token["text"] for token in first["tokens"]][:2] == ["#0", "#2"]  # No tokenizer: ids.


@pytest.mark.parametrize(
    ("layers", "heads", "hidden", "tokens", "left_out"), [(12, 12, 768, 28, 0), (48, 25, 1600, 12, 35)]
)
def test_a_large_model_gets_a_shorter_prompt_and_then_vectors_of_fewer_layers(
    layers: int, heads: int, hidden: int, tokens: int, left_out: int
) -> None:
    outputs = outputs_of(layers, heads, hidden, load_contract().default_activations)
    assert fitting.fitting_tokens(outputs, sample.MAX_TOKENS) == tokens
    shown = fitting.fitting_outputs(
        outputs, tokens, default=("attn_probs", "mlp_output"), layer=5, room_bytes=fitting.MAX_BYTES
    )
    assert fitting.packed_bytes(shown, tokens) <= fitting.MAX_BYTES
    assert [output.layer for output in shown if output.kind == "attn_probs"] == list(range(layers))
    kept = [output.layer for output in shown if output.kind == "mlp_output"]
    assert (kept[0], kept[-1], 5 in kept) == (0, layers - 1, True)
    assert layers - len(kept) == left_out


def test_what_the_first_picture_needs_comes_before_other_layers() -> None:
    outputs = outputs_of(12, 12, 768, load_contract().all_activations)
    shown = fitting.fitting_outputs(outputs, 28, default=("attn_probs",), layer=3, room_bytes=fitting.MAX_BYTES)
    assert {"layer_3_q", "layer_3_k", "layer_3_attn_scores", "layer_11_attn_probs"} <= {output.name for output in shown}


def outputs_of(layers: int, heads: int, hidden: int, activations: tuple[str, ...]) -> list[Output]:
    shape = gpt2_blueprint(
        layers=layers, heads=heads, hidden=hidden, intermediate=4 * hidden, vocab=50257, positions=1024, tied=True
    )
    selection = Selection(layers=tuple(range(layers)), activations=activations)
    expected = load_contract().expected_outputs(shape, selection)
    return [output for output in expected if output.kind not in ("logits", "logit_lens")]


def test_heads_are_found_by_where_they_look() -> None:
    ids = [3, 1, 4, 5, 9, 2, 3, 1, 4, 5, 9, 2]
    seq = len(ids)
    even = np.tri(seq) / np.arange(1, seq + 1)[:, None]
    back = np.eye(seq, k=-1) + np.outer(np.arange(seq) == 0, np.arange(seq) == 0)
    again = even.copy()
    again[6:] = np.eye(seq, k=-5)[6:]
    found = telling.most_telling(
        ids, {0: np.stack([even, even]), 4: np.stack([even, back]), 7: np.stack([again, even])}
    )
    assert found
    assert (found.pattern.name, found.layer, found.head, found.score) == ("induction", 7, 0, 1.0)
    previous = telling.best_head(telling.PATTERNS[1], ids, {0: np.stack([even]), 4: np.stack([even, back])})
    assert previous
    assert (previous.layer, previous.head, previous.score, previous.clear) == (4, 1, 1.0, True)
    chance = telling.best_head(telling.PATTERNS[1], ids, {0: np.stack([even])})
    assert chance
    assert (chance.score == chance.chance, chance.clear) == (True, False)
    assert telling.best_head(telling.PATTERNS[0], list(range(12)), {0: np.stack([even])}) is None, "nothing came again"


def test_the_parts_of_heads_add_up_to_what_attention_adds_to_a_score(tiny: Path, export: Callable[..., Path]) -> None:
    model = export(tiny, all_layers=True, activations="all,head_output")
    weights = load_folder(tiny, source="local")
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    arrays = {name: array[0] for name, array in Session(model).run(np.array([ids])).items()}
    tokens = np.argsort(-arrays["logits"], axis=-1)[:, :2]
    parts = writes.contributions(arrays, (0, 1, 2), weights, tokens)
    assert parts is not None
    assert parts.shape == (len(ids), 2, 3, 2)
    gain = weights.tensor("transformer.ln_f.weight")
    for layer in range(3):
        bias = weights.tensor(f"transformer.h.{layer}.attn.c_proj.bias")
        added = arrays[f"layer_{layer}_attn_output"] - bias
        scaled = (added - added.mean(axis=-1, keepdims=True)) / arrays["final_ln_scale"] * gain
        rows = weights.tensor("transformer.wte.weight")[tokens]
        np.testing.assert_allclose(
            parts[:, :, layer].sum(axis=-1), np.einsum("sd,skd->sk", scaled, rows), atol=2e-3, rtol=2e-3
        )
    broken = arrays | {"logits": np.tanh(arrays["logits"] / 2)}
    assert writes.contributions(broken, (0, 1, 2), weights, tokens) is None, "capped scores are no sum of parts"


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
    tensors = {"embedding_sum": {"shape": [12, 1600], "float16": "A" * fitting.MAX_BYTES}}
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
