"""What a run of the release workflow is asked for, and what GitHub Actions is told."""

import json
from pathlib import Path

import pytest

import cli
from commands import call
from model_release.base.errors import UsageError
from model_release.cli import actions
from model_release.contract.pinned_models import load_registry
from model_release.release import workflow


def text_of(jobs: tuple[workflow.WeightsJob, ...]) -> list[tuple[str, str, bool]]:
    return [(job.name, job.model, job.companion) for job in jobs]


# -- the tag


@pytest.mark.parametrize(
    ("tag", "version", "pushed"),
    [
        ("model-v1.2.3", None, None),
        (None, "1.2.3", None),
        (None, None, "model-v1.2.3"),
        ("model-v1.2.3", "1.2.3", None),
        (None, "1.2.3", "model-v9.9.9"),
    ],
)
def test_a_tag_is_given_or_made_from_a_version_or_was_pushed(
    tag: str | None, version: str | None, pushed: str | None
) -> None:
    assert workflow.resolve_tag(tag, version, pushed).text == "model-v1.2.3"


@pytest.mark.parametrize(
    ("tag", "version", "pushed", "says"),
    [
        (None, None, None, "must have a tag"),
        ("model-v1.0.0", "1.0.1", None, "must agree"),
        (None, None, "v1.0.0", "tag must be model-v"),
        (None, "1.0.0 ", None, "tag must be model-v"),
    ],
)
def test_a_run_without_one_clear_tag_is_refused(
    tag: str | None, version: str | None, pushed: str | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        workflow.resolve_tag(tag, version, pushed)


# -- the models


def test_the_first_model_has_plain_names_and_the_others_stand_beside_it() -> None:
    jobs = workflow.plan_models("demo, gpt2,someone/tiny", None)
    assert text_of(jobs) == [("demo", "", False), ("gpt2", "gpt2", True), ("tiny", "someone/tiny", True)]


def test_only_pinned_weights_have_a_key_in_the_cache() -> None:
    pinned = load_registry()["gpt2"]
    key = f"weights-openai-community--gpt2-{pinned['revision']}"
    demo, known, unknown = workflow.plan_models("demo,gpt2,someone/tiny", None)
    assert (demo.cache_key, known.cache_key, unknown.cache_key) == ("", key, "")
    (moved,) = workflow.plan_models("gpt2", "main")
    assert (moved.revision, moved.cache_key) == ("main", "")


def test_the_warmed_key_is_the_one_that_a_release_asks_for() -> None:
    warmed = {job.model: job.cache_key for job in workflow.registered_models()}
    assert warmed == {name: workflow.plan_models(name, None)[0].cache_key for name in load_registry()}
    assert warmed["gpt2"]


def test_the_list_shows_every_model_and_warms_the_pinned_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    shown = call(cli.weights, "--list").out.splitlines()
    assert len(shown) == len(load_registry())
    rows = json.loads((tmp_path / "outputs").read_text().removeprefix("matrix="))["include"]
    assert {row["model"] for row in rows} == {name for name, entry in load_registry().items() if "revision" in entry}


# -- models that the registry has, and nothing pins


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry with an unpinned model, a gated one among them; the real one may have none."""
    entries = {
        "gpt2": load_registry()["gpt2"],
        "young": {"repository": "someone/young", "license": "MIT", "layers": 4, "parameters": 10_000_000},
        "closed": {"repository": "someone/closed", "gated": True},
    }
    monkeypatch.setattr(workflow, "load_registry", lambda: entries)


@pytest.mark.usefixtures("registry")
def test_an_unpinned_model_says_so_and_has_no_key_in_the_cache() -> None:
    (young,) = workflow.plan_models("young", None)
    assert (young.revision, young.cache_key, young.is_unpinned) == ("main", "", True)
    assert young.describe() == "young at main, not pinned, about 40 MB in fp32"
    (closed,) = workflow.plan_models("closed", None)
    assert closed.describe() == "closed at main, not pinned, gated: needs HF_TOKEN"
    assert not workflow.plan_models("someone/else", None)[0].is_unpinned


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("model", ["young", "someone/young", "gpt2,young"])
@pytest.mark.parametrize(
    ("event", "code"), [("push", 5), ("schedule", 5), ("", 5), ("workflow_dispatch", 0), (None, 0)]
)
def test_an_unpinned_model_is_released_by_hand_and_never_by_a_tag(
    monkeypatch: pytest.MonkeyPatch, model: str, event: str | None, code: int
) -> None:
    """`event` None is a command line."""
    if event is not None:
        monkeypatch.setenv("GITHUB_ACTIONS", "true")
        monkeypatch.setenv("GITHUB_EVENT_NAME", event)
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    monkeypatch.setenv("GITHUB_REF_NAME", "model-v1.0.0")
    outcome = call(cli.plan, "--model", model)
    assert outcome.code == code, outcome.error
    name = model.rpartition(",")[2]
    if code:
        assert f"must be of pinned weights, got {name} without" in outcome.error
        assert f"weights.py --pin {name} and commit" in outcome.error
    else:
        assert "not pinned" in outcome.out


@pytest.mark.usefixtures("registry")
def test_layers_are_checked_where_the_registry_knows_how_many_there_are() -> None:
    refused = call(cli.plan, "--version", "1.0.0", "--model", "young", "--layers", "4")
    assert (refused.code, "young: " in refused.error) == (2, True)
    assert call(cli.plan, "--version", "1.0.0", "--model", "young", "--layers", "3").code == 0
    assert call(cli.plan, "--version", "1.0.0", "--model", "closed", "--layers", "400").code == 0


@pytest.mark.parametrize(
    ("models", "revision", "says"),
    [
        ("gpt2,openai-community/GPT2", None, "different names"),
        ("demo,gpt2", "main", "belongs to one model"),
        ("demo", "main", "belongs to one model"),
        ("gpt2,", None, "registry name or a hub id"),
        ("../gpt2", None, "registry name or a hub id"),
        ("gpt2;id", None, "registry name or a hub id"),
        ("gpt2", "$(id)", "branch, tag or commit"),
        (",".join(f"a{number}" for number in range(17)), None, "at most 16"),
    ],
)
def test_models_that_cannot_be_meant_are_refused(models: str, revision: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        workflow.plan_models(models, revision)


# -- the commands


def test_a_plan_fills_outputs_and_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("GITHUB_REF_TYPE", "tag")
    monkeypatch.setenv("GITHUB_REF_NAME", "model-v2.0.0")
    monkeypatch.setenv("MODEL_RELEASE_MODELS", "demo")
    monkeypatch.setenv("MODEL_RELEASE_LAYERS", "")
    assert call(cli.plan).code == 0
    outputs = dict(line.split("=", 1) for line in (tmp_path / "GITHUB_OUTPUT").read_text().splitlines())
    assert (outputs["tag"], outputs["browser"]) == ("model-v2.0.0", "true")
    (row,) = json.loads(outputs["matrix"])["include"]
    assert (row["name"], row["demo"], row["companion"]) == ("demo", True, False)
    assert "## model-v2.0.0: the plan" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL_RELEASE_LAYERS", "0;touch pwned"),
        ("MODEL_RELEASE_ACTIVATIONS", "everything"),
        ("MODEL_RELEASE_CONTEXT", "0"),
        ("MODEL_RELEASE_CONTEXT", "-1"),
        ("MODEL_RELEASE_CONTEXT", "65537"),
        ("MODEL_RELEASE_CONTEXT", "64;touch pwned"),
        ("MODEL_RELEASE_CONTEXT", "9" * 5000),
        ("MODEL_RELEASE_CONTEXT", "$(id)"),
        ("MODEL_RELEASE_PRECISION", "fp8"),
        ("MODEL_RELEASE_DELIVERY", "post"),
        ("MODEL_RELEASE_MODELS", "$(id)"),
        ("MODEL_RELEASE_NO_BROWSER", "sometimes"),
        ("MODEL_RELEASE_APP_PRECISION", "int4"),
        ("MODEL_RELEASE_SIZE_THRESHOLD", "much"),
        ("MODEL_RELEASE_SIZE_THRESHOLD", "-1"),
        ("MODEL_RELEASE_MIRROR", "ftp://models"),
        ("MODEL_RELEASE_MIRROR", "hub:../x"),
        ("MODEL_RELEASE_MIRROR_ENDPOINT", "https://s3.example"),
        ("MODEL_RELEASE_POINT_TO", "model-v1.0.0"),
        ("MODEL_RELEASE_TAG", "model-v1\n::set-output name=x::y"),
    ],
)
def test_a_bad_input_is_one_error_and_one_annotation(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("MODEL_RELEASE_VERSION", "1.0.0")
    monkeypatch.setenv(variable, value)
    outcome = call(cli.plan)
    assert outcome.code == 2
    (line,) = outcome.out.splitlines()
    assert line.startswith("::error title=plan.py::")
    assert outcome.error.startswith("error: ")


def test_the_context_that_is_asked_for_is_every_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_RELEASE_CONTEXT", "64")
    outcome = call(cli.plan, "--version", "1.0.0", "--model", "demo,gpt2")
    assert (outcome.code, outcome.out.count("layers the last, 64 tokens")) == (0, 2)
    assert [job.source.context for job in workflow.plan_models("demo,gpt2", None, 64)] == [64, 64]


def test_a_mirror_makes_automatic_delivery_the_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    for arguments, delivery in (([], "auto"), (["--mirror", "s3://models/gpt2"], "release")):
        assert call(cli.plan, "--version", "1.0.0", *arguments).code == 0
        assert (tmp_path / "outputs").read_text().splitlines()[-1] == f"delivery={delivery}"
    both = call(cli.plan, "--version", "1.0.0", "--mirror", "hub:octocat/gpt2", "--delivery", "git")
    assert (both.code, "got --delivery git" in both.error) == (2, True)


def test_a_plan_that_points_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    outcome = call(cli.plan, "--point-to", "model-v1.0.0")
    assert (outcome.code, "nothing is built" in outcome.out) == (0, True)
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert (outputs["tag"], json.loads(outputs["matrix"])) == ("model-v1.0.0", {"include": []})
    assert call(cli.plan, "--point-to", "latest").code == 2


def test_a_build_leaves_nothing_when_it_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "dist"
    taken.mkdir()
    outcome = call(cli.build, "--tag", "model-v1.0.0", "--demo", "--output", taken)
    assert outcome.code == 5
    assert "must be a new folder" in outcome.error
    missing = tmp_path / "deep" / "dist"
    outcome = call(cli.build, "--tag", "model-v1.0.0", "--model-path", tmp_path / "none", "--output", missing)
    assert outcome.code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["dist"]


def test_the_summary_is_cut_where_github_would_drop_it_whole() -> None:
    text = actions.summary("ü" * 1_000_000)
    assert len(text.encode()) <= 1 << 20
    assert text.endswith("ü\n\n")


def test_an_output_of_two_lines_is_a_defect() -> None:
    with pytest.raises(ValueError, match="must be one line"):
        actions.outputs({"tag": "a\nmatrix=b"})
