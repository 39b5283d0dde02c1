"""The door: what a Python that cannot run a command is told, and what every command tells of itself."""

import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

import cli
from commands import SCRIPTS, call, tree
from model_release.base.version import VERSION
from model_release.cli import entry, main
from model_release.cli.main import COMMANDS

LIGHT = " ".join(line for line in (SCRIPTS / "locks" / "light.in").read_text().split("\n") if not line.startswith("#"))
ADVICE = "Run bash scripts/demo.sh, or use .venv/bin/python."


def run_without_libraries(script: str, *arguments: str, cwd: Path, libraries: str = "") -> tuple[int, str, str]:
    """Runs an entry file in a Python that has the standard library and a folder of libraries."""
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPTS / script), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def with_dependencies(names: str) -> dict[str, Distribution]:
    """Installed distributions by name, those they need included."""
    found: dict[str, Distribution] = {}
    wanted = names.split()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = distribution(name)
            needs = map(Requirement, found[name].requires or [])
            wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the libraries of `install.sh light`."""
    folder = tmp_path_factory.mktemp("light")
    for library in with_dependencies(LIGHT).values():
        for top in {file.parts[0] for file in library.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            (folder / top).symlink_to(str(library.locate_file(top)))
    return str(folder)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_python_without_any_library_is_told_so_in_one_sentence(command: click.Command, tmp_path: Path) -> None:
    code, out, err = run_without_libraries(f"{command.name}.py", "--help", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err == f"error: the Python module click must be installed, got {sys.executable} without it. {ADVICE}\n"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("export.py", ["--demo", "--output", "model.onnx"]),
        ("quantize.py", ["--model", "model.onnx", "--precision", "fp16", "--output-dir", "out"]),
        ("verify.py", ["--model", "model.onnx"]),
        ("release.py", ["--demo", "--tag", "model-v1.0.0", "--no-env"]),
        ("build.py", ["--demo", "--tag", "model-v1.0.0", "--output", "dist"]),
        ("weights.py", []),
    ],
)
def test_the_light_libraries_are_too_few_for_a_command_that_makes_models(
    script: str, arguments: list[str], light: str, tmp_path: Path
) -> None:
    code, out, err = run_without_libraries(script, *arguments, cwd=tmp_path, libraries=light)
    assert (code, out) == (2, ""), err
    sentence = rf"error: the Python module \w+ must be installed, got \S+ without it\. {re.escape(ADVICE)}"
    assert re.fullmatch(sentence, err.splitlines()[-1])
    assert "Traceback" not in err
    assert tree(tmp_path) == {}


def test_the_light_libraries_are_enough_for_a_plan(light: str, tmp_path: Path) -> None:
    code, out, err = run_without_libraries("plan.py", "--version", "1.0.0", cwd=tmp_path, libraries=light)
    assert (code, err) == (0, "")
    assert out.startswith("model-v1.0.0\n")


def test_an_old_python_is_told_which_one_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    with pytest.raises(SystemExit) as end:
        entry.main("export")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: Python must be 3.11 or newer, got 3.10.13. {ADVICE}\n"


@pytest.mark.parametrize("name", ["model_release.gone", "_sqlite3", ""])
def test_a_missing_module_of_ours_or_of_python_itself_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def import_it(_command: click.Command) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(main, "run", import_it)
    with pytest.raises(ModuleNotFoundError):
        entry.main("export")


# -- the version


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_tells_the_tools_version(command: click.Command) -> None:
    outcome = call(command, "--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"transformer-model-release {VERSION}\n", "")


def test_the_version_is_the_newest_of_the_changelog() -> None:
    changelog = (SCRIPTS.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)
    assert numbers[0] == VERSION
    assert sorted(numbers, key=lambda number: [int(part) for part in number.split(".")], reverse=True) == numbers


def test_a_version_with_a_value_is_the_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(cli.plan, "--version", "1.2.0").out.startswith("model-v1.2.0\n")
    assert call(cli.plan, "--version", "").code == 2
    monkeypatch.setenv("MODEL_RELEASE_VERSION", "1.2.0")
    assert call(cli.plan).out.startswith("model-v1.2.0\n")
    assert call(cli.weights, "--list").code == 0


@pytest.mark.parametrize(("signal", "code"), [(SystemExit(143), 143), (KeyboardInterrupt(), 130)])
def test_a_signal_during_the_import_of_a_library_is_no_defect(signal: BaseException, code: int) -> None:
    @click.command("quantize")
    def command() -> None:
        raise ImportError("initialization failed") from signal

    assert call(command).code == code


def test_ctrl_c_before_a_command_begins_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model_release.cli.terminal.prepare", interrupted)
    with pytest.raises(SystemExit, match="130"):
        entry.main("plan")
    assert capsys.readouterr().err == "error: interrupted. Nothing was begun; run it again.\n"
