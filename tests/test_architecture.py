"""The house: which room may import which, and which library lives where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
PACKAGE = SCRIPTS / "model_release"

# From the door inwards; a room imports only rooms on lines below its own.
FLOORS = [
    {"entry"},
    {"cli"},
    {"cli.app", "cli.model", "cli.releasing", "cli.workflow"},
    {"cli.places"},
    {"cli.options", "cli.actions"},
    {"documents", "chain", "fetching", "runplan"},
    {"building", "apptree", "browsing", "recording"},
    {"steps", "page.live", "mirroring", "publishing", "pointing"},
    {"probing"},
    {"notes", "page.render"},
    {"report"},
    {"verification", "page.sample", "trials"},
    {
        "hub",
        "text",
        "reference",
        "precision",
        "tracing",
        "hosts.local",
        "hosts.s3",
        "hosts.hub",
        "hosts.github",
        "downloading",
        "hosts.github_app",
    },
    {"precision.integers", "precision.stored"},
    {"precision.compensation"},
    {"precision.blocks", "precision.calibration", "precision.halves"},
    {"precision.codebook", "precision.editing"},
    {
        "weights",
        "runtime",
        "capture",
        "graph",
        "unrolling",
        "hosts",
        "hosts.github_api",
        "hub_client",
        "sources",
        "hosts.github_deploy",
    },
    {"pickled", "modelfile"},
    {"checks", "structure", "plan", "appfiles", "appplan", "shadows"},
    {"figures", "metadata", "manifest", "envfile", "tags", "measures"},
    {"registry", "findings"},
    {"contract"},
    {"architecture", "datafiles", "storage"},
    {"npm"},
    {"files", "web", "serving", "chromium"},
    {"patience", "github_actions"},
    {"errors", "page", "page.plot", "version"},
]

HOMES = {
    "torch": {"capture", "reference", "pickled"},
    "transformers": {"capture", "reference"},
    "onnx": {"modelfile"},
    "onnx_ir": {
        "capture",
        "graph",
        "modelfile",
        "precision",
        "precision.calibration",
        "precision.editing",
        "precision.halves",
        "precision.integers",
        "precision.stored",
        "tracing",
        "unrolling",
    },
    "onnxscript": {"graph"},
    "onnxruntime": {"runtime"},
    "click": {
        "cli",
        "cli.app",
        "cli.model",
        "cli.actions",
        "cli.options",
        "cli.releasing",
        "cli.workflow",
        "documents",
    },
    "huggingface_hub": {"hub", "hub_client", "hosts.hub", "capture"},
    "httpx2": {"hub_client"},
    "safetensors": {"weights"},
    "tokenizers": {"text", "page.sample"},
    "jinja2": {"page.render"},
    "jsonschema": {"manifest"},
    "requests": {"web", "hosts.github_api"},
    "github": {"hosts.github", "hosts.github_api", "hosts.github_app", "hosts.github_deploy"},
    "urllib3": {"web"},
    "playwright": {"chromium"},
}


def rooms() -> dict[str, Path]:
    """Module name below the package -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor_of(room: str) -> int:
    (floor,) = [index for index, rooms_there in enumerate(FLOORS) if room in rooms_there]
    return floor


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    known = rooms()
    inner = {name.removeprefix("model_release.") for name in imports(known[room])} & known.keys()
    assert {name for name in inner if floor_of(name) <= floor_of(room)} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_is_imported_only_where_it_lives(library: str) -> None:
    users = {room for room, path in rooms().items() if library in {name.split(".")[0] for name in imports(path)}}
    assert users == HOMES[library]


def test_every_room_stands_in_the_map() -> None:
    plan = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert [room for room in rooms() if f"\n    {room.split('.')[0]} " not in plan] == []


def test_only_entry_files_stand_in_scripts() -> None:
    for path in SCRIPTS.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 8, f"{path.name} does more than hand over"


@pytest.mark.parametrize(
    "room", ["contract", "checks", "structure", "manifest", "plan", "envfile", "tags", "metadata", "publishing"]
)
def test_the_lower_row_loads_without_heavy_libraries(room: str) -> None:
    code = f"import sys, model_release.{room}; print(sorted({set(HOMES) - {'jsonschema'}!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
