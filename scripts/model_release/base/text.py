"""Text for people: one line, short quotes, tables that align, sizes."""

import re
from collections.abc import Sequence


def one_line(text: str) -> str:
    """Text that cannot start a line of its own.

    Configs, servers, options and file names may hold newlines or control characters; the promise is
    one line, and a workflow command such as `::error::` must not begin one.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shortened(text: str, *, word: int = 300, whole: int = 1500) -> str:
    """A message whose long words, and which itself, lose their middle: its end says what to do.

    >>> shortened("got " + "x" * 20 + ". Give less.", word=10), shortened("a b c d e f g h. Go.", whole=14)
    ('got xxxxxx...xxx. Give less.', 'a b c d e.... Go.')
    """

    def cut(long: str, limit: int) -> str:
        return long if len(long) <= limit else f"{long[: limit * 2 // 3]}...{long[-(limit - limit * 2 // 3) :]}"

    return cut(re.sub(r"\S+", lambda match: cut(match[0], word), text), whole)


_LOGINS = re.compile(r"(?<=//)[^/\s'\"]*@|(?<![^\s'\"=])[^/\s'\":=@]+:[^/\s'\"=]*@")
_KEYS = re.compile(r"([?&][^=&\s]*(?:credential|key|password|secret|sig|token)[^=&\s]*=)[^&#\s'\"]+", re.IGNORECASE)


def discreet(text: str) -> str:
    """A text whose addresses tell neither their login nor the keys of their query.

    >>> discreet("got 'https://me:pw@host/x?v=1&X-Amz-Signature=ab12'"), discreet("me:pw@host/x"), discreet("a@b.c")
    ("got 'https://***@host/x?v=1&X-Amz-Signature=***'", '***@host/x', 'a@b.c')
    """
    return _KEYS.sub(r"\1***", _LOGINS.sub("***@", text))


def quoted(text: str, limit: int = 60) -> str:
    """Foreign text as a short quote, in which nothing is left that a terminal, a log or a workflow command acts on.

    >>> quoted("a" * 6), quoted("a" * 7, 6)
    ("'aaaaaa'", "'aaaaaa...'")
    """
    text = discreet(text)
    return ascii(text if len(text) <= limit else f"{text[:limit]}...")


def first_lines(failure: BaseException, count: int = 1) -> str:
    """What a library says of a failure, as far as it fits in a sentence; its class if it says nothing.

    >>> first_lines(ValueError("no shape, 3 nodes")), first_lines(KeyError())
    ('no shape, 3 nodes', 'KeyError')
    """
    text = getattr(failure, "strerror", None) or str(failure)
    return " ".join(str(text).strip().splitlines()[:count])[:300] or type(failure).__name__


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns that align; those in `right` to the right.

    >>> print(table(["file", "MB"], [["a.onnx", "7.1"], ["b.onnx", "12.0"]], right=[1]))
    file      MB
    a.onnx   7.1
    b.onnx  12.0
    """
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """The same as a Markdown table.

    >>> print(markdown_table(["file", "MB"], [["a.onnx", "7.1"]], right=[1]))
    | file | MB |
    |---|---:|
    | a.onnx | 7.1 |
    """
    rule = "|".join("---:" if column in right else "---" for column in range(len(header)))
    lines = [f"| {' | '.join(header)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def megabytes(size_bytes: float) -> str:
    """Bytes as MB (10^6), with one decimal below 100 MB.

    >>> megabytes(3_700_000), megabytes(497_853_923)
    ('3.7', '498')
    """
    return f"{size_bytes / 1e6:.1f}" if size_bytes < 100e6 else f"{size_bytes / 1e6:.0f}"


def size_cell(size_bytes: float) -> str:
    """Bytes for a column of MB; what is below 0.1 MB says its kB.

    >>> size_cell(3_700_000), size_cell(41_260), size_cell(118)
    ('3.7', '41.3 kB', '0.1 kB')
    """
    return megabytes(size_bytes) if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def figure(value: float | None, form: str) -> str:
    """A number in a form, or a dash for one that could not be had.

    >>> figure(1.23456, ".2f"), figure(None, ".2f")
    ('1.23', '–')
    """
    return "–" if value is None else format(value, form)
