"""The browser gate: what a browser returns for a release is judged, and what it cannot run is told."""

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import cli
from builders import gpt2_folder
from commands import assert_refused, call
from dists import REPOSITORY, TAG, make_dist, publish_to
from model_release.base.errors import ContractError, ManifestError
from model_release.browser import gate, npm
from model_release.browser.chromium import PageLostError, opened
from model_release.browser.gate import BACKENDS, PAGES, Backend, browse
from model_release.browser.judge import Judge
from model_release.browser.judge import probes as make_probes
from model_release.browser.record import record
from model_release.browser.report import browsing_document, render_browsing
from model_release.browser.results import BackendRun, BrowserReport
from model_release.browser.server import serve
from model_release.contract import manifest, measured
from model_release.contract.activations import load_contract
from model_release.contract.clauses import NEEDS, Judgement
from model_release.contract.dist import check_dist
from model_release.contract.measured import BackendEntry
from model_release.contract.measures import Array
from model_release.contract.metadata import metadata_of
from model_release.contract.tag import parse_tag
from model_release.hosts.local import LocalHost
from model_release.model.onnx_files.facts import read_facts
from model_release.model.onnx_files.session import Session
from model_release.model.weights.tokenizer import Reading, Tokenizer
from model_release.release.notes import render_notes
from model_release.release.publish import publish
from standins.github import StandInGitHub

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

WASM = BACKENDS[:1]

JUDGED_IN_A_PAGE = {
    *("IO02", "RUN01", "FIN01", "CONST01", "PROB01", "PROB02", "CAUS01", "BATCH01", "NUM01", "REL01"),
}
"""What a run of a file with the default activations lets one judge."""


@pytest.fixture(scope="module")
def swapped(released: Path, export: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release with another model for its fp16 file: every hash is right, the numbers are not."""
    folder = tmp_path_factory.mktemp("swapped") / "release"
    shutil.copytree(released, folder)
    other = gpt2_folder(tmp_path_factory.mktemp("other"), vocab=256, positions=40, seed=1)
    shutil.copyfile(export(other, activations=None, all_layers=True), folder / "model_fp16.onnx")
    document = manifest.read(folder)
    entries = manifest.describe_files(folder, [entry.name for entry in document.files])
    (folder / manifest.MANIFEST_NAME).write_bytes(manifest.render(replace(document, files=entries)))
    described = (*entries, *manifest.describe_files(folder, [manifest.MANIFEST_NAME, *document.descriptions]))
    (folder / manifest.CHECKSUMS_NAME).write_bytes(manifest.checksums(described))
    return folder


@pytest.fixture
def in_browser(browser: "Browser", tool: Callable[[Callable[[], Any]], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate uses the tests' Chromium, and one backend unless told others: software WebGPU takes seconds a file."""
    tool(npm.install)
    monkeypatch.setattr(gate, "chromium", lambda: contextlib.nullcontext(browser))
    monkeypatch.setattr(gate, "BACKENDS", WASM)


@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_a_good_release_passes_and_the_table_is_json_too(released: Path, tmp_path: Path) -> None:
    outcome = call(cli.browse, released, "--json", tmp_path / "browser.json")
    assert outcome.code == 0, outcome.err
    document = json.loads((tmp_path / "browser.json").read_bytes())
    rows = {row["file"]: row for row in document["backends"]}
    assert {(file, row["backend"], row["verdict"]) for file, row in rows.items()} == {
        ("model.onnx", "wasm, 1 thread", "good"),
        ("model_fp16.onnx", "wasm, 1 thread", "good"),
    }
    assert rows["model.onnx"]["worst_relative"] < 1e-5
    # Weights were rounded, so it is another file's answer that was compared, and not the reference's own.
    assert 1e-5 < rows["model_fp16.onnx"]["worst_relative"] < 2e-2
    assert (document["clauses"], document["broken"], document["nothing_to_judge"]) == (["TOK01"], [], {})
    for row in rows.values():
        assert (set(row["clauses"]), row["findings"]) == (JUDGED_IN_A_PAGE, [])
        assert min(row[figure] for figure in ("load_s", "first_run_ms", "median_run_ms", "wasm_bytes")) > 0
        assert f"{row['worst_cosine']:.6f}" in outcome.out
    (held,) = re.findall(r"^[0-9]+ clauses hold: (.*)$", outcome.out, re.MULTILINE)
    assert set(held.split()) == {*JUDGED_IN_A_PAGE, "TOK01"}
    assert "nothing to judge" not in outcome.out


@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_a_file_of_another_model_fails_and_is_named(swapped: Path) -> None:
    outcome = call(cli.browse, swapped)
    assert_refused(outcome, 4, ("model_fp16.onnx on wasm, 1 thread", "1 of 2"), silent=False)
    assert "wrong: NUM01" in outcome.out


@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_a_backend_that_cannot_run_a_file_is_told_with_its_reason(released: Path) -> None:
    absent = Backend(name="absent", build="onnxruntime-web/wasm", providers=("webgpu",))
    result = browse(released, backends=[absent])
    assert [trial.verdict for trial in result.trials] == ["cannot run"] * 2
    assert "backend" in result.trials[0].refused
    with pytest.raises(ContractError, match=r"must run model\.onnx, no backend can"):
        result.require()
    elsewhere = [replace(trial, backend="another", refused="") for trial in result.trials]
    replace(result, trials=(*result.trials, *elsewhere)).require()


@pytest.mark.long
@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_a_backend_that_hangs_is_told_and_the_next_one_is_tried(released: Path, browser: "Browser") -> None:
    endless = "export const env = { wasm: {} }, InferenceSession = { create() { for (;;); } };"
    hanging = Backend(name="hanging", build=f"data:text/javascript,{endless}")
    good = ("wasm, 1 thread", "good", "")

    def tried(limit_s: int) -> set[tuple[str, str, str]]:
        result = browse(released, backends=[hanging, *WASM], limit_s=limit_s)
        return {(trial.backend, trial.verdict, trial.refused) for trial in result.trials}

    limit_s = 2
    while len(trials := tried(limit_s)) > 2 or good not in trials:
        limit_s *= 2  # On a busy machine a good page needs longer, too.
        assert limit_s <= 32, trials
    refused = f"the page must answer within {limit_s} s, it does not. Choose another model."
    assert trials == {("hanging", "cannot run", refused), good}
    assert browser.contexts == []


@pytest.mark.network
def test_the_gates_page_says_what_it_cannot_fetch(browser: "Browser", tmp_path: Path) -> None:
    build = "data:text/javascript,export const env = { wasm: {} };"
    request = {"build": build, "files": ["model.onnx"], "providers": [], "threads": 0}
    said = r"model\.onnx must be served beside this page, the server answers 404\. Serve a whole release\."
    with (
        serve(tmp_path, mounts=PAGES) as origin,
        opened(browser, f"{origin}/gate.html") as ask,
        pytest.raises(Exception, match=said),
    ):
        ask("gate.open", request)


@pytest.mark.parametrize("work", ["new Promise(() => {})", "(() => { for (;;); })()"], ids=["waiting", "busy"])
def test_a_page_that_never_answers_is_given_up(browser: "Browser", work: str) -> None:
    page = f"data:text/html,<script>window.think = () => {work}</script>"
    with opened(browser, page, limit_s=1) as ask, pytest.raises(PageLostError, match="must answer within 1 s"):
        ask("think")
    assert browser.contexts == []


@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_what_was_right_is_recorded_in_the_figures_and_told_in_the_notes(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(released, folder)
    assert call(cli.browse, folder, "--record").code == 0
    recorded = check_dist(folder, parse_tag("model-v1.0.0"))
    for model in recorded.figures[""].models:
        (entry,) = model.backends or ()
        assert (entry.backend, entry.runs, entry.cosine) == ("wasm, 1 thread", True, 1.0)
    notes = render_notes(recorded.document, recorded.figures)
    assert re.search(r"\| `model_fp16.onnx` \| [\d.]+ kB \| `wasm, 1 thread` \| 1.0000 \|\n", notes)
    once = (folder / "measured.json").read_bytes()
    assert call(cli.browse, folder, "--record").code == 0
    assert (folder / "measured.json").read_bytes() == once, "times are not in it"
    assert (folder / "manifest.json").read_bytes() == (released / "manifest.json").read_bytes()
    assert "In a browser" not in render_notes(manifest.read(released), {"": measured.read(released)})


def a_trial(**figures: Any) -> BackendRun:
    known = {"file": "model.onnx", "precision": "fp32", "size_bytes": 2000, "worst_cosine": 1.0, "worst_relative": 0.0}
    return BackendRun(**{**known, "backend": "webgpu", **figures})


@pytest.mark.network
def test_the_notes_tell_times_and_memory_which_are_no_part_of_the_release(tmp_path: Path) -> None:
    dist = make_dist(tmp_path / "dist")
    figures = {"load_s": 3.5, "session_s": 1.25, "first_run_ms": 130, "median_run_ms": 124, "wasm_bytes": 2.5e8}
    record(dist, BrowserReport(browser="1", trials=(a_trial(**figures), a_trial(backend="wasm", refused="no"))))
    with StandInGitHub() as site:
        repository = site.add_repository(REPOSITORY)
        notes = publish_to(site, dist).details.notes
        assert "| `webgpu` | 1.0000 | 2.25 | 1.25 | 130.0 | 124.0 | – | 250 |" in notes
        assert "| `wasm` | does not run | – | – | – | – | – | – |" in notes
        release = repository.published(TAG)
        assert release is not None
        assert (release.body, "browser.json" in {asset.name for asset in release.assets}) == (notes, False)
        before = len(site.writes())
        record(dist, BrowserReport(browser="1", trials=(a_trial(load_s=9.0), a_trial(backend="wasm", refused="no"))))
        publish_to(site, dist)
        assert len(site.writes()) == before, "other times are no other release"


@pytest.mark.parametrize(
    "content", ["{", "[1]", '[{"file": "a"}]', '[{"file": "a", "backend": "b", "load_s": "<b>"}]'], ids=repr
)
def test_a_file_that_holds_no_figures_is_refused(tmp_path: Path, content: str) -> None:
    dist = make_dist(tmp_path / "dist")
    (dist / "browser.json").write_text(content)
    with pytest.raises(ManifestError, match="must hold a browser's figures"):
        publish(dist, parse_tag(TAG), LocalHost(tmp_path / "releases"))
    assert not (tmp_path / "releases").exists()


def test_a_companion_is_recorded_before_it_stands_beside_another_model(tmp_path: Path) -> None:
    """Each job of a run judges the one model that it has built; their folders are merged afterwards."""
    part = make_dist(tmp_path / "part", prefix="herd-")
    record(part, BrowserReport(browser="1", trials=(a_trial(file="herd-model.onnx", load_s=3.5),)))
    assert (part / "herd-browser.json").exists()
    assert measured.read(part, "herd-").of("herd-model.onnx").backends == (
        BackendEntry(backend="webgpu", runs=True, cosine=1.0, relative=0.0),
    )
    with pytest.raises(ManifestError, match=r"must be a folder with manifest\.json"):
        check_dist(part, parse_tag(TAG))
    whole = make_dist(tmp_path / "dist")
    shutil.copytree(part, whole, dirs_exist_ok=True)
    assert [each.asset_prefix for each in check_dist(whole, parse_tag(TAG)).companions] == ["herd-"]


def test_two_companions_without_the_first_model_are_no_release(tmp_path: Path) -> None:
    for prefix in ("herd-", "flock-"):
        make_dist(tmp_path / "dist", prefix=prefix)
    with pytest.raises(ManifestError, match=r"must be a release with its manifest\.json"):
        record(tmp_path / "dist", BrowserReport(browser="1", trials=()))


def test_what_does_not_run_is_recorded_with_its_reason(released: Path, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    shutil.copytree(released, folder)
    refusal = BackendRun(
        file="model_fp16.onnx", precision="fp16", backend="webgpu", size_bytes=1, refused="no <b>adapter</b>"
    )
    record(folder, BrowserReport(browser="1", trials=(refusal,)))
    recorded = check_dist(folder, parse_tag("model-v1.0.0"))
    assert {model.file: model.backends for model in recorded.figures[""].models} == {
        "model.onnx": (),
        "model_fp16.onnx": (BackendEntry(backend="webgpu", runs=False, reason="no <b>adapter</b>"),),
    }
    notes = render_notes(recorded.document, recorded.figures)
    assert "does not run" in notes
    assert "- `model_fp16.onnx` on `webgpu`: `no <b>adapter</b>`" in notes


@pytest.mark.network
@pytest.mark.usefixtures("in_browser")
def test_a_page_that_reads_other_tokens_fails(released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Tokenizer.read
    monkeypatch.setattr(Tokenizer, "read", lambda reader, text: Reading(ids=(*read(reader, text).ids, 0), known=1.0))
    result = browse(released)
    assert [finding.clause for finding in result.findings] == ["TOK01"] * 2
    assert "TOK01" in render_browsing(result)
    with pytest.raises(ContractError, match="TOK01"):
        result.require()


def broken(runs: list[dict[str, Array]], change: Callable[[str, Array], Array | None]) -> list[dict[str, Array]]:
    """Runs with every output changed; None takes it away."""
    changed = [{name: change(name, array) for name, array in run.items()} for run in runs]
    return [{name: array for name, array in run.items() if array is not None} for run in changed]


def without_cause(name: str, array: Array) -> Array:
    """Every position gets a share of the last one's values."""
    return array if "attn_probs" in name else array + 0.5 * array[..., -1:, :]


@pytest.mark.parametrize(
    ("change", "clause", "cosine"),
    [
        (lambda _, array: array * 0, "CONST01", 0.0),  # Some GPUs without shader-f16 do this, without an error.
        (lambda _, array: array * np.float32(np.nan), "FIN01", None),
        (lambda _, array: array.astype(np.float16).view(np.uint8).ravel(), "RUN01", None),
        (lambda name, array: None if name == "logits" else array, "IO02", None),
        (lambda name, array: array[..., ::-1] if "attn_probs" in name else array, "PROB02", ...),
        (without_cause, "CAUS01", ...),
        (lambda _, array: array * np.float32(1.001), "REL01", 1.0),
    ],
    ids=["zeros", "nan", "float16", "missing", "mirrored", "acausal", "scaled"],
)
def test_wrong_outputs_are_found(
    released: Path, change: Callable[[str, Array], Array | None], clause: str, cosine: object
) -> None:
    metadata = metadata_of("", read_facts(released / "model.onnx").props)
    probes = make_probes(Session(released / "model.onnx"), range(9), metadata.blueprint.vocab)
    judge = Judge(load_contract().expected_outputs(metadata.blueprint, metadata.selection), probes)
    answers = [dict(probe.outputs) for probe in probes]
    fp32 = load_contract().precision("fp32")
    assert judge.judge(answers, fp32) == {
        "judgement": Judgement(judged=frozenset(JUDGED_IN_A_PAGE)),
        "worst_cosine": pytest.approx(1.0),
        "worst_relative": 0.0,
    }
    judged = judge.judge(broken(answers, change), fp32)
    assert clause in judged["judgement"].broken
    if cosine is not ...:
        assert judged["worst_cosine"] == (cosine if cosine is None else pytest.approx(cosine))


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "unjudged"),
    [({"positions": 1}, {"CONST01", "PROB02", "CAUS01"}), ({"vocab": 1}, {"CAUS01"})],
    ids=["one position", "a vocabulary of one"],
)
def test_a_page_runs_the_smallest_models_and_judges_less(
    sizes: dict[str, Any], unjudged: set[str], export: Callable[..., Path], tmp_path: Path
) -> None:
    model = export(gpt2_folder(tmp_path / "model", **sizes), activations=None, all_layers=True)
    metadata = metadata_of("", read_facts(model).props)
    probes = make_probes(Session(model), [0] * metadata.blueprint.context, metadata.blueprint.vocab)
    judge = Judge(load_contract().expected_outputs(metadata.blueprint, metadata.selection), probes)
    judgement = judge.judge([probe.outputs for probe in probes], load_contract().precision("fp32"))["judgement"]
    assert judgement == Judgement(judged=frozenset(JUDGED_IN_A_PAGE - unjudged))


def test_a_release_without_a_tokenizer_lets_no_page_judge_one() -> None:
    report = BrowserReport(browser="1", trials=(a_trial(judgement=Judgement(judged=frozenset({"NUM01"}))),))
    assert json.loads(browsing_document(report))["nothing_to_judge"] == {"TOK01": NEEDS["TOK01"]}
    text = render_browsing(report)
    assert "1 clause holds: NUM01" in text
    assert re.search(rf"^TOK01 +{NEEDS['TOK01']}$", text, re.MULTILINE)


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path) -> None:
    assert_refused(call(cli.browse, tmp_path / "nowhere"), 7, ("nowhere must be a release",))


def test_a_release_with_a_changed_file_is_refused(released: Path, tmp_path: Path) -> None:
    shutil.copytree(released, tmp_path / "release")
    (tmp_path / "release" / "model_fp16.onnx").write_bytes(b"other")
    assert_refused(call(cli.browse, tmp_path / "release"), 7, ("model_fp16.onnx",))


def test_a_machine_without_chromium_is_told_in_one_sentence(
    released: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHROMIUM_PATH", str(tmp_path / "chromium"))
    assert_refused(call(cli.browse, released), 2, ("Chromium must be installed",))
