"""The house: which package may import which, and which library lives where."""

import ast
import graphlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PACKAGE = SCRIPTS / "model_release"

MAX_ENTRY_LINES = 8

ARROWS = {
    "base": set(),
    "contract": {"base"},
    "hosts": {"base", "contract"},
    "model": {"base", "contract"},
    "app": {"base", "contract", "hosts"},
    "browser": {"base", "contract", "model"},
    "release": {"base", "contract", "hosts", "model", "app", "browser"},
    "cli": {"base", "contract", "hosts", "model", "app", "browser", "release"},
}
"""Which packages each package imports: all of these arrows are used, and there are no others."""

HOMES = {
    "click": {"cli"},
    "github": {
        "base.github_client",
        "hosts.github",
        "hosts.github_assets",
        "hosts.github_settings",
        "app.branches",
        "app.pulls",
        "app.deploy",
    },
    "requests": {"base.github_client", "base.http", "base.timed_session"},
    "urllib3": {"base.http", "base.timed_session"},
    "httpx2": {"base.hub_client"},
    "huggingface_hub": {"base.hub_client", "hosts.mirror_hub", "model.weights.hub", "model.export.network"},
    "jsonschema": {"contract.typed_json"},
    "pathspec": {"app.rules"},
    "torch": {"model.weights.pickle_file", "model.export", "model.verify.reference"},
    "transformers": {"model.export", "model.weights.tokenizer_child"},
    "safetensors": {"model.weights.safetensors_file"},
    "sentencepiece": {"model.weights.tokenizer_child"},
    "tokenizers": {"model.weights.tokenizer_child"},
    "onnx": {"model.onnx_files.file", "model.onnx_files.limits"},
    "onnx_ir": {"model.onnx_files", "model.export", "model.precision"},
    "onnxscript": {"model.export.passes"},
    "onnxruntime": {"model.onnx_files.session"},
    "cyclonedx": {"release.bom"},
    "packageurl": {"release.bom"},
    "jinja2": {"browser.pages.render"},
    "playwright": {"browser.chromium"},
}
"""Where a library lives: modules, or a package any of whose modules may import it."""

LIGHT = ("click", "jsonschema", "pathspec", "requests", "urllib3", "github")
"""What the jobs that plan, publish and fetch have installed."""


@cache
def modules() -> dict[str, Path]:
    """Module name below the package -> file; a package stands for its `__init__`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def imported(path: Path) -> frozenset[str]:
    """Every name a file imports, anywhere in it, with its module."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
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


@pytest.mark.parametrize("package", ARROWS)
def test_a_package_imports_exactly_the_packages_its_arrows_name(package: str) -> None:
    of_it = [path for name, path in modules().items() if name.split(".")[0] == package]
    assert {name.split(".")[0] for path in of_it for name in inner_imports(path)} - {package} == ARROWS[package]


def test_every_module_is_in_a_package_with_arrows() -> None:
    assert {name.split(".")[0] for name in modules() if name} == set(ARROWS)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_where_it_lives(library: str) -> None:
    users = {name for name, path in modules().items() if library in {each.split(".")[0] for each in imported(path)}}
    homes = {home for home in HOMES[library] for user in users if f"{user}.".startswith(f"{home}.")}
    strangers = {user for user in users if not any(f"{user}.".startswith(f"{home}.") for home in homes)}
    assert (strangers, homes) == (set(), HOMES[library])


def test_every_library_has_a_home() -> None:
    used = {name.split(".")[0] for path in modules().values() for name in imported(path)}
    everywhere = {"model_release", "numpy", "google"}  # Arrays are common language; google.protobuf comes with onnx.
    assert used - set(sys.stdlib_module_names) - everywhere == set(HOMES)


def test_an_init_is_a_charter_and_the_map_has_it() -> None:
    plan = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    charters = {}
    for name, path in modules().items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert [type(node) for node in tree.body] == [ast.Expr], f"{name} does more than say what it is"
            charters[name] = ast.get_docstring(tree)
    mapped = [line.split(maxsplit=1) for line in plan.splitlines() if line.startswith("    ")]
    assert mapped == [[package, charters[package]] for package in ARROWS]


OWN_FILES = {"browser.npm", "browser.pages.render", "cli.docs", "contract.families", "contract.typed_json"}
"""Modules that also read files which come with this project, by name."""


def plain_reads(path: Path) -> Iterator[str]:
    """Reads of a file that ask neither what it is nor how large."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            mode = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            if node.func.attr in ("read_bytes", "read_text") or (node.func.attr == "open" and mode == ["rb"]):
                yield f"{path.name}:{node.lineno}"


def test_files_are_opened_in_one_place() -> None:
    reading = {name for name, path in modules().items() if list(plain_reads(path))}
    assert reading == OWN_FILES


def test_only_entry_files_stand_in_scripts() -> None:
    for path in SCRIPTS.glob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MAX_ENTRY_LINES, f"{path.name} does more than hand over"


NEEDED = [name for name in modules() if name.split(".")[0] in ("contract", "app", "hosts")]


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The libraries that each module brings along; one process loads them all, the hub's own last."""
    names = sorted(NEEDED, key=lambda name: (name == "hosts.mirror_hub", name))
    code = (
        "import importlib, json, sys\n"
        "known, loaded = set(), {}\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(f'model_release.{name}')\n"
        f"    loaded[name] = sorted(set({sorted(HOMES)!r}) & set(sys.modules) - known)\n"
        "    known |= set(loaded[name])\n"
        "print(json.dumps(loaded))"
    )
    return dict(json.loads(python(code)))


@pytest.mark.parametrize("name", NEEDED)
def test_what_publishing_and_fetching_need_loads_nothing_heavy(name: str, loaded: dict[str, list[str]]) -> None:
    allowed = {*LIGHT, *(("huggingface_hub", "httpx2") if name == "hosts.mirror_hub" else ())}
    assert set(loaded[name]) <= allowed


@pytest.mark.parametrize("command", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_help_loads_no_library_but_click(command: str) -> None:
    libraries = sorted(set(HOMES) - {"click"} | {"numpy"})
    code = (
        f"import sys, runpy; sys.argv = ['{command}.py', '--help']\n"
        f"try: runpy.run_path('{command}.py', run_name='__main__')\n"
        f"except SystemExit as end: assert not end.code\n"
        f"print(sorted(set({libraries!r}) & set(sys.modules)))"
    )
    assert python(code).splitlines()[-1] == "[]"


def python(code: str) -> str:
    """What a fresh Python prints for some code."""
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    return done.stdout
