"""The project's JavaScript: types and lint without a finding, and both find what is wrong."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from model_release.browser import npm
from model_release.browser.pages.render import ASSETS, render_live
from pages import hostile_report

TESTS = Path(__file__).parents[1]
CHECKS = TESTS / "javascript"
TYPED_APP = TESTS / "typed_app"
TRANSFORMERS_JS = TESTS / "transformers_js"
PROJECTS = (CHECKS, CHECKS / "node", TYPED_APP, TRANSFORMERS_JS)


@pytest.fixture(scope="module")
def checkers(tool: Callable[[Callable[[], Path]], Path]) -> Path:
    """Where `tsc` and `biome` are; the packages that the checked code imports are installed, too."""
    folders = (npm.BROWSER, TYPED_APP, TRANSFORMERS_JS, CHECKS)
    installed = [tool(partial(npm.install, folder)) for folder in folders]
    return installed[-1] / ".bin"


@pytest.fixture(params=["report", "live"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A page as it is shipped."""
    return (hostile_report(tmp_path / "dist") if request.param == "report" else render_live("A text")).decode()


def check_types(checkers: Path, project: Path) -> str:
    """What `tsc` finds in a project."""
    done = subprocess.run([checkers / "tsc", "-p", project], capture_output=True, text=True)
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout


def lint(checkers: Path, command: str, *arguments: object) -> str:
    """What `biome` finds."""
    options = ("--colors=off", "--error-on-warnings", f"--config-path={CHECKS / 'lint.jsonc'}")
    done = subprocess.run(
        [checkers / "biome", command, *options, *map(str, arguments)], cwd=TESTS.parent, capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def script_of(page: str) -> str:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return str(script)


def copy_scripts(folder: Path) -> None:
    """The pages' and the gate's scripts."""
    shutil.copytree(ASSETS, folder)
    shutil.copy(npm.BROWSER / "gate.mjs", folder)


def change(file: Path, right: str, wrong: str) -> None:
    """Makes a mistake in a script."""
    script = file.read_text(encoding="utf-8")
    assert script.count(right) == 1
    file.write_text(script.replace(right, wrong), encoding="utf-8")


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_the_types_fit(checkers: Path, project: Path) -> None:
    assert check_types(checkers, project) == ""


@pytest.mark.usefixtures("checkers")
def test_the_example_s_types_fit_the_oldest_typescript_too() -> None:
    tsc = TYPED_APP / "node_modules" / "typescript-5.4" / "bin" / "tsc"
    done = subprocess.run(["node", tsc, "-p", TYPED_APP], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_script_is_left_out(checkers: Path) -> None:
    seen = set()
    for project in PROJECTS:
        done = subprocess.run([checkers / "tsc", "-p", project, "--listFilesOnly"], capture_output=True, text=True)
        seen |= set(map(Path, done.stdout.splitlines()))
    scripts = [path for root in ("scripts", "tests") for path in (TESTS.parent / root).rglob("*.*js")]
    assert {path for path in scripts if "node_modules" not in path.parts} - seen == set()


def test_the_linter_finds_nothing(checkers: Path) -> None:
    assert lint(checkers, "ci", "contract", "scripts", "tests") == ""


WRONG_TYPES = (
    ("stage.js", "position: sample.tokens.length", "position: sample.token.length", "TS2551"),
    ("stage.js", "if (!shown) return null;\n", "", "TS18048"),
    ("stage.js", "column] ?? NaN)", "column])", "TS2322"),
    ("next.js", 'element("next-hint")', 'element("next-hints")', "TS2345"),
    ("colours.js", "brush(bar)", "brush(place)", "TS2740"),
    ("try.js", "if (!shown) return;\n    const before", "const before", "TS18048"),
    ("try.js", "tokenizer.encode(text,", "tokenizer.encode(text.length,", "TS2769"),
    ("generate.js", "[1, given.length]", "[1, given]", "TS2769"),
    ("gate.mjs", "rows.flat()", "row.flat()", "TS2552"),
)
"""File, what is right in it, what is wrong, and how the checker calls that."""


@pytest.fixture(scope="module")
def found(checkers: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """What is found, by file, where all of these stand in one project: the checker takes seconds to start."""
    folder = tmp_path_factory.mktemp("wrong")
    copy_scripts(folder / "assets")
    for file, right, wrong, _ in WRONG_TYPES:
        change(folder / "assets" / file, right, wrong)
    project = {"extends": str(CHECKS / "tsconfig.json"), "include": ["assets/*"], "exclude": []}
    (folder / "tsconfig.json").write_text(json.dumps(project))
    return re.findall(r"(\w+\.m?js)\(.*error (TS\d+)", check_types(checkers, folder))


@pytest.mark.parametrize(("file", "right", "wrong", "finding"), WRONG_TYPES)
def test_a_wrong_type_is_found(found: list[tuple[str, str]], file: str, right: str, wrong: str, finding: str) -> None:
    assert (file, finding) in found, f"{right!r} became {wrong!r}"


def test_files_without_a_wrong_type_have_no_finding(found: list[tuple[str, str]]) -> None:
    assert {file for file, _ in found} == {file for file, _, _, _ in WRONG_TYPES}


@pytest.mark.parametrize(
    ("file", "right", "wrong", "finding"),
    [
        ("basics.js", "if (size === 0)", "if (size == 0)", "noDoubleEquals"),
        ("colours.js", "let step = 0", "var step = 0", "noInnerDeclarations"),
        ("writes.js", "layers.forEach((layer, row)", "layers.map((layer, row)", "useIterableCallbackReturn"),
        ("try.js", "await work();", "await  work();", "format"),
        ("gate.mjs", "const downloaded = ", "const unused = 0;\n  const downloaded = ", "noUnusedVariables"),
    ],
)
def test_a_careless_line_is_found(
    checkers: Path, tmp_path: Path, file: str, right: str, wrong: str, finding: str
) -> None:
    copy_scripts(tmp_path / "assets")
    change(tmp_path / "assets" / file, right, wrong)
    assert finding in lint(checkers, "ci", tmp_path / "assets")


def test_a_page_carries_no_code_that_it_does_not_use(checkers: Path, page: str, tmp_path: Path) -> None:
    file = tmp_path / "page.js"
    file.write_text(script_of(page), encoding="utf-8")
    assert lint(checkers, "lint", "--only=correctness/noUnusedVariables", file) == ""
    file.write_text(f"{script_of(page)}\nfunction left() {{}}\n", encoding="utf-8")
    assert "This function left is unused" in lint(checkers, "lint", "--only=correctness/noUnusedVariables", file)


class Tags(HTMLParser):
    """The tag of every element with an id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.by_id: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        if name := dict(attrs).get("id"):
            self.by_id[name] = tag


def test_every_element_that_a_page_asks_for_is_in_it_and_is_what_its_type_says(page: str) -> None:
    (declared,) = re.findall(r"interface Ids \{(.*?)\}", (ASSETS / "types.d.ts").read_text("utf-8"), re.DOTALL)
    types = dict(re.findall(r'"?([\w-]+)"?: "(\w+)";', declared))
    asked = set(re.findall(r'\belement\("([\w-]+)"\)', script_of(page)))
    tags = Tags(page).by_id
    assert {"theme", "layer", "map-value"} < asked
    assert {name: types[name] for name in asked} == {name: tags.get(name) for name in asked}
