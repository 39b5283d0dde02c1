"""Texts as token ids: whatever state a tokenizer was saved in, what it speaks, and what it does to its process."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library

import cli
from builders import gpt2_folder
from commands import call, traced_once
from model_release.base.errors import UsageError, WeightsError
from model_release.contract import manifest, measured
from model_release.contract.blueprint import Blueprint
from model_release.contract.measured import Measured
from model_release.model.pipeline import calibration_ids, text_ids
from model_release.model.weights.folder import load_folder
from model_release.model.weights.tokenizer import VALIDATION_TEXT, Tokenizer, load_tokenizer
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

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 5000}
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


@pytest.mark.long_cases("normalizers that grow a text beyond memory")
@pytest.mark.slow
@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_tokenizer_that_panics_aborts_or_fills_memory_is_one_error_and_leaves_nothing(
    workshop: Workshop, change: dict[str, Any]
) -> None:
    saved(workshop.root / "model/tokenizer.json", **change)
    workshop.refuses(
        cli.release, *workshop.release(), code=5, says=("tokenizer.json must be a tokenizer that reads text", "Replace")
    )


@pytest.mark.slow
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


def chess(path: Path) -> tuple[Blueprint, Tokenizer | None]:
    weights = load_folder(chess_folder(path))
    return weights.blueprint, load_tokenizer(weights)


def games(path: Path, moves: int = 400) -> Path:
    """A text of squares."""
    path.write_text(" ".join(random.Random(0).choices(SQUARES, k=moves)))
    return path


@pytest.mark.parametrize("unknown", ["<unk>", None])
def test_our_texts_are_left_out_where_the_tokenizer_does_not_speak_and_that_is_said(
    tmp_path: Path, unknown: str | None
) -> None:
    weights, said = load_folder(chess_folder(tmp_path, unknown=unknown)), list[str]()
    tokenizer = load_tokenizer(weights)
    assert text_ids(weights.blueprint, tokenizer, progress=said.append) == []
    assert calibration_ids(weights.blueprint, tokenizer, progress=said.append) == []
    assert [line.partition("random ids")[2].split()[4] for line in said] == ["validation.txt.", "calibration.txt."]
    assert all("does not speak English (0% known" in line for line in said)


def test_texts_of_ones_own_are_read(tmp_path: Path) -> None:
    (shape, tokenizer), text = chess(tmp_path / "model"), games(tmp_path / "games.txt")
    expected = [SQUARES.index(move) for move in text.read_text().split()]
    assert text_ids(shape, tokenizer, text) == calibration_ids(shape, tokenizer, text) == expected


def test_a_text_that_the_tokenizer_does_not_know_is_refused(tmp_path: Path) -> None:
    shape, tokenizer = chess(tmp_path / "model")
    (tmp_path / "prose.txt").write_text("the king's pawn " * 99)
    with pytest.raises(
        UsageError, match=r"--validation must be a text .* knows, got 0% known, 297 tokens, 1 different"
    ):
        text_ids(shape, tokenizer, tmp_path / "prose.txt")
    with pytest.raises(UsageError, match=r"--calibration must be a text of at least 20 tokens .* got 100% known, 5 "):
        calibration_ids(shape, tokenizer, games(tmp_path / "short.txt", 5))


def test_a_text_needs_a_tokenizer_and_a_file(tmp_path: Path) -> None:
    shape = load_folder(gpt2_folder(tmp_path / "model")).blueprint
    with pytest.raises(WeightsError, match=r"nowhere\.txt must be readable"):
        text_ids(shape, None, tmp_path / "nowhere.txt")
    with pytest.raises(UsageError, match="--validation needs a tokenizer, got none"):
        text_ids(shape, None, games(tmp_path / "games.txt"))


# -- files of an older kind

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "king", "##s", "book", "of", "law"]
MERGES = {
    "vocab.json": json.dumps({"k": 0, "i": 1, "n": 2, "g": 3, "in": 4, "Ġ": 5, "<|endoftext|>": 6}),
    "merges.txt": "#version: 0.2\ni n\n",
    "added_tokens.json": json.dumps({"<|user|>": 7}),
}


def older_folder(
    path: Path, files: Mapping[str, str | bytes], tokenizer_class: str | None = None, **settings: Any
) -> Path:
    """A model whose tokenizer is there, but not as tokenizer.json."""
    folder = gpt2_folder(path, layers=1, hidden=8, heads=2, vocab=200, positions=20)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if tokenizer_class is not None:
        settings = {"tokenizer_class": tokenizer_class} | settings
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def sentence_pieces(path: Path, kind: str) -> bytes:
    """A model of SentencePiece, trained on nearly nothing."""
    text = VALIDATION_TEXT.read_text()[13:2000].replace(". ", ".\n")
    (path / "text").write_text("".join(letter for letter in text.lower() if letter.islower() or letter.isspace()))
    train = partial(sentencepiece.SentencePieceTrainer.train, input=str(path / "text"), minloglevel=2)
    train(model_prefix=str(path / kind), vocab_size=60, model_type=kind)
    return (path / f"{kind}.model").read_bytes()


@pytest.mark.slow
def test_a_tokenizer_is_made_of_words_in_pieces_and_brings_no_other_file_of_this_machine(tmp_path: Path) -> None:
    words(["secret"], "[UNK]").save(str(tmp_path / "secret.json"))
    paths = dict.fromkeys(("tokenizer_file", "vocab_file"), str(tmp_path / "secret.json"))
    pieces = "\n".join(PIECES)
    made = load_tokenizer(load_folder(older_folder(tmp_path / "m", {"vocab.txt": pieces}, "BertTokenizer", **paths)))
    assert made is not None
    assert made.read("The kings book").ids == (5, 6, 7, 8)
    assert "secret" not in made.content


def test_a_tokenizer_is_made_of_vocabulary_merges_and_added_tokens(tmp_path: Path) -> None:
    made = load_tokenizer(load_folder(older_folder(tmp_path, MERGES)))
    assert made is not None
    assert made.read("king<|user|>").ids == (0, 4, 3, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "file", "tokenizer_class"),
    [("unigram", "spiece.model", "T5Tokenizer"), ("bpe", "tokenizer.model", "LlamaTokenizer")],
)
def test_a_tokenizer_is_made_of_sentence_pieces(tmp_path: Path, kind: str, file: str, tokenizer_class: str) -> None:
    pieces = sentence_pieces(tmp_path, kind)
    folder = older_folder(tmp_path / "model", {file: pieces}, tokenizer_class, extra_ids=0)
    made, text = load_tokenizer(load_folder(folder)), "and the king said unto him"
    assert made is not None
    assert list(made.read(text).ids) == sentencepiece.SentencePieceProcessor(model_proto=pieces).encode(text)


CANNOT: dict[str, tuple[dict[str, str | bytes], str | None, dict[str, Any], str]] = {
    "nothing": ({}, None, {}, r"and nothing to make it of"),
    "settings alone": ({}, "GPT2Tokenizer", {}, r"and nothing to make it of"),
    "words of an unknown class": (
        {"vocab.txt": "the"},
        None,
        {},
        r"and vocab\.txt cannot become it: .*tokenizer_class",
    ),
    "broken pieces": ({"spiece.model": b"\0" * 99}, "T5Tokenizer", {}, r"and spiece\.model cannot become it"),
    "code to run": (
        {"vocab.txt": "the"},
        "BertTokenizer",
        {"auto_map": {"AutoTokenizer": ["code.Mine", None]}},
        r"names code to run \(auto_map\), which this project never does",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("files", "tokenizer_class", "settings", "reason"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_made_is_said_with_what_follows_and_the_line_that_makes_it(
    tmp_path: Path, files: dict[str, str | bytes], tokenizer_class: str | None, settings: dict[str, Any], reason: str
) -> None:
    folder = older_folder(tmp_path, files, tokenizer_class, **settings)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    said: list[str] = []
    assert load_tokenizer(load_folder(folder), said.append) is None
    (line,) = said
    assert re.search(reason, line)
    assert "Figures are measured on random ids" in line
    assert (
        f"from transformers import AutoTokenizer as A; A.from_pretrained('MODEL').save_pretrained('{folder}')" in line
    )
    assert not (tmp_path / "ran").exists()


def test_files_of_an_older_kind_do_not_count_beside_tokenizer_json(tmp_path: Path) -> None:
    folder = older_folder(tmp_path, {"vocab.txt": "x", "tokenizer.model": b"x"}, "BertTokenizer")
    write_tokenizer(folder / "tokenizer.json")
    assert load_folder(folder).tokenizer_files == ("tokenizer.json", "tokenizer_config.json")


# -- a release


def build(folder: Path, out: Path, *options: object) -> Measured:
    with traced_once():
        outcome = call(
            cli.build,
            *("--tag", "model-v1.0.0", "--model-path", folder, "--precision", "int8-static", "--output", out, *options),
        )
    assert outcome.code == 0, outcome.err
    return measured.read(out)


@pytest.mark.slow
def test_figures_of_a_model_of_something_else_are_measured_on_random_ids_and_say_so(tmp_path: Path) -> None:
    figures = build(chess_folder(tmp_path / "model"), tmp_path / "dist")
    assert {model.agreement.text for model in figures.models} == {"random ids"}
    assert "positions of `random ids`" in render_notes(manifest.read(tmp_path / "dist"), {"": figures})
    assert (tmp_path / "dist/tokenizer.json").read_bytes() == (tmp_path / "model/tokenizer.json").read_bytes()


@pytest.mark.slow
def test_figures_on_a_text_of_ones_own_name_it(tmp_path: Path) -> None:
    text = games(tmp_path / "games.txt")
    options = ("--validation", text, "--calibration", text)
    figures = build(chess_folder(tmp_path / "model", unknown=None), tmp_path / "dist", *options)
    assert {model.agreement.text for model in figures.models} == {"validation text games.txt"}
    assert {model.agreement.positions for model in figures.models} == {16 * 20}


@pytest.mark.slow
def test_a_release_keeps_the_tokenizers_state_and_its_figures_do_not_obey_it(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "model", layers=1, vocab=256, positions=40)
    path = saved(folder / "tokenizer.json", **STATES["padded and truncated"])
    figures = build(folder, tmp_path / "dist")
    assert (tmp_path / "dist/tokenizer.json").read_bytes() == path.read_bytes()
    assert {model.agreement.text for model in figures.models} == {"validation text"}
    assert {model.agreement.positions for model in figures.models} == {16 * 40}


@pytest.mark.slow
def test_a_release_has_all_files_of_a_tokenizer_and_the_one_that_was_made_of_them(tmp_path: Path) -> None:
    folder = older_folder(tmp_path / "model", MERGES, "GPT2Tokenizer")
    build(folder, tmp_path / "dist")
    names = {"vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json", "tokenizer.json"}
    assert names <= set(manifest.read(tmp_path / "dist").names)
    assert not names & {path.name for path in folder.iterdir()} - {*MERGES, "tokenizer_config.json"}
    assert Library.from_file(str(tmp_path / "dist/tokenizer.json")).encode("king<|user|>").ids == [0, 4, 3, 7]
