r"""Edits keys of a dotenv file and leaves every other byte alone: text in, text out.

Vite up to 7 reads env files with the npm package `dotenv`, Vite 8 with Node's `util.parseEnv`; both then
use `dotenv-expand`, which replaces `$NAME` and `${NAME}` and turns `\$` into `$`. It finds
assignments exactly as `dotenv` does, and writes only forms that each of them reads back as the wanted
value; what has no such form is refused. Some layouts are for `dotenv` alone: Node ignores `KEY: value` and
a key right behind a BOM, and reads on into the next line after `OTHER= ` or a quote left open.

Sources: `LINE` and `parse` in dotenv's lib/main.js (the same from 16 to 18), `expand` in dotenv-expand's
lib/main.js (11 to 13, 1000), `loadEnv` in vite's src/node/env.ts, `ParseContent` in node's src/node_dotenv.cc.

Bytes become text by `decode` and bytes again by `encode`; a BOM, any mix of line endings and bytes that are no
UTF-8 come out as they went in. A file that does not hold ASCII as it is (UTF-16, UTF-32) is refused: Vite reads
UTF-8, and would find none of its keys but ours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from model_release.base.errors import EnvFileError
from model_release.base.text import discreet

_SPACE = r"[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"  # JavaScript's \s
_LINE_END = r"[\n\r\u2028\u2029]"  # where JavaScript's ^ and $ match

_SPACES = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))

# dotenv's LINE, part by part, each of which is looked for once: as one expression it takes a time that grows with
# the square of blank lines. dotenv turns "\r\n" and "\r" into "\n" beforehand; here they are taken as they are, so
# that offsets are those of the file.
_INDENT = re.compile(rf"{_SPACE}*+")
_NEXT_LINE = re.compile(rf"{_LINE_END}{_SPACE}*+")
_HEAD = re.compile(
    rf"(?:export{_SPACE}++)?(?P<key>[A-Za-z0-9_.\-]++)(?:{_SPACE}*+=|:(?>\r\n|{_SPACE}))",
)
_OPENING = re.compile(rf"{_SPACE}*+(['\"`])")
_UNQUOTED = re.compile(r"[^#\r\n]*+")
_ENDING = re.compile(rf"(?:(?!{_LINE_END}){_SPACE})*+(?:{_LINE_END}|\#|\Z)")

_QUOTES = ("'", '"', "`")
_QUOTE_AT_START = re.compile(rf"(?:\A|(?<={_LINE_END}))['\"`]")
_QUOTE_AT_END = re.compile(rf"['\"`](?={_LINE_END}|\Z)")

# What some version of dotenv-expand replaces: a name (11 takes digits and dots too), or a command in
# brackets (1000 runs it). Any other dollar sign, or one behind a backslash, stands for itself.
_REFERENCE = re.compile(r"(?<!\\)\$[\w.{(]", re.ASCII)


_SHOWN = 5  # Lines that a message names.
_SHOWN_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class _Assignment:
    """One `KEY=value` of a file: what `dotenv` reads, before `dotenv-expand`, and where it stands."""

    key: str
    value: str
    quote: str  # the quote around the value, or nothing
    key_start: int
    start: int  # offset of the value, its quotes included and the space around it not
    end: int


def set_values(text: str, values: Mapping[str, str]) -> str:
    r"""Returns `text` with each key assigned its value; nothing else changes.

    The edited line keeps its `export`, spacing, quotes (other quotes only where the value needs them),
    inline comment and line ending. A key that is not there is appended, with the line ending the file
    uses most. Where every key already reads as its value, the identical text comes back.

    >>> set_values("# app\nVITE_MODEL_VERSION = '1'  # set by a release\n", {"VITE_MODEL_VERSION": "2"})
    "# app\nVITE_MODEL_VERSION = '2'  # set by a release\n"

    Args:
        text: The file, from `decode`.
        values: What Vite shall read, by key. New keys are appended in this order.

    Raises:
        EnvFileError: A key is no identifier or is assigned twice, a value has no form that every reader
            reads back, or a value does not stand on the line of its key.
    """
    for key, value in values.items():
        _check(key, value)
        text = _set_value(text, key, value)
    return text


def get_value(text: str, key: str) -> str | None:
    r"""Returns what Vite reads for `key` from this text alone, or None if `key` is not assigned.

    The last assignment wins, and `\$` reads as `$`.

    Args:
        text: The file, from `decode`.
        key: The name.

    Raises:
        EnvFileError: The value refers to another variable, `$NAME`. The file alone does not tell its
            value, because the variables of the process come before the file's.
    """
    found = [assignment for assignment in _assignments(text) if assignment.key == key]
    if not found:
        return None
    value = _expanded(found[-1].value)
    if value is None:
        raise EnvFileError(
            f"{key} must be a plain value, got the reference {_shown(found[-1].value)} on line "
            f"{_line(text, found[-1])}. Write the value itself, or a dollar sign as \\$."
        )
    return value


def _check(key: str, value: str) -> None:
    """Refuses a key that is no identifier, and values that no form makes safe for every reader."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        raise EnvFileError(f"A key must be letters, digits and _, got {_shown(key)}. Use e.g. VITE_MODEL_URL.")
    # Not printable: control characters, line and paragraph separators, invisible marks, lone surrogates.
    if not value.isprintable():
        raise EnvFileError(f"{key} must be printable text on one line, got {_shown(value)}. Remove the rest.")
    # dotenv-expand 11 and 12 read a backslash before `\$` differently; 1000 runs `$(...)` even if escaped.
    if r"\$" in value or "$(" in value:
        raise EnvFileError(rf"{key} must not hold '\$' or '$(', got {_shown(value)}. Remove the dollar sign.")


def _set_value(text: str, key: str, value: str) -> str:
    """Sets one key; tries the line's own quotes first, then the others."""
    before = _assignments(text)
    ours = [assignment for assignment in before if assignment.key == key]
    if len(ours) > 1:
        lines = ", ".join(_line(text, assignment) for assignment in ours[:_SHOWN]) + ", ..." * (len(ours) > _SHOWN)
        raise EnvFileError(f"{key} must be assigned once, got it on lines {lines}. Delete all but one of them.")
    at = ours[0] if ours else None
    if at and _expanded(at.value) == value:
        return text
    if at and re.search(_LINE_END, text[at.key_start : at.start]):
        raise EnvFileError(f"{key} must share a line with its value, got a break at {_line(text, at)}. Join the lines.")
    for quote in (at.quote if at else "", "", '"', "'", "`"):
        if not _fits(quote, value):
            continue
        written = quote + value.replace("$", r"\$") + quote
        edited = text[: at.start] + written + text[at.end :] if at else _with_line(text, f"{key}={written}")
        # An open quote or a "name:" further up can swallow what is written here: ask the reader.
        after = _assignments(edited)
        now = [_expanded(assignment.value) for assignment in after if assignment.key == key]
        if now == [value] and _others(after, key) == _others(before, key):
            return edited
    raise EnvFileError(
        f"{key} must have a value that can stand beside the file's other lines, got {_shown(value)}. Use fewer "
        "kinds of quotes in it, and close the quotes of the other lines."
    )


def _fits(quote: str, value: str) -> bool:
    """Tells whether the value can stand between these quotes (or none) for every reader."""
    if not quote:  # An empty value gets quotes: Node would read `KEY= ` on into the next line.
        return value == value.strip(" ") != "" and "#" not in value and value[0] not in "'\"`"
    if quote == '"' and "\\" in value:
        return False  # A backslash and an n would be read as a line break.
    return quote not in value and not value.endswith("\\")  # To dotenv, a backslash keeps quotes open.


def _assignments(text: str) -> list[_Assignment]:
    """Returns what dotenv finds, in the file's order, duplicates included."""
    found = []
    line = _INDENT.match(text)
    while line:
        head = _HEAD.match(text, line.end())
        if head is None:
            line = _NEXT_LINE.search(text, line.end())
            continue
        end = _value_end(text, head.end())
        line = _NEXT_LINE.search(text, end)
        raw = text[head.end() : end]
        trimmed = raw.strip(_SPACES)
        start = head.end() + (len(raw) - len(raw.lstrip(_SPACES)) if trimmed else 0)
        value = _without_quotes(re.sub(r"\r\n?", "\n", trimmed) if "\r" in trimmed else trimmed)
        if trimmed.startswith('"'):
            value = value.replace(r"\n", "\n").replace(r"\r", "\r")
        place = {"key_start": head.start("key"), "start": start, "end": start + len(trimmed)}
        found.append(_Assignment(key=head["key"], value=value, quote=_quote_around(trimmed), **place))
    return found


def _value_end(text: str, start: int) -> int:
    """Where a value that begins at `start` ends: behind its quotes, if nothing but a comment follows them on the line.

    A quote behind a backslash ends a value only where no other one does.
    """
    if opening := _OPENING.match(text, start):
        closing = []
        at = text.find(opening[1], opening.end())
        while at >= 0 and text[at - 1] == "\\":
            closing.append(at)
            at = text.find(opening[1], at + 1)
        if at >= 0:
            closing.append(at)
        for at in reversed(closing):
            if _ENDING.match(text, at + 1):
                return at + 1
    unquoted = _UNQUOTED.match(text, start)
    return unquoted.end() if unquoted else start


def _without_quotes(value: str) -> str:
    r"""A value without the quotes around each group of lines that has them: JavaScript's `/^(['"`])([^]*)\1$/gm`."""
    last = _last_quotes(value)
    if not last:
        return value
    parts, position = [], 0
    for opening in _QUOTE_AT_START.finditer(value):
        closing = last.get(opening[0], -1)
        if opening.start() >= position and closing > opening.start():
            parts += [value[position : opening.start()], value[opening.end() : closing]]
            position = closing + 1
    return "".join([*parts, value[position:]])


def _quote_around(value: str) -> str:
    """The quote that the value's first lines stand in, if they do."""
    return value[0] if value.startswith(_QUOTES) and _last_quotes(value).get(value[0], 0) > 0 else ""


def _last_quotes(value: str) -> dict[str, int]:
    """Where each kind of quote ends a line for the last time."""
    return {match[0]: match.start() for match in _QUOTE_AT_END.finditer(value)}


def _others(assignments: list[_Assignment], key: str) -> list[tuple[str, str]]:
    return [(assignment.key, assignment.value) for assignment in assignments if assignment.key != key]


def _expanded(value: str) -> str | None:
    """Returns the value after dotenv-expand, or None if it refers to something outside it."""
    return None if _REFERENCE.search(value) else value.replace(r"\$", "$")


def _with_line(text: str, line: str) -> str:
    """Returns the text with one more line, ended the way most of its lines are."""
    crlf = text.count("\r\n")
    counts = {"\n": text.count("\n") - crlf, "\r\n": crlf, "\r": text.count("\r") - crlf}
    ending = max(counts, key=counts.__getitem__)
    return text + ("" if not text or text.endswith(("\n", "\r")) else ending) + line + ending


def _line(text: str, assignment: _Assignment) -> str:
    """Returns the number of the key's line as an editor counts it, from 1."""
    return str(1 + len(re.findall(r"\r\n?|\n", text[: assignment.key_start])))


def _shown(text: str) -> str:
    """Returns a short, printable form for a message."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")


MAX_BYTES = 1 << 18
"""The longest env file that is read; people's have a few hundred bytes."""


URL_KEY = "VITE_MODEL_URL"


VERSION_KEY = "VITE_MODEL_VERSION"


def decode(content: bytes, name: str) -> str:
    """An env file's text.

    Args:
        content: Its bytes.
        name: The file, for a message.

    Raises:
        EnvFileError: It holds ASCII otherwise than ASCII does, in all of it or in a part that was appended.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        got = "the byte order mark of UTF-16"
    elif b"\0" in content:
        got = f"a zero byte on line {1 + content[: content.index(0)].count(10)}, as UTF-16 has"
    else:
        return content.decode("utf-8", errors="surrogateescape")
    raise EnvFileError(f"{name} must be UTF-8, got {got}. Save it as UTF-8; > and >> of Windows PowerShell do not.")


def encode(text: str) -> bytes:
    """The bytes of an env file's text."""
    return text.encode("utf-8", errors="surrogateescape")


def edited(content: bytes, values: Mapping[str, str], name: str) -> bytes:
    """An env file's bytes with our keys set; `name` is the file's, for a message.

    Raises:
        EnvFileError: See `decode` and `set_values`.
    """
    return encode(set_values(decode(content, name), values))


def changed_lines(before: bytes, after: bytes) -> list[str]:
    """The lines that differ, marked with - and +, fit for a log."""
    old, new = (content.decode("utf-8", errors="replace").splitlines() for content in (before, after))
    kept = {*old} & {*new}
    marked = [f"  - {line}" for line in old if line not in kept] + [f"  + {line}" for line in new if line not in kept]
    return ["".join(c if c.isprintable() else " " for c in discreet(line)[:_SHOWN_CHARS]) for line in marked]
