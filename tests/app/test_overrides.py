"""Who else sets the model's URL: the build's environment, other env files, workflows, and odd layouts."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.overrides import _misread_by_node, find_shadows, find_shadows_beside

FILE = ".env.production"
LOCAL = ".env.production.local"
URL = "https://github.com/o/r/releases/download/model-v1.0.0/model_fp16.onnx?v=1.0.0-0a1b2c3d"
COPY = "models/gpt2/model_fp16.onnx?v=1.0.0-0a1b2c3d"
EXPECTED = {URL_KEY: URL, VERSION_KEY: "1.0.0"}
TEXT = f"{URL_KEY}={URL}\n{VERSION_KEY}=1.0.0\n"


def warnings(
    files: dict[str, str] | None = None,
    workflow: str = "",
    environment: dict[str, str] | None = None,
    file: str = FILE,
    expected: dict[str, str] = EXPECTED,
) -> tuple[str, ...]:
    return find_shadows(
        expected,
        file=file,
        files={FILE: TEXT} | (files or {}),
        workflows={"deploy.yml": workflow} if workflow else {},
        environment=environment or {},
    )


def test_nothing_around_is_no_warning() -> None:
    assert warnings(environment={"PATH": "/bin", "VITE_TITLE": ""}) == ()


# -- the environment


@pytest.mark.parametrize(("value", "shown"), [("", "nothing"), ("https://old.example/m", "'https://old.example/m'")])
def test_a_variable_of_the_build_comes_before_every_file(value: str, shown: str) -> None:
    (warning,) = warnings(environment={URL_KEY: value})
    assert warning.startswith(f"the environment sets {URL_KEY} to {shown}, and Vite takes it before any file.")


def test_a_variable_with_the_same_value_does_no_harm() -> None:
    assert warnings(environment=EXPECTED) == ()


# -- other files


@pytest.mark.parametrize("name", [".env", ".env.local", ".env.development", ".env.staging.local"])
def test_files_that_vite_reads_later_or_not_at_all_do_no_harm(name: str) -> None:
    assert warnings({name: f"{URL_KEY}=https://old.example/m\n"}) == ()


@pytest.mark.parametrize(
    "value", ["", "https://old.example/m", "$OTHER", COPY.replace("0a1b", "ffff"), f"https://x/{COPY}"]
)
def test_the_local_file_comes_before_the_committed_one(value: str) -> None:
    (warning,) = warnings({LOCAL: f"{URL_KEY}={value}\n"})
    assert warning.startswith(f"{LOCAL} sets {URL_KEY} to ")
    assert "before .env.production." in warning


def test_what_fetch_wrote_for_this_release_is_as_it_should_be() -> None:
    assert warnings({LOCAL: f"{URL_KEY}={COPY}\n{VERSION_KEY}=1.0.0\n"}) == ()


def test_what_fetch_wrote_for_another_release_is_not() -> None:
    text = f"{URL_KEY}={COPY.replace('1.0.0-0', '0.9.0-0')}\n{VERSION_KEY}=0.9.0\n"
    found = warnings({LOCAL: text})
    assert all(warning.endswith("Delete the line, or run fetch.py again.") for warning in found)
    in_tree = warnings({LOCAL: text}, expected={URL_KEY: COPY, VERSION_KEY: "1.0.0"})
    assert [warning.rpartition(". ")[2] for warning in in_tree] == ["Delete the line."] * 2
    assert [warning.split(" to ")[0] for warning in found] == [f"{LOCAL} sets {URL_KEY}", f"{LOCAL} sets {VERSION_KEY}"]


def test_in_a_file_for_every_mode_the_production_files_come_first() -> None:
    files = {".env": TEXT, ".env.local": f"{URL_KEY}=a\n", FILE: f"{URL_KEY}=b\n", LOCAL: f"{URL_KEY}=c\n"}
    assert len(warnings(files, file=".env")) == 3
    assert len(warnings(files, file=".env.local", expected={URL_KEY: "a"})) == 2
    assert warnings(files, file=LOCAL, expected={URL_KEY: "c"}) == ()


# -- workflows


@pytest.mark.parametrize(
    ("workflow", "lines"),
    [
        (f"env:\n  {URL_KEY}: ${{{{ secrets.MODEL_URL }}}}\n", [2]),
        (f"jobs:\n  a:\n    env:\n      A: 1\n      {URL_KEY}: ${{{{ vars.MODEL_URL }}}} # why\n", [5]),
        (f"jobs:\n  a:\n    steps:\n      - run: build\n        env:\n          {URL_KEY}: x\n", [6]),
        (f"jobs:\n  a:\n    steps:\n      - env:\n          {URL_KEY}: x\n        run: build\n", [5]),
        (f"jobs:\n  a:\n    steps:\n    - name: b\n      env: {{A: 1, {URL_KEY}: '${{{{ secrets.X }}}}'}}\n", [5]),
        (f"env:\n  '{URL_KEY}': ''\n", [2]),
        (f"env:\n  {URL_KEY}:\n", [2]),
        (f"env:\n  {URL_KEY}: >-\n    https://x\n", [2]),
        (f"      - run: {URL_KEY}=x npm run build\n", [1]),
        (f"      - run: |\n          export {URL_KEY}=$MODEL\n", [2]),
        (f'      - run: echo "{URL_KEY}=${{{{ secrets.X }}}}" >> "$GITHUB_ENV"\n', [1]),
        (f"env:\n  {URL_KEY}: a\n  {VERSION_KEY}: b\n", [2, 3]),
        (f"# env:\n#   {URL_KEY}: x\n", []),
        (f"env:\n  {URL_KEY}: {URL}\n  {VERSION_KEY}: '1.0.0'\n", []),
        (f"on:\n  workflow_call:\n    outputs:\n      {URL_KEY}:\n        value: x\n", []),
        (f"env:\n  OTHER: 1\njobs:\n  {URL_KEY}: 1\n", []),
        (f"env:\n  MY_{URL_KEY}: x\n  {URL_KEY}_2: x\n", []),
        (f"      - run: grep -q {URL_KEY}= apps/web/.env.production\n", []),
        (f'      - run: echo "{URL_KEY}=$x"\n', []),
    ],
)
def test_lines_of_a_workflow_that_set_the_url_are_named(workflow: str, lines: list[int]) -> None:
    found = warnings(workflow=workflow)
    assert sorted(int(re.match(r"deploy\.yml line (\d+): it sets ", each)[1]) for each in found) == lines  # type: ignore[index]


@pytest.mark.parametrize("source", ["secrets.MODEL_URL", "vars.MODEL_URL", "inputs.url"])
def test_a_source_that_may_be_unset_is_said_to_blank_the_value(source: str) -> None:
    (warning,) = warnings(workflow=f"env:\n  {URL_KEY}: ${{{{ {source} }}}}\n")
    assert f"where {source} is not set, the value is blank" in warning


def test_a_strange_workflow_is_no_failure() -> None:
    for text in ("", "\t\t:", "- - - -", "env: {", "\x00", "env:\r\n  x", "'" * 5000, "- " * 5000):
        assert warnings(workflow=text) == ()


# -- layouts


ODD = [
    (f"{URL_KEY}: {URL}\n", "colon"),
    (f"\ufeff{URL_KEY}={URL}\n", "byte order mark"),
    (f"A=1\r{URL_KEY}={URL}\r", "carriage return"),
    (f"A= \n{URL_KEY}={URL}\n", "nothing but white space"),
    (f"A=\t\n\n{URL_KEY}={URL}\n", "nothing but white space"),
    (f"A='open\n{URL_KEY}={URL}\nB='x'\n", "quote above"),
    (f'A="open\nB=1\n{URL_KEY}={URL}\nC="x"\n', "quote above"),
    (f"export\t{URL_KEY}={URL}\n", "behind export"),
    (f"export  {URL_KEY}={URL}\n", "behind export"),
    (f"A=1\n\t{URL_KEY}={URL}\n", "white space than spaces"),
    (f"A:\n{URL_KEY}={URL}\n", "line without ="),
    (f"nothing\n\n{URL_KEY}={URL}\n", "line without ="),
]
PLAIN = [
    f"{URL_KEY}={URL}\n",
    f"  {URL_KEY} = {URL}\r\n",
    f"export {URL_KEY}='{URL}' # why\r\n",
    f"\ufeff# app\nA=1\n{URL_KEY}={URL}\n",
    f"A=\n{URL_KEY}={URL}\n",
    f"A= # why\n{URL_KEY}={URL}\n",
    f"A='one\ntwo\n'\n{URL_KEY}={URL}\n",
    f"A=it's\n{URL_KEY}={URL}\n",
    f"A=\r\n{URL_KEY}={URL}\r\n",
    f"# it's = 'open\n{URL_KEY}={URL}\n",
    f'A="x" # "\n{URL_KEY}="{URL}"\nnothing\n',
]


def layouts(text: str) -> tuple[str, ...]:
    return find_shadows({URL_KEY: URL}, file=FILE, files={FILE: text}, workflows={}, environment={})


@pytest.mark.parametrize(("text", "says"), ODD)
def test_a_layout_that_node_misreads_is_named(text: str, says: str) -> None:
    (warning,) = layouts(text)
    assert says in warning
    assert "Vite 8 then misses or misreads VITE_MODEL_URL" in warning


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_layout_is_no_warning(text: str) -> None:
    assert layouts(text) == ()


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node's own reader")
def test_the_plain_layouts_are_those_that_node_reads() -> None:
    read = "console.log(JSON.stringify(JSON.parse(t).map(require('util').parseEnv)))"
    script = f"let t='';process.stdin.on('data',d=>t+=d).on('end',()=>{read})"
    texts = json.dumps(PLAIN)
    done = subprocess.run(["node", "-e", script], input=texts, capture_output=True, text=True, check=False)
    if "is not a function" in done.stderr:
        pytest.skip("this Node has no util.parseEnv")
    assert [found.get(URL_KEY) for found in json.loads(done.stdout)] == [URL] * len(PLAIN)


# -- files that mean harm


@pytest.mark.parametrize(
    "again",
    ["A='x'\n", "A='x\n", "A=`x\n`\n", "A= \n", "export\n", "\r", " ", "\n", f"{URL_KEY}\n", f"export {URL_KEY}\n"],
)
def test_a_neighbour_of_megabytes_is_looked_at_in_little_time(again: str) -> None:
    text = again * (200_000 // len(again)) + f"\n{URL_KEY}=x\n"
    began = time.process_time()
    list(_misread_by_node(text, URL_KEY))
    assert time.process_time() - began < 2


@pytest.mark.parametrize("again", [" ", "{ ", "- ", "echo ", f"{URL_KEY}= ", f"env: {URL_KEY}:"])
def test_a_line_of_megabytes_in_a_workflow_is_looked_at_in_little_time(again: str) -> None:
    text = f"env:\n  {URL_KEY}: x{again * (500_000 // len(again))}y\n  run: {URL_KEY}={' ' * 100_000}x\n"
    began = time.process_time()
    warnings(workflow=text)
    assert time.process_time() - began < 2


def test_a_workflow_of_a_thousand_values_gets_a_few_warnings() -> None:
    assert 1 <= len(warnings(workflow=f"env:\n{f'  {URL_KEY}: x{chr(10)}' * 1000}")) <= 10


# -- files


def test_the_files_and_workflows_around_an_env_file_are_found(tmp_path: Path) -> None:
    web, flows = tmp_path / "apps" / "web", tmp_path / ".github" / "workflows"
    web.mkdir(parents=True)
    flows.mkdir(parents=True)
    (web / FILE).write_text(TEXT)
    (web / LOCAL).write_text(f"{URL_KEY}=\n")
    (flows / "a.yaml").write_text(f"env:\n  {URL_KEY}: x\n")
    (flows / "b.yml").write_bytes(b"\xff\xfe")
    (flows / "notes.md").write_text(f"env:\n  {URL_KEY}: x\n")
    found = find_shadows_beside(web / FILE, EXPECTED, {})
    assert [warning.split(" ")[0] for warning in found] == [LOCAL, ".github/workflows/a.yaml"]
    assert find_shadows_beside(tmp_path / "nowhere" / FILE, {}, {}) == ()
