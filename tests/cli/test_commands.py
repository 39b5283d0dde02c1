"""The commands as the guide and the README write them: what they print, write, keep and leave alone."""

import functools
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import onnxruntime
import pytest
from huggingface_hub import constants, hf_api

import cli
from builders import gpt2_folder
from commands import SCRIPTS, Outcome, assert_refused, call, exported, finish, start, traced_once, tree
from model_release.contract.pinned_models import REGISTRY
from model_release.contract.selection import Selection
from model_release.model.weights import hub
from standins.hub import StandInHub

pytestmark = pytest.mark.slow

COMMANDS: list[click.Command] = [cli.export, cli.quantize, cli.verify, cli.release, cli.docs]
HEAVY = {
    "torch",
    "transformers",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "numpy",
    "tokenizers",
    "huggingface_hub",
}
TAG = "model-v1.2.3"
GUIDES_OUTPUT = "apps/web/static/models/gpt2/model.onnx"
RELEASE_FILES = {
    "model.onnx", "model_fp16.onnx", "model_int8_dynamic.onnx", "config.json", "manifest.json", "SHA256SUMS",
    "activations.json", "ACTIVATIONS_CONTRACT.md", "fetch.mjs", "measured.json", "report.html", "bom.cdx.json",
}  # fmt: skip
ENV = (
    b"\xef\xbb\xbf# \xff no UTF-8, kept\r\n\r\n"
    b"export OTHER = 'it is'  # kept\nVITE_MODEL_VERSION=\"0.9\" # ours\rLAST=1"
)


def succeed(command: click.Command, *arguments: object) -> Outcome:
    """Runs a command that must succeed."""
    outcome = call(command, *arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def outputs_of(path: Path) -> list[str]:
    return [output.name for output in onnxruntime.InferenceSession(str(path)).get_outputs()]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def model(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported file of `tiny`."""
    return Path(shutil.copy(tiny_file, tmp_path_factory.mktemp("exported") / "model.onnx"))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- help


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_has_help(command: click.Command) -> None:
    assert command.help
    assert [option.name for option in command.params if not getattr(option, "help", None)] == []


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import io, runpy, sys, contextlib\n"
        "for name in sys.argv[1:]:\n"
        "    out = io.StringIO()\n"
        "    sys.argv = [name, '--help']\n"
        "    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):\n"
        "        runpy.run_path(name, run_name='__main__')\n"
        "    assert 'Usage: python scripts/' in out.getvalue(), name\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    paths = [str(SCRIPTS / f"{command.name}.py") for command in COMMANDS]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True, env=environment
    )
    assert HEAVY & set(done.stdout.split()) == set()


# -- the guide's own lines


@pytest.fixture
def hub_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Puts a folder on a hub on this machine as the guide's model, `gpt2`; the registry pins what is there."""
    root = tmp_path / "hub"
    with StandInHub(root) as server, traced_once():

        def serve(folder: Path) -> None:
            entry = json.loads(REGISTRY.read_text())["models"]["gpt2"]
            place = shutil.copytree(folder, root / entry["repository"])
            entry["revision"] = server.commit(entry["repository"])
            entry["files"] = {name: {"sha256": sha256(place / name)} for name in ("config.json", "model.safetensors")}
            registry = tmp_path / "models.json"
            registry.write_text(json.dumps({"models": {"gpt2": entry}}))
            monkeypatch.setattr(hub, "fetch_model", functools.partial(hub.fetch_model, registry=registry))

        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        yield serve


@pytest.mark.network
def test_the_guides_first_line_exports_the_last_layer_of_gpt2_and_its_verify_line_verifies_it(
    hub_with: Callable[[Path], None], tiny: Path
) -> None:
    hub_with(tiny)
    succeed(cli.export)
    assert [name for name in tree(Path()) if name.endswith(".onnx")] == [GUIDES_OUTPUT]
    assert outputs_of(Path(GUIDES_OUTPUT)) == ["logits", "embedding_sum", "layer_2_attn_probs", "layer_2_mlp_output"]
    printed = succeed(cli.verify, "--model", GUIDES_OUTPUT).out
    for name in outputs_of(Path(GUIDES_OUTPUT)):
        assert re.search(rf"^{name} +1×[0-9×]+ +float32$", printed, re.MULTILINE)
    assert "clauses hold" in printed


@pytest.mark.long
@pytest.mark.network
def test_the_guides_line_for_three_layers_exports_these_of_gpt2s_twelve(
    hub_with: Callable[[Path], None], tmp_path: Path
) -> None:
    hub_with(gpt2_folder(tmp_path / "twelve", layers=12, hidden=4, heads=2, vocab=11))
    succeed(cli.export, "--layers", "0,5,11")
    layered = [f"layer_{layer}_{kind}" for layer in (0, 5, 11) for kind in ("attn_probs", "mlp_output")]
    assert outputs_of(Path(GUIDES_OUTPUT)) == ["logits", "embedding_sum", *layered]


@pytest.mark.long
def test_the_guides_other_lines_export_every_layer_to_the_path_given_and_verify(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its lines `--all-layers`, `--output PATH` and `--verify`, in one run and with a folder for the Hub's model.
    monkeypatch.chdir(tmp_path)
    outcome = succeed(cli.export, "--all-layers", "--output", GUIDES_OUTPUT, "--verify", "--model-path", tiny)
    layered = [f"layer_{layer}_{kind}" for layer in range(3) for kind in ("attn_probs", "mlp_output")]
    assert outputs_of(tmp_path / GUIDES_OUTPUT) == ["logits", "embedding_sum", *layered]
    assert "NUM01" in outcome.out
    assert f"{GUIDES_OUTPUT}: " in outcome.out
    assert [name for name in tree(tmp_path) if "." in Path(name).name] == [GUIDES_OUTPUT]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Selection]:
    """What a command asks the tracer for; tracing itself is broken off."""
    selections: list[Selection] = []

    def note(_config: object, _shape: object, selection: Selection, **_: object) -> None:
        selections.append(selection)
        raise KeyboardInterrupt

    monkeypatch.setattr("model_release.model.export.trace.trace", note)
    return selections


@pytest.mark.parametrize("text", ["2,0", "0,2,0", "-1,-3", " 0 , 2 ", "0-0,2-2", "-3--3,2", "0,-1"])
def test_layers_are_the_same_however_they_are_written(
    tiny: Path, tmp_path: Path, asked: list[Selection], text: str
) -> None:
    assert call(cli.export, "--model-path", tiny, "--layers", text, "--output", tmp_path / "o.onnx").code == 130
    assert [selection.layers for selection in asked] == [(0, 2)]


@pytest.mark.parametrize("text", ["-3-2", "-2-2,0", "0--1"])
def test_a_range_may_mix_ends_counted_from_either_side(
    tiny: Path, tmp_path: Path, asked: list[Selection], text: str
) -> None:
    outcome = call(cli.export, "--model-path", tiny, "--layers", text, "--output", tmp_path / "o.onnx")
    assert [selection.layers for selection in asked] == [(0, 1, 2)], outcome.err


# -- the same bytes


@pytest.mark.long
def test_the_same_weights_give_the_same_bytes_wherever_and_whatever_the_folder_is_called(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = exported(tiny)
    elsewhere = tmp_path / "some where/else"
    shutil.copytree(tiny, elsewhere / "renamed model")
    monkeypatch.chdir(elsewhere)
    succeed(cli.export, "--model-path", "renamed model", "--output", "x/another name.onnx")
    assert (elsewhere / "x/another name.onnx").read_bytes() == once
    for name in (str(tmp_path), str(tiny), "renamed"):
        assert name.encode() not in once


def test_quantizing_twice_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        succeed(cli.quantize, "--model", model, "--precision", "fp16,int8-dynamic", "--output-dir", tmp_path / folder)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


# -- quantize and verify


def test_quantize_names_files_with_underscores_and_makes_each_once(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    arguments = ("--precision", "int8-dynamic, fp16,int8-dynamic", "--output-dir", tmp_path / "new/folder")
    printed = succeed(cli.quantize, "--model", model, *arguments).out
    assert names_in(tmp_path / "new/folder") == ["model_fp16.onnx", "model_int8_dynamic.onnx"]
    assert [Path(line.partition(": ")[0]).name for line in printed.splitlines()] == [
        "model_int8_dynamic.onnx", "model_fp16.onnx"
    ]  # fmt: skip
    assert model.read_bytes() == before


@pytest.fixture(scope="module")
def verified(tiny: Path, model: Path) -> dict[str, str]:
    """What verify prints against PyTorch, by format."""
    arguments = ("--model", model, "--reference", tiny)
    return {style: succeed(cli.verify, *arguments, "--format", style).out for style in ("text", "json", "markdown")}


OUTPUTS = {
    "logits": (1, 7, 31),
    "embedding_sum": (1, 7, 16),
    "layer_2_attn_probs": (1, 2, 7, 7),
    "layer_2_mlp_output": (1, 7, 16),
}


def test_verify_prints_every_output_with_its_shape_and_dtype(verified: dict[str, str]) -> None:
    for name, shape in OUTPUTS.items():
        size = "×".join(map(str, shape))
        assert re.search(rf"^{name} +{size} +float32$", verified["text"], re.MULTILINE)
        assert f"| {name} | {size} | float32 |" in verified["markdown"].splitlines()


def test_verify_prints_json_that_programs_can_read(verified: dict[str, str]) -> None:
    document = json.loads(verified["json"])
    assert {row["name"]: (tuple(row["shape"]), row["dtype"]) for row in document["outputs"]} == {
        name: (shape, "float32") for name, shape in OUTPUTS.items()
    }
    assert (document["passed"], document["findings"]) == (True, [])
    assert document["agreement"]["top1"] == 1.0
    assert document["metadata"]["precision"] == "fp32"


def test_verify_prints_markdown_tables_that_hold_together(verified: dict[str, str]) -> None:
    text = verified["markdown"]
    assert text.startswith("## ")
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == 3, "outputs, deviations, and clauses with nothing to judge"
    for table in tables:
        header, rule, *rows = table.splitlines()
        assert re.fullmatch(r"\|(---:?\|)+", rule)
        assert {row.count("|") for row in (header, rule, *rows)} == {header.count("|")}


def clauses_that_hold(text: str) -> list[str]:
    (line,) = re.findall(r"^[0-9]+ clauses hold: (.*)$", text, re.MULTILINE)
    return str(line).partition(" (")[0].split()


def test_verify_names_the_clauses_and_says_when_pytorch_was_not_asked(verified: dict[str, str], model: Path) -> None:
    alone = succeed(cli.verify, "--model", model).out
    assert "not compared with PyTorch: give --reference" in alone
    assert "NUM01" not in clauses_that_hold(alone)
    for style in ("text", "markdown"):
        assert "NUM01" in clauses_that_hold(verified[style])
        assert "not compared" not in verified[style]


def test_verify_claims_no_clause_that_it_could_not_judge(verified: dict[str, str]) -> None:
    document = json.loads(verified["json"])
    # The default activations show no sum and no scores, and the model has no tokenizer to read a text.
    assert list(document["nothing_to_judge"]) == ["SUM01", "ATTN01", "LENS01", "PPL01"]
    assert document["broken"] == []
    for style in ("text", "markdown"):
        assert clauses_that_hold(verified[style]) == document["clauses"]
        for clause, need in document["nothing_to_judge"].items():
            assert re.search(rf"^\W*{clause}\W+{re.escape(need)}\W*$", verified[style], re.MULTILINE)


def test_verify_leaves_nothing_in_the_temporary_folder(model: Path, tmp_path: Path) -> None:
    # onnxruntime's telemetry would: it keeps an id there, and reports each session to its makers.
    (tmp_path / "tmp").mkdir()
    outcome = finish(start("verify.py", "--model", model, cwd=tmp_path))
    assert (outcome.code, tree(tmp_path)) == (0, {"tmp": tree(tmp_path)["tmp"]}), outcome.err


# -- release


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a web app, with an env file as people write them."""
    root = tmp_path_factory.mktemp("app")
    (root / "apps/web/static").mkdir(parents=True)
    (root / "apps/web/.env.production").write_bytes(ENV)
    (root / "tmp").mkdir()
    return root


@pytest.fixture
def at_the_app(app: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(app)
    monkeypatch.setattr(tempfile, "tempdir", str(app / "tmp"))
    with traced_once():
        yield app


@pytest.fixture(scope="module")
def released(app: Path, tiny: Path) -> Outcome:
    """The first release, with all the defaults: into out/releases, the app's model into its tree."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(app)
        monkeypatch.setattr(tempfile, "tempdir", str(app / "tmp"))
        with traced_once():
            return succeed(cli.release, "--tag", TAG, "--model-path", tiny)


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_would_happen_and_writes_nothing(at_the_app: Path, tiny: Path) -> None:
    before, then = tree(at_the_app), times(at_the_app)
    printed = succeed(cli.release, "--tag", "model-v9.9.9", "--model-path", tiny, "--dry-run").out
    assert (tree(at_the_app), times(at_the_app)) == (before, then)
    for name in RELEASE_FILES:
        assert name in printed
    assert "out/releases/model-v9.9.9" in printed
    assert "apps/web/.env.production" in printed


@pytest.mark.usefixtures("released")
def test_a_release_folder_holds_just_the_promised_files(at_the_app: Path) -> None:
    folder = at_the_app / "out/releases" / TAG
    assert {path.name for path in folder.iterdir()} == RELEASE_FILES
    assert all(path.is_file() for path in folder.iterdir())
    assert names_in(at_the_app / "out/releases") == [TAG]
    assert names_in(at_the_app / "tmp") == []


@pytest.mark.usefixtures("released")
def test_the_checksums_are_of_every_file_and_right(at_the_app: Path) -> None:
    folder = at_the_app / "out/releases" / TAG
    done = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == RELEASE_FILES - {"SHA256SUMS"}


@pytest.mark.usefixtures("released")
def test_the_manifest_says_what_the_files_are(at_the_app: Path) -> None:
    folder = at_the_app / "out/releases" / TAG
    document = json.loads((folder / "manifest.json").read_text())
    for entry in document["files"]:
        assert (entry["sha256"], entry["size_bytes"]) == (
            sha256(folder / entry["name"]), (folder / entry["name"]).stat().st_size
        )  # fmt: skip
    described = {"SHA256SUMS", "manifest.json", "measured.json", "report.html", "bom.cdx.json"}
    assert {entry["name"] for entry in document["files"]} == RELEASE_FILES - described
    assert (document["tag"], document["version"]) == (TAG, "1.2.3")
    delivery = document["delivery"]
    assert (delivery["mode"], delivery["file"], delivery["threshold_bytes"]) == ("git", "model_fp16.onnx", 50_000_000)


def test_a_release_says_each_step_once_and_ends_with_a_table_and_the_path(released: Outcome) -> None:
    steps = re.findall(r"^\[([1-9])/9\]", released.err, re.MULTILINE)
    assert steps == [str(number) for number in range(1, 10)]
    for name in ("model.onnx", "model_fp16.onnx", "model_int8_dynamic.onnx"):
        row = rf"^{re.escape(name)} +[0-9.]+( kB)? +(fp32|fp16|int8-dynamic) +.*clauses hold"
        assert re.search(row, released.out, re.MULTILINE)
    assert f"out/releases/{TAG}" in released.out


def test_the_env_file_gets_a_url_with_its_version_and_every_other_byte_stays(
    released: Outcome, at_the_app: Path, tiny: Path
) -> None:
    model = at_the_app / "out/releases" / TAG / "model_fp16.onnx"
    url = f"models/{tiny.name}/model_fp16.onnx?v=1.2.3-{sha256(model)[:8]}"
    wanted = ENV.replace(b'"0.9"', b'"1.2.3"') + b"\r\nVITE_MODEL_URL=" + url.encode() + b"\r\n"
    got = (at_the_app / "apps/web/.env.production").read_bytes()
    # The file mixes line endings; whichever it uses most is right for the new line.
    assert got.replace(b"\r\n", b"\n").replace(b"\r", b"\n") == wanted.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert got.startswith(ENV.replace(b'"0.9"', b'"1.2.3"'))
    assert url in released.out


@pytest.mark.usefixtures("released")
def test_the_url_of_a_small_model_leads_to_it_in_the_apps_tree(at_the_app: Path, tiny: Path) -> None:
    static = at_the_app / "apps/web/static/models" / tiny.name
    assert {path.name for path in static.iterdir()} == {"model_fp16.onnx", "config.json", "manifest.json"}
    for path in static.iterdir():
        assert path.read_bytes() == (at_the_app / "out/releases" / TAG / path.name).read_bytes()


@pytest.mark.usefixtures("released")
def test_a_second_run_keeps_the_release_and_the_env_file(at_the_app: Path, tiny: Path) -> None:
    folders = [at_the_app / "out", at_the_app / "apps/web/.env.production"]
    before, then = tree(at_the_app), times(folders[0])
    env_time = folders[1].stat().st_mtime_ns
    again = succeed(cli.release, "--tag", TAG, "--model-path", tiny)
    assert tree(at_the_app) == before
    assert times(folders[0]) == then
    assert folders[1].stat().st_mtime_ns == env_time
    assert "nothing is built" in again.err
    assert "unchanged" in again.out


@pytest.mark.usefixtures("released")
def test_a_model_over_the_threshold_is_delivered_by_the_release(at_the_app: Path, tiny: Path) -> None:
    shutil.copytree(at_the_app / "apps", at_the_app / "other")
    arguments = (
        "--size-threshold",
        "0",
        "--base-url",
        "https://models.example/releases/",
        "--precision",
        "int8-dynamic",
    )
    env_file = ("--env-file", "other/web/.env.production")
    succeed(cli.release, "--tag", "model-v2.0.0-rc.1", "--model-path", tiny, *env_file, *arguments)
    folder = at_the_app / "out/releases/model-v2.0.0-rc.1"
    name = "model_int8_dynamic.onnx"
    url = f"https://models.example/releases/model-v2.0.0-rc.1/{name}?v=2.0.0-rc.1-{sha256(folder / name)[:8]}"
    env = (at_the_app / "other/web/.env.production").read_bytes()
    assert f"VITE_MODEL_URL={url}".encode() in env
    assert b'VITE_MODEL_VERSION="2.0.0-rc.1" # ours' in env
    assert tree(at_the_app / "other/web/static") == tree(at_the_app / "apps/web/static")
    assert json.loads((folder / "manifest.json").read_text())["delivery"]["mode"] == "release"
    assert (folder / "model.onnx").read_bytes() == (at_the_app / "out/releases" / TAG / "model.onnx").read_bytes()


def test_export_makes_one_precision_and_says_so() -> None:
    assert_refused(call(cli.export, "--demo", "--precision", "fp16,int8"), 2, ["--precision must be one name here"])
