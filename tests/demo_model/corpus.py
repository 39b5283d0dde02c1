"""Public-domain English out of Debian packages, as documents with a fixed split.

Needs, on Debian or Ubuntu:

    apt-get install --no-install-recommends bible-kjv bible-kjv-text dict-devil miscfiles

Nothing is downloaded by this module: it reads what those packages installed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

APT_PACKAGES = ("bible-kjv", "bible-kjv-text", "dict-devil", "miscfiles")

END_OF_TEXT = "<|endoftext|>"
"""Stands before every document, in training and in the files."""

_DICTIONARY = Path("/usr/share/dictd/devil.dict.dz")
_DICTIONARY_INDEX = Path("/usr/share/dictd/devil.index")
_CONSTITUTION = Path("/usr/share/state/us-constitution.gz")
_DECLARATION = Path("/usr/share/state/us-declaration.gz")

_ETHNIC_INSULTS = frozenset(
    {"african", "hebrew", "minstrel", "mulatto", "negro", "pickaninny", "portuguese", "razor", "redskin", "russian"}
)
"""Entries of 1911 that are little but an insult to a people; a demo has no use for them."""

_PARAGRAPH_CHARS = 500
_ATTRIBUTION_INDENT = 30
_DICT_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class MissingTextError(RuntimeError):
    """A text the corpus is made of is not installed."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text that is never cut in two by the split: a chapter, an entry, a section."""

    source: str
    name: str
    text: str

    @property
    def size_bytes(self) -> int:
        """UTF-8 bytes of the text, without the mark before it."""
        return len(self.text.encode())


@dataclass(frozen=True, kw_only=True)
class Split:
    """The four parts. `calibration` lies inside `train`; the other two lie outside it."""

    train: tuple[Document, ...]
    calibration: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]


def read_documents() -> list[Document]:
    """Read every document of the three sources, in the order of the books.

    Returns:
        The documents; all of them are plain ASCII.

    Raises:
        MissingTextError: A package is not installed.
    """
    if shutil.which("bible") is None:
        raise MissingTextError(_advice("the program `bible`"))
    for path in (_DICTIONARY, _DICTIONARY_INDEX, _CONSTITUTION, _DECLARATION):
        if not path.exists():
            raise MissingTextError(_advice(str(path)))
    return [*_king_james_bible(), *_devils_dictionary(), *_us_state_papers()]


def split_documents(documents: Sequence[Document], *, held_out_share: float, calibration_share: float) -> Split:
    """Divide the documents, the same way on every machine.

    Each source gives the same share of its bytes to each part. Which documents they are is
    decided by the SHA-256 of their names, so a new document moves no old one far.

    Args:
        documents: Everything that was read.
        held_out_share: Share of the bytes for `validation`, and again for `test`.
        calibration_share: Share of the bytes of `train` that `calibration` repeats.

    Returns:
        The parts, each in reading order.
    """
    parts: dict[str, str] = {}
    for source in dict.fromkeys(document.source for document in documents):
        drawn = sorted(
            (document for document in documents if document.source == source),
            key=lambda document: hashlib.sha256(document.name.encode()).digest(),
        )
        total_bytes = sum(document.size_bytes for document in drawn)
        rest = iter(drawn)
        for part, share in (
            ("validation", held_out_share),
            ("test", held_out_share),
            ("calibration", calibration_share),
        ):
            taken_bytes = 0
            while taken_bytes < share * total_bytes:
                document = next(rest)
                parts[document.name] = part
                taken_bytes += document.size_bytes

    def part_of(*names: str) -> tuple[Document, ...]:
        return tuple(document for document in documents if parts.get(document.name, "train") in names)

    return Split(
        train=part_of("train", "calibration"),
        calibration=part_of("calibration"),
        validation=part_of("validation"),
        test=part_of("test"),
    )


def as_stream(documents: Iterable[Document]) -> str:
    r"""Write documents as one text, exactly as the model reads them.

    >>> as_stream([Document(source="s", name="a", text="One."), Document(source="s", name="b", text="Two.")])
    '<|endoftext|>One.\n<|endoftext|>Two.\n'
    """
    return "".join(f"{END_OF_TEXT}{document.text}\n" for document in documents)


def _advice(missing: str) -> str:
    return f"The corpus must be installed, {missing} is missing. Run: apt-get install {' '.join(APT_PACKAGES)}"


def _king_james_bible() -> list[Document]:
    """One document a chapter: its verses run together, without their numbers."""
    # `-f` turns the pretty printing off: one verse a line, "Ge1:1 In the beginning ...".
    printed = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], check=True, capture_output=True, text=True).stdout
    chapters: dict[str, list[str]] = {}
    for line in printed.splitlines():
        reference, _, verse = line.partition(" ")
        if verse:
            chapters.setdefault(reference.partition(":")[0], []).append(verse.strip())
    return [
        Document(source="King James Bible", name=f"kjv/{chapter}", text=_paragraphs(verses))
        for chapter, verses in chapters.items()
    ]


def _paragraphs(verses: Sequence[str]) -> str:
    """Join verses to prose, with a new paragraph at a sentence's end every few hundred characters."""
    paragraphs = [""]
    for verse in verses:
        if len(paragraphs[-1]) >= _PARAGRAPH_CHARS and paragraphs[-1].endswith((".", "?", "!")):
            paragraphs.append("")
        paragraphs[-1] = f"{paragraphs[-1]} {verse}".strip()
    return "\n\n".join(paragraphs)


def _devils_dictionary() -> list[Document]:
    """One document an entry, cut by the dictionary's own index."""
    # A dictzip file is a gzip file; the index counts bytes of what is inside.
    content = gzip.decompress(_DICTIONARY.read_bytes())
    documents: dict[tuple[int, int], Document] = {}
    for line in _DICTIONARY_INDEX.read_text().splitlines():
        headword, offset, length = line.split("\t")
        if headword.startswith("00database") or headword in _ETHNIC_INSULTS:
            continue
        place = (_dict_number(offset), _dict_number(length))
        entry = content[place[0] : sum(place)].decode()
        documents[place] = Document(
            source="The Devil's Dictionary", name=f"devil/{headword}/{place[0]}", text=_entry_text(entry)
        )
    return [documents[place] for place in sorted(documents) if documents[place].text]


def _dict_number(digits: str) -> int:
    """Read a number of a dictd index, in base 64 (dictd's `data.c`).

    >>> _dict_number("Cf")
    159
    """
    value = 0
    for digit in digits:
        value = value * 64 + _DICT_DIGITS.index(digit)
    return value


def _entry_text(entry: str) -> str:
    """Unwrap the prose of an entry, keep the lines of its verse, drop who is said to have written it."""
    blocks = []
    for block in re.split(r"\n\s*\n", entry):
        lines = [line for line in block.splitlines() if _indent(line) < _ATTRIBUTION_INDENT]
        if lines and all(_indent(line) for line in lines):
            blocks.append("\n".join(_plain(line) for line in lines))
        elif lines:
            blocks.append(_unwrap("\n".join(lines)))
    return "\n\n".join(block for block in blocks if block)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _us_state_papers() -> list[Document]:
    """The Declaration of Independence, and the Constitution, one document a section or amendment."""
    declaration = gzip.decompress(_DECLARATION.read_bytes()).decode().partition("The signers of")[0]
    constitution = gzip.decompress(_CONSTITUTION.read_bytes()).decode()
    sections = re.split(r"(?m)^(?:Article|Section|Amendment)s?\b[^.,\n]*$", constitution)
    named = [("declaration", declaration)]
    named += [(f"constitution/{number}", section) for number, section in enumerate(sections)]
    documents = []
    for name, text in named:
        paragraphs = [_unwrap(block) for block in re.split(r"\n\s*\n", text)]
        # Titles end without a stop, and notes of ratification are no part of the text.
        kept = [line for line in paragraphs if re.search(r"[.,;:-]$", line) and "Ratified" not in line]
        if kept:
            documents.append(Document(source="United States state papers", name=name, text="\n\n".join(kept)))
    return documents


def _unwrap(block: str) -> str:
    r"""Join the lines of a paragraph, mending words that were hyphenated at a line's end.

    >>> _unwrap("arrival of a cannon-\nshot and  the _departure_")
    'arrival of a cannon-shot and the departure'
    """
    return _plain(re.sub(r"(?<=[a-z])-\n", "-", block.strip("\n")))


def _plain(text: str) -> str:
    """Remove the marks of emphasis and cross-reference, and single the spaces."""
    return re.sub(r"\s+", " ", re.sub(r"[_{}]| \[sic\]", "", text)).strip()
