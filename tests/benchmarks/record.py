"""A whole run -> the documents that show its figures."""

import re
from pathlib import Path

from measure import BenchmarkError

PLOT = Path(__file__).parent / "measured.svg"

_HERE = PLOT.with_name("README.md")
_PROJECT = Path(__file__).resolve().parents[2] / "README.md"
_MEASURED = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


def record_run(page: str, plot: str, summary: str) -> None:
    """Writes the page into the README beside this file, the plot beside it, the summary into the project's README.

    Raises:
        BenchmarkError: A document has no part for measurements.
    """
    PLOT.write_text(plot, encoding="utf-8")
    for document, text in ((_HERE, re.sub("^#", "###", page, flags=re.MULTILINE)), (_PROJECT, summary)):
        document.write_text(with_measured(document.read_text(encoding="utf-8"), text), encoding="utf-8")


def with_measured(document: str, text: str) -> str:
    """A document with `text` between its marks `<!-- measured -->` and `<!-- end -->`.

    Raises:
        BenchmarkError: It has not one such part.
    """
    written, places = _MEASURED.subn(lambda marks: f"{marks[1]}{text}{marks[2]}", document)
    if places != 1:
        raise BenchmarkError(f"a document must have one part for measurements, got {places}. Restore its marks.")
    return written
