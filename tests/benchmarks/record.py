"""A whole run -> the page that shows its figures."""

import re
from pathlib import Path

from measure import BenchmarkError

PLOT = Path(__file__).parent / "measured.svg"

_HERE = PLOT.with_name("README.md")
_MEASURED = r"(<!-- measured: {} -->\n).*?(<!-- end -->)"


def record_run(page: str, plot: str, summary: str) -> None:
    """Writes the summary and the page into the README beside this file, and the plot beside it.

    Raises:
        BenchmarkError: The README has no part for one of them.
    """
    PLOT.write_text(plot, encoding="utf-8")
    document = with_measured(_HERE.read_text(encoding="utf-8"), "summary", summary)
    page = re.sub("^#", "###", page, flags=re.MULTILINE)
    _HERE.write_text(with_measured(document, "page", page), encoding="utf-8")


def with_measured(document: str, part: str, text: str) -> str:
    """A document with `text` between the marks `<!-- measured: part -->` and `<!-- end -->`.

    Raises:
        BenchmarkError: It has not one such part.
    """
    marked = re.compile(_MEASURED.format(part), re.DOTALL)
    written, places = marked.subn(lambda marks: f"{marks[1]}{text}{marks[2]}", document)
    if places != 1:
        raise BenchmarkError(f"the document must have one part measured: {part}, got {places}. Restore its marks.")
    return written
