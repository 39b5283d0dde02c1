"""Texts as token ids: whatever state a tokenizer was saved in, what it speaks, and what it does to its process."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

import cli
from builders import gpt2_folder
from commands import call, traced_once
from model_release.base.errors import UsageError, WeightsError
from model_release.contract import manifest, measured
from model_release.contract.measured import Measured
from model_release.model.pipeline import calibration_ids, text_ids
from model_release.model.weights.folder import load_folder
from model_release.model.weights.tokenizer import VALIDATION_TEXT, Tokenizer
from model_release.release.notes import render_notes
from pages import write_tokenizer
from workroom import Workshop

TEXT = "And the king said: bring me the book of the law.\n" * 3
SQUARES = [f"{file}{rank}" for file in "abcdefgh" for rank in range(1, 9)]


def saved(path: Path, **state: Any) -> Path:
    """A byte-level tokenizer, with what its last user left in it."""
    write_tokenizer(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | state))
    return path


def words(vocab: Sequence[str], unknown: str | None = None) -> Library:
    """A tokenizer of whole words, as people make them for chess squares, notes and other symbols."""
    ids = {word: token for token, word in enumerate([*vocab, *([unknown] if unknown else [])])}
    tokenizer = Library(models.WordLevel(ids, unk_token=unknown or "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def letters(alphabet: str, unknown: str | None = None, *, fused: bool = False) -> Library:
    """A tokenizer of single letters; without an unknown token it leaves out what it does not know."""
    ids = {letter: token for token, letter in enumerate(alphabet)}
    tokenizer = Library(models.BPE(vocab=ids, merges=[], unk_token=unknown, fuse_unk=fused))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


# -- saved state

FIXED: dict[str, Any] = {
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "!",
}
TRUNCATED = {"direction": "Right", "max_length": 64, "strategy": "LongestFirst", "stride": 0}
TWICE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
    "special_tokens": {},
}
STATES: dict[str, dict[str, Any]] = {
    "padded": {"padding": {"strategy": {"Fixed": 500}, **FIXED}},
    "truncated": {"truncation": TRUNCATED},
    "padded and truncated": {"padding": {"strategy": {"Fixed": 64}, **FIXED}, "truncation": TRUNCATED},
    "padded to 24 GB": {"padding": {"strategy": {"Fixed": 10**9}, **FIXED}},
    "truncated with a stride as long": {"truncation": TRUNCATED | {"stride": 64}},
    "truncated to nothing": {"truncation": TRUNCATED | {"max_length": 0}},
    "a template": {"post_processor": TWICE},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_what_a_tokenizer_was_last_used_for_does_not_change_how_it_reads(tmp_path: Path, state: dict[str, Any]) -> None:
    plain = Tokenizer(saved(tmp_path / "plain.json"), 256).read(TEXT)
    assert Tokenizer(saved(tmp_path / "tokenizer.json", **state), 256).read(TEXT) == plain
    assert len(plain.ids) == len(TEXT)


def test_special_tokens_are_read_where_the_text_has_them_and_not_added(tmp_path: Path) -> None:
    tokenizer = words(["the", "king"], "[UNK]")
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path / "tokenizer.json", 9).read("<s>the king").ids == (3, 0, 1)


def test_a_token_is_spelled_and_a_row_without_one_is_empty(tmp_path: Path) -> None:
    tokenizer = Tokenizer(saved(tmp_path / "tokenizer.json"), 300)
    assert [tokenizer.spell(token) for token in tokenizer.read("a 🙂").ids][:2] == ["a", " "]
    assert tokenizer.spell(299) == ""


def test_a_tokenizer_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "tokenizer.json")
    plain = Tokenizer(path, 256).read(TEXT)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Tokenizer(path, 256).read(TEXT) == plain


# -- what ends a process

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 20}
BROKEN: dict[str, dict[str, Any]] = {
    "normalizers that grow a text beyond memory": {
        "normalizer": {"type": "Sequence", "normalizers": [REPLACE] * 12},
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
    },
    "merges of what is no token": {"model": {"type": "BPE", "vocab": {"e": 0}, "merges": [["e", "x"]]}},
    "an unknown token that is none": {"model": {"type": "BPE", "vocab": {"e": 0}, "merges": [], "unk_token": "<unk>"}},
    "an unknown id that is none": {"model": {"type": "Unigram", "vocab": [["e", 0.0]], "unk_id": 99}},
    "a template of a second text": {"post_processor": {"type": "TemplateProcessing", "single": 7}},
    "nothing": {"model": None},
}


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_tokenizer_that_panics_aborts_or_fills_memory_is_one_error_and_leaves_nothing(
    workshop: Workshop, change: dict[str, Any]
) -> None:
    saved(workshop.root / "model/tokenizer.json", **change)
    workshop.refuses(
        cli.release, *workshop.release(), code=5, says=("tokenizer.json must be a tokenizer that reads text", "Replace")
    )


def test_a_tokenizer_that_died_says_so_and_the_next_one_reads(tmp_path: Path) -> None:
    path = saved(tmp_path / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [REPLACE] * 12})
    tokenizer = Tokenizer(path, 256)
    for _ in range(2):
        with pytest.raises(WeightsError, match="a crash, or more memory or time than a tokenizer needs"):
            tokenizer.read(TEXT)
    assert Tokenizer(saved(path), 256).read(TEXT).speaks


# -- what it speaks

DUMB = {
    "chess squares": words(SQUARES, "<unk>"),
    "chess squares, no unknown token": words(SQUARES),
    "notes": words([f"NOTE_ON_{pitch}" for pitch in range(128)], "<pad>"),
    "nucleotides": letters("ACGT"),
    "nucleotides, unknown ones as N": letters("ACGTN", "N"),
    "nucleotides, unknown ones as one N": letters("ACGTN", "N", fused=True),
    "amino acids": letters("ACDEFGHIKLMNPQRSTVWYX", "X"),
}


@pytest.mark.parametrize("tokenizer", DUMB.values(), ids=DUMB)
def test_a_tokenizer_of_something_else_does_not_speak_english(tmp_path: Path, tokenizer: Library) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    reading = Tokenizer(tmp_path / "tokenizer.json", 200).read(VALIDATION_TEXT.read_text())
    assert not reading.knows
    assert not reading.speaks


def test_a_tokenizer_that_makes_one_token_of_everything_does_not_speak(tmp_path: Path) -> None:
    tokenizer = letters("a")
    tokenizer.normalizer = normalizers.Replace(Regex(r"[\s\S]"), "a")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    reading = Tokenizer(tmp_path / "tokenizer.json", 200).read(TEXT)
    assert (reading.known, set(reading.ids), reading.speaks) == (1.0, {0}, False)


def english() -> dict[str, Library]:
    alphabet = "".join(sorted(set(VALIDATION_TEXT.read_text()) - set("[]|"))) + "~"
    pieces = words(sorted(set(VALIDATION_TEXT.read_text().split())), "[UNK]")
    return {"single letters": letters(alphabet, "~"), "words": pieces}


@pytest.mark.parametrize("kind", ["single letters", "words"])
def test_a_tokenizer_of_english_speaks_it(tmp_path: Path, kind: str) -> None:
    english()[kind].save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path / "tokenizer.json", 9999).read(VALIDATION_TEXT.read_text()).speaks


def chess_folder(path: Path, *, unknown: str | None = "<unk>") -> Path:
    """A model of chess squares, with its tokenizer."""
    folder = gpt2_folder(path, layers=1, hidden=8, heads=2, vocab=65, positions=20)
    words(SQUARES, unknown).save(str(folder / "tokenizer.json"))
    return folder


def games(path: Path, moves: int = 400) -> Path:
    """A text of squares."""
    path.write_text(" ".join(random.Random(0).choices(SQUARES, k=moves)))
    return path


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_our_texts_are_left_out_where_the_tokenizer_does_not_speak_and_that_is_said(
    tmp_path: Path, unknown: str | None
) -> None:
    weights, said = load_folder(chess_folder(tmp_path, unknown=unknown)), list[str]()
    assert text_ids(weights, progress=said.append) == []
    assert calibration_ids(weights, progress=said.append) == []
    assert [line.partition("random ids")[2].split()[4] for line in said] == ["validation.txt.", "calibration.txt."]
    assert all("does not speak English (0% known" in line for line in said)


def test_texts_of_ones_own_are_read(tmp_path: Path) -> None:
    weights, text = load_folder(chess_folder(tmp_path / "model")), games(tmp_path / "games.txt")
    expected = [SQUARES.index(move) for move in text.read_text().split()]
    assert text_ids(weights, text) == calibration_ids(weights, text) == expected


def test_a_text_that_the_tokenizer_does_not_know_is_refused(tmp_path: Path) -> None:
    weights = load_folder(chess_folder(tmp_path / "model"))
    (tmp_path / "prose.txt").write_text("the king's pawn " * 99)
    with pytest.raises(
        UsageError, match=r"--validation must be a text .* knows, got 0% known, 297 tokens, 1 different"
    ):
        text_ids(weights, tmp_path / "prose.txt")
    with pytest.raises(UsageError, match=r"--calibration must be a text of at least 20 tokens .* got 100% known, 5 "):
        calibration_ids(weights, games(tmp_path / "short.txt", 5))


def test_a_text_needs_a_tokenizer_and_a_file(tmp_path: Path) -> None:
    weights = load_folder(gpt2_folder(tmp_path / "model"))
    with pytest.raises(WeightsError, match=r"nowhere\.txt must be readable"):
        text_ids(weights, tmp_path / "nowhere.txt")
    with pytest.raises(UsageError, match="--validation needs a tokenizer, got none"):
        text_ids(weights, games(tmp_path / "games.txt"))


# -- a release


def build(folder: Path, out: Path, *options: object) -> Measured:
    with traced_once():
        outcome = call(
            cli.build,
            *("--tag", "model-v1.0.0", "--model-path", folder, "--precision", "int8-static", "--output", out, *options),
        )
    assert outcome.code == 0, outcome.err
    return measured.read(out)


def test_figures_of_a_model_of_something_else_are_measured_on_random_ids_and_say_so(tmp_path: Path) -> None:
    figures = build(chess_folder(tmp_path / "model"), tmp_path / "dist")
    assert {model.agreement.text for model in figures.models} == {"random ids"}
    assert "positions of `random ids`" in render_notes(manifest.read(tmp_path / "dist"), {"": figures})
    assert (tmp_path / "dist/tokenizer.json").read_bytes() == (tmp_path / "model/tokenizer.json").read_bytes()


def test_figures_on_a_text_of_ones_own_name_it(tmp_path: Path) -> None:
    text = games(tmp_path / "games.txt")
    options = ("--validation", text, "--calibration", text)
    figures = build(chess_folder(tmp_path / "model", unknown=None), tmp_path / "dist", *options)
    assert {model.agreement.text for model in figures.models} == {"validation text games.txt"}
    assert {model.agreement.positions for model in figures.models} == {16 * 20}


def test_a_release_keeps_the_tokenizers_state_and_its_figures_do_not_obey_it(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "model", layers=1, vocab=256, positions=40)
    path = saved(folder / "tokenizer.json", **STATES["padded and truncated"])
    figures = build(folder, tmp_path / "dist")
    assert (tmp_path / "dist/tokenizer.json").read_bytes() == path.read_bytes()
    assert {model.agreement.text for model in figures.models} == {"validation text"}
    assert {model.agreement.positions for model in figures.models} == {16 * 40}
