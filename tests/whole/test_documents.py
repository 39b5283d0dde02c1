"""What the documents tell people to type, open and expect is true."""

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from commands import SCRIPTS
from model_release.base import errors
from model_release.cli.main import COMMANDS

ROOT = SCRIPTS.parent
WITH_COMMANDS = ["README.md", "README.zh-CN.md", "scripts/README.md", ".github/CONTRIBUTING.md"]
DOCUMENTS = [
    *WITH_COMMANDS,
    "CHANGELOG.md",
    ".github/SECURITY.md",
    ".github/pull_request_template.md",
    "contract/ACTIVATIONS_CONTRACT.md",
    ".github/RELEASING.md",
    "scripts/demo_model/README.md",
    "scripts/model_release/DECISIONS.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def written_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every `python scripts/NAME.py ...` of a document: name and arguments."""
    for line in text.splitlines():
        if not line.startswith("Usage: "):
            for name, rest in re.findall(r"python scripts/(\w+)\.py([^`]*)", line):
                yield name, shlex.split(rest, comments=True)


def options_of(command: click.Command) -> set[str]:
    """The long names of its options, and of its subcommands'."""
    subcommands = command.commands.values() if isinstance(command, click.Group) else ()
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *map(options_of, subcommands))


def anchors_of(text: str) -> set[str]:
    """The names GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_every_command_of_a_document_exists_and_takes_its_arguments(document: str) -> None:
    known = {str(command.name): command for command in COMMANDS}
    found = list(written_commands(read(document)))
    assert found
    for name, arguments in found:
        command = known[name]
        if isinstance(command, click.Group) and arguments[:1] and arguments[0] in command.commands:
            command, arguments = command.commands[arguments[0]], arguments[1:]
        command.make_context(name, arguments)  # Raises for what the command would refuse.


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_script_a_document_runs_is_there(document: str) -> None:
    scripts = re.findall(r"\b(?:bash|python|source) ((?:scripts|tests)/[\w/.]+)", read(document))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


@pytest.mark.parametrize(
    "document", [".github/CONTRIBUTING.md", "scripts/model_release/DECISIONS.md", "tests/README.md"]
)
def test_every_file_a_document_names_is_there(document: str) -> None:
    """A module by its place in the package, a folder of the tests by its place there, any other file from the root."""
    places = (ROOT, ROOT / "scripts" / "model_release", ROOT / "tests", (ROOT / document).parent)
    names = re.findall(r"`((?:\w[\w.]*/)+(?:[a-z_]+\.(?:py|json|md|sh|ts))?)`", read(document))
    assert [name for name in names if not any((place / name).exists() for place in places)] == []


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_every_option_a_document_names_is_one_of_a_command(document: str) -> None:
    known = set().union(*map(options_of, COMMANDS), re.findall(r"(?<=[ |])--[a-z]+(?= \||\))", read("scripts/test.sh")))
    spans = re.findall(r"`(?:python scripts/)?(?:\w+\.py )?(--[a-z0-9-]+)[^`]*`", read(document))
    assert set(spans) - known == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(document: str) -> None:
    for link in re.findall(r'(?:\]\(|src=")([^)"\s]+)', read(document)):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), link
        if anchor:
            assert anchor in anchors_of(path.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_version_a_document_pins_is_the_requirements(document: str) -> None:
    pins = set(re.findall(r"[\w-]+==[\w.]+", read("requirements.txt") + read("tests/requirements.txt")))
    assert set(re.findall(r"[\w-]+==[\w.]+", read(document))) - pins == set()


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 200
    assert len(read("README.zh-CN.md").splitlines()) <= 100


@pytest.mark.parametrize(
    ("document", "section"), [("README.md", r"## Exit codes\n.*?\n## "), ("README.zh-CN.md", r"退出码：.*?。")]
)
def test_every_exit_code_is_explained(document: str, section: str) -> None:
    (text,) = re.findall(section, read(document), re.DOTALL)
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.ReleaseError)]
    explained = {int(number) for number in re.findall(r"(?:\| |：|，\s*)(\d+) ", text)}
    assert explained - {130, 143} == {0, *(kind.exit_code for kind in classes)}


@pytest.mark.parametrize(
    ("files", "schema"), [("[bf]*.yml", "vendor.github-issue-forms"), ("config.yml", "vendor.github-issue-config")]
)
def test_the_issue_templates_are_what_github_reads(files: str, schema: str) -> None:
    paths = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob(files))
    assert paths
    tool = Path(sys.executable).with_name("check-jsonschema")
    subprocess.run([tool, "--builtin-schema", schema, *paths], check=True)


def test_the_quality_of_precisions_in_the_readme_is_what_the_benchmark_measured() -> None:
    (section,) = re.findall(r"#### Quality: embedded model\n(.+?)\n####", read("tests/benchmarks/README.md"), re.DOTALL)
    row = re.compile(r"^\| (\S+) \| ([\d.]+) \| ([\d.]+)% \| × ([\d.]+) \|$", re.MULTILINE)
    measured = {name: tuple(map(float, figures)) for name, *figures in row.findall(section)}
    shown = re.findall(r"^\| `(\S+)` \|.*\| (\S+) \| (\S+) % \| × (\S+) \|$", read("README.md"), re.MULTILINE)
    assert {name for name, *_ in shown} == {name for name in measured if " " not in name}
    for name, *figures in shown:
        digits = [len(figure.partition(".")[2]) for figure in figures]
        rounded = [round(value, places) for value, places in zip(measured[name], digits, strict=True)]
        assert [float(figure) for figure in figures] == rounded, name
