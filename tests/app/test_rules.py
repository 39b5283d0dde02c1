"""The app repository's own rules, judged as git itself judges them."""

import doctest
import shutil
import subprocess
from pathlib import Path

import pytest

from model_release.app import rules
from model_release.app.rules import changed_by, ignored_by

MODEL, ENV = "web/static/models/gpt2/model.onnx", "web/.env.production"

# Rule files -> whether git passes MODEL through a filter.
FILTERED = [
    ({".gitattributes": "*.onnx filter=lfs diff=lfs merge=lfs -text\n"}, True),
    ({".gitattributes": "# *.onnx filter=lfs\n*.bin filter=lfs\n"}, False),
    ({".gitattributes": "*.onnx filter=lfs\n*.onnx -filter\n"}, False),
    ({".gitattributes": "*.onnx filter=lfs\n*.onnx !filter\n"}, False),
    ({".gitattributes": "*.onnx -filter\n*.onnx filter=lfs\n"}, True),
    ({".gitattributes": "*.onnx filter\n"}, False),
    ({".gitattributes": "*.onnx filter=git-crypt\n"}, True),
    ({".gitattributes": "model.onnx filter=lfs\n"}, True),
    ({".gitattributes": "/model.onnx filter=lfs\n"}, False),
    ({".gitattributes": "**/model.onnx filter=lfs\n"}, True),
    ({".gitattributes": "web/** filter=lfs\n"}, True),
    ({".gitattributes": "web/**/*.onnx filter=lfs\n"}, True),
    ({".gitattributes": "web/static/models/**/model.onnx filter=lfs\n"}, True),
    ({".gitattributes": "web/*.onnx filter=lfs\n"}, False),
    ({".gitattributes": "web/static/models filter=lfs\n"}, False),
    ({".gitattributes": "web/static/models/ filter=lfs\n"}, False),
    ({".gitattributes": "models filter=lfs\n"}, False),
    ({".gitattributes": "web/static/models/* filter=lfs\n"}, False),
    ({".gitattributes": "web/static/models/*/* filter=lfs\n"}, True),
    ({".gitattributes": "* filter=lfs\n"}, True),
    ({".gitattributes": "*.[oO]nnx filter=lfs\n"}, True),
    ({".gitattributes": "model.onn? filter=lfs\n"}, True),
    ({".gitattributes": '"*.onnx" filter=lfs\n'}, True),
    ({".gitattributes": "!*.onnx filter=lfs\n"}, False),
    ({".gitattributes": "*.onnx filter=lfs\r\n"}, True),
    ({".gitattributes": "\ufeff*.onnx filter=lfs\n"}, True),
    ({".gitattributes": "[attr]large filter=lfs -text\n*.onnx large\n"}, True),
    ({".gitattributes": "[attr]large filter=lfs -text\n*.onnx large -filter\n"}, False),
    ({".gitattributes": "[attr]large filter=lfs -text\n*.onnx -large\n"}, False),
    ({".gitattributes": "*.onnx filter=lfs\n*.onnx binary\n"}, True),
    ({"web/.gitattributes": "*.onnx filter=lfs\n"}, True),
    ({"web/.gitattributes": "static/**/*.onnx filter=lfs\n"}, True),
    ({"web/.gitattributes": "web/**/*.onnx filter=lfs\n"}, False),
    ({".gitattributes": "*.onnx filter=lfs\n", "web/static/.gitattributes": "models/** -filter\n"}, False),
    ({".gitattributes": "*.onnx -filter\n", "web/static/.gitattributes": "models/** filter=lfs\n"}, True),
    ({"other/.gitattributes": "*.onnx filter=lfs\n"}, False),
]

# Rule files, a path -> whether git ignores it.
IGNORING = [
    ({".gitignore": ".env*\n"}, ENV, True),
    ({".gitignore": "# .env*\n\n*.local\n"}, ENV, False),
    ({".gitignore": ".env*\n!.env.production\n"}, ENV, False),
    ({".gitignore": "!.env.production\n.env*\n"}, ENV, True),
    ({".gitignore": ".env.*\n", "web/.gitignore": "!.env.production\n"}, ENV, False),
    ({"web/.gitignore": "/.env.production\n"}, ENV, True),
    ({".gitignore": "/.env.production\n"}, ENV, False),
    ({".gitignore": "web/.env.production\n"}, ENV, True),
    ({".gitignore": "web/\n!web/.env.production\n"}, ENV, True),
    ({".gitignore": "web/*\n!web/.env.production\n"}, ENV, False),
    ({".gitignore": "*\n!*/\n!.env.production\n"}, ENV, False),
    ({".gitignore": "*\n!*/\n"}, ENV, True),
    ({".gitignore": "*.onnx\n"}, MODEL, True),
    ({".gitignore": "*.onnx\n!web/static/models/**\n"}, MODEL, False),
    ({".gitignore": "models/\n"}, MODEL, True),
    ({".gitignore": "models\n!model.onnx\n"}, MODEL, True),
    ({".gitignore": "**/models/**\n"}, MODEL, True),
    ({".gitignore": "web/static/models/*/*.onnx\n"}, MODEL, True),
    ({".gitignore": "static/models/\n"}, MODEL, False),
    ({"web/.gitignore": "static/models/\n"}, MODEL, True),
    ({".gitignore": "*.onnx   \n"}, MODEL, True),
    ({".gitignore": "\\#x\n\\!x\n[\n"}, MODEL, False),
    ({".gitignore": "dist\nbuild/\n"}, MODEL, False),
]


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(rules).failed == 0


@pytest.mark.parametrize(("texts", "filtered"), FILTERED, ids=str)
def test_a_filter_for_the_model_is_found(texts: dict[str, str], filtered: bool) -> None:
    rule = changed_by(MODEL, texts)
    assert (rule is not None) == filtered
    assert rule is None or rule.effect in ("passes it through Git LFS", "passes it through the filter 'git-crypt'")


@pytest.mark.parametrize(("texts", "path", "ignored"), IGNORING, ids=str)
def test_a_file_that_git_add_leaves_out_is_found(texts: dict[str, str], path: str, ignored: bool) -> None:
    assert (ignored_by(path, texts) is not None) == ignored


def test_a_rule_is_named_by_its_place_and_words() -> None:
    rule = changed_by(MODEL, {"web/.gitattributes": "# large files\n\n*.onnx   filter=lfs -text\n"})
    assert str(rule) == "web/.gitattributes line 3 (*.onnx filter=lfs -text)"
    assert len(str(ignored_by(MODEL, {".gitignore": "*" * 500}))) < 100


@pytest.mark.parametrize(
    ("line", "path", "effect"),
    [
        ("*.json text eol=crlf", "m/config.json", "ends its lines with CRLF"),
        ("* text=auto eol=crlf", "m/config.json", "ends its lines with CRLF"),
        ("* text=auto eol=crlf", "m/model.onnx", None),
        ("* text=auto eol=crlf", "m/model.onnx_data", None),
        ("* text eol=crlf", "m/model.onnx", "ends its lines with CRLF"),
        ("* -text eol=crlf", "m/config.json", None),
        ("* text=auto", "m/config.json", None),
        ("* text eol=lf", "m/config.json", None),
        (".env* working-tree-encoding=UTF-16LE text", "m/.env", "writes it as 'UTF-16LE'"),
    ],
)
def test_line_ends_and_encodings_that_change_bytes_are_found(line: str, path: str, effect: str | None) -> None:
    rule = changed_by(path, {".gitattributes": line})
    assert (rule.effect if rule else None) == effect


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_itself_says_the_same(tmp_path: Path) -> None:
    def git(folder: Path, *command: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=False)
        return done.stdout

    for number, (texts, path, expected) in enumerate([*((t, MODEL, f) for t, f in FILTERED), *IGNORING]):
        folder = tmp_path / str(number)
        folder.mkdir()
        git(folder, "init", "-q")
        for file, text in texts.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(text.encode())
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
        if number < len(FILTERED):
            value = git(folder, "check-attr", "filter", "--", path).strip().rpartition(": ")[2]
            assert (value not in ("unspecified", "unset", "set")) == expected, texts
        else:
            assert bool(git(folder, "check-ignore", "--", path)) == expected, texts
