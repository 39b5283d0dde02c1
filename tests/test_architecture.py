"""The house: which package may import which, and which library lives where."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"
PACKAGE = SCRIPTS / "model_release"

MAX_ENTRY_LINES = 8


def modules() -> dict[str, Path]:
    """Module name below the package -> file; a package stands for its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Every name a file imports, anywhere in it, with its module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inner_imports(path: Path) -> set[str]:
    """The modules of ours that a file imports; packages have nothing to import."""
    known = {name for name, file in modules().items() if file.name != "__init__.py"}
    return {name.removeprefix("model_release.") for name in imported(path)} & known


def test_imports_run_in_no_circle() -> None:
    graph = {name: inner_imports(path) for name, path in modules().items()}
    list(graphlib.TopologicalSorter(graph).static_order())
