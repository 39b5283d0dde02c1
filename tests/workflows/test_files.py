"""The workflows as text: linters without a finding, and what no run by act can show (triggers, scopes, pins)."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest

import acting
import cli
from acting import ACTIONS, BIN, ROOT, load, steps_of, used_actions, yaml_files
from model_release.base.errors import UsageError
from model_release.contract.tag import parse_tag
from standins.actions import standin

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release-model.yml"
BOOLEANS = {"no_env", "no_browser", "dry_run", "create_env_file", "replace", "cache"}


def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a linter of the test environment, with shellcheck beside it on PATH."""
    return subprocess.run(
        [BIN / tool, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": f"{BIN}:/usr/bin:/bin", "HOME": "/nonexistent", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )


def jobs() -> list[tuple[str, dict[str, Any]]]:
    """Every job of every workflow, as `file: job`."""
    return [(f"{path.name}: {name}", job) for path in WORKFLOWS for name, job in load(path)["jobs"].items()]


# -- linters


def test_actionlint_and_shellcheck_find_nothing() -> None:
    assert (BIN / "shellcheck").exists()
    done = run("actionlint", "-shellcheck", BIN / "shellcheck", *WORKFLOWS)
    assert (done.returncode, done.stdout) == (0, "")


def test_actionlint_does_run_shellcheck(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yml"
    bad.write_text("on: push\njobs: { a: { runs-on: ubuntu-latest, steps: [{ run: 'x=$1; rm $x' }] } }\n")
    assert "SC2086" in run("actionlint", "-shellcheck", BIN / "shellcheck", bad).stdout


def test_zizmor_finds_nothing() -> None:
    done = run("zizmor", "--offline", "--no-progress", "--strict-collection", ".github")
    assert done.returncode == 0, done.stdout
    assert "No findings to report" in done.stdout + done.stderr


def test_every_finding_of_zizmor_that_is_put_aside_has_its_reason_beside_it() -> None:
    notes = [line for path in yaml_files() for line in path.read_text().splitlines() if "zizmor: ignore" in line]
    assert [line for line in notes if not re.search(r"zizmor: ignore\[[\w-]+\] \S+ \S+", line)] == []


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", sorted((ROOT / ".github" / "actions").glob("*/action.yml"))),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
    ],
)
def test_every_file_fits_its_schema(schema: str, paths: list[Path]) -> None:
    done = run("check-jsonschema", "--builtin-schema", schema, *paths)
    assert done.returncode == 0, done.stdout


# -- what act does not look at


def test_a_release_starts_with_its_tag_a_click_or_a_call() -> None:
    triggers = load(RELEASE)["on"]
    assert triggers.keys() == {"push", "workflow_dispatch", "workflow_call"}
    assert triggers["push"] == {"tags": ["model-v*"]}


def test_a_call_takes_what_a_click_takes() -> None:
    triggers = load(RELEASE)["on"]
    inputs = triggers["workflow_dispatch"]["inputs"]
    assert triggers["workflow_call"]["inputs"] == inputs
    assert {name for name, given in inputs.items() if given["type"] == "boolean"} == BOOLEANS
    assert all("required" not in given for given in inputs.values())


def test_each_job_waits_for_all_that_must_have_passed() -> None:
    needs = {name: job.get("needs", []) for name, job in load(RELEASE)["jobs"].items()}
    assert needs == {
        "plan": [],
        "build": "plan",
        "attest": ["plan", "build"],
        "publish": ["plan", "attest"],
        "preview": ["plan", "build"],
        "point": "plan",
    }
    assert "if" not in load(RELEASE)["jobs"]["publish"]


def test_what_a_job_takes_from_another_is_of_a_job_it_waits_for() -> None:
    for name, job in load(RELEASE)["jobs"].items():
        needs = job.get("needs", [])
        taken = set(re.findall(r"needs\.(\w+)\.", str(job)))
        assert taken <= set([needs] if isinstance(needs, str) else needs), name


def test_a_dry_run_takes_the_place_of_all_that_writes() -> None:
    jobs = load(RELEASE)["jobs"]
    writing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writing == {"attest", "publish", "point"}
    assert (jobs["attest"]["if"], jobs["preview"]["if"]) == ("${{ !inputs.dry_run }}", "${{ inputs.dry_run }}")
    assert jobs["point"]["if"] == "${{ (inputs.point_to || needs.plan.outputs.public == 'true') && !inputs.dry_run }}"
    assert "attest" in jobs["publish"]["needs"], "a job that needs a skipped one is skipped"
    assert not {"environment", "concurrency"} & jobs["preview"].keys(), "it waits for nobody"


def test_artifacts_are_named_for_this_release_alone() -> None:
    """All jobs of a run share them, those of its caller too; what is fetched here is signed and published."""
    steps = [step for step in steps_of(load(RELEASE)) if "-artifact@" in step.get("uses", "")]
    kept = [step["with"] for step in steps if "upload" in step["uses"]]
    fetched = [step["with"]["pattern"] for step in steps if "download" in step["uses"]]
    ours = "model-release_${{ needs.plan.outputs.tag }}_"
    assert [(each["name"], each["overwrite"]) for each in kept] == [(f"{ours}${{{{ matrix.name }}}}", True)]
    assert fetched == [f"{ours}*"] * 3
    with pytest.raises(UsageError):
        parse_tag("model-v1.0.0-rc_1")  # Where one tag begins like another, the `_` after it tells them apart.


def test_the_runner_is_one_by_name() -> None:
    """`latest` moves to another system with other browsers and libraries, whenever GitHub decides."""
    assert {job["runs-on"] for _, job in jobs()} == {"ubuntu-24.04"}


def test_every_checkout_of_a_called_workflow_is_of_its_own_repository() -> None:
    checkouts = [step for step in steps_of(load(RELEASE)) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == 5
    for step in checkouts:
        assert step["with"]["repository"] == "${{ job.workflow_repository }}"
        assert step["with"]["ref"] == "${{ job.workflow_sha }}"


def test_a_browser_judges_what_was_built_before_it_is_kept() -> None:
    steps = load(RELEASE)["jobs"]["build"]["steps"]
    built, judged, kept = steps[-3:]
    assert [step["run"].split()[1] for step in (built, judged)] == ["scripts/build.py", "scripts/browse.py"]
    assert kept["uses"].startswith("actions/upload-artifact@")
    assert "continue-on-error" not in judged
    assert judged["if"] == "needs.plan.outputs.browser == 'true'"


def test_no_release_is_lost_while_another_waits() -> None:
    """Of a group GitHub keeps one that waits, and cancels it for the next; `queue: max` keeps a hundred."""
    for name in ("publish", "point"):
        job = load(RELEASE)["jobs"][name]
        assert job["concurrency"] == {"group": "model-release", "cancel-in-progress": False, "queue": "max"}
        assert job["environment"] == "release"


def test_the_scopes_are_these_and_no_others() -> None:
    granted = {name: job.get("permissions") for name, job in jobs()}
    read = {"contents": "read"}
    assert granted == {
        "ci.yml: test": read,
        "ci.yml: nightly": read,
        "ci.yml: faults": read,
        "ci.yml: list": read,
        "ci.yml: pins": read,
        "release-model.yml: plan": {"contents": "read", "actions": "read"},
        "release-model.yml: build": read,
        "release-model.yml: attest": {"id-token": "write", "attestations": "write"},
        "release-model.yml: publish": {"contents": "write", "pull-requests": "write", "actions": "write"},
        "release-model.yml: preview": read,
        "release-model.yml: point": {"contents": "write", "pull-requests": "write", "actions": "write"},
        "warm-weights.yml: list": read,
        "warm-weights.yml: warm": read,
    }
    assert [load(path)["permissions"] for path in WORKFLOWS] == [{}] * len(WORKFLOWS)


def test_every_scope_says_what_it_is_for() -> None:
    scope = re.compile(r"^      (?:contents|pull-requests|actions|id-token|attestations): (?:read|write)(?P<why>.*)$")
    lines = [match for path in WORKFLOWS for line in path.read_text().splitlines() if (match := scope.match(line))]
    assert len(lines) == sum(len(job["permissions"]) for _, job in jobs())
    assert all(re.fullmatch(r" # \S.+", match["why"]) for match in lines)


@pytest.mark.parametrize("job", dict(jobs()).values(), ids=dict(jobs()))
def test_a_job_has_a_name_a_limit_and_steps_with_names(job: dict[str, Any]) -> None:
    assert job["name"]
    assert 0 < job["timeout-minutes"] <= 60
    assert all(step.get("name") for step in job["steps"])


@pytest.mark.parametrize("path", yaml_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_hold_no_expression_and_checkouts_no_credentials(path: Path) -> None:
    for step in steps_of(load(path)):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_only_what_asks_github_holds_the_token() -> None:
    holders = [
        (name, step["name"])
        for name, job in jobs()
        for step in job["steps"]
        if "GITHUB_TOKEN" in step.get("env", {}) or "github.token" in str(step.get("with", {}))
    ]
    assert holders == [
        ("ci.yml: nightly", "Ask what publishing would do"),
        ("release-model.yml: plan", "Look at the repository"),
        ("release-model.yml: plan", "Look at the release that the web app is to use"),
        ("release-model.yml: publish", "Publish, then point the web app at it"),
        ("release-model.yml: preview", "Compare with what is there"),
        ("release-model.yml: point", "Point the web app at it"),
    ]


def test_every_action_is_pinned_to_one_commit_with_its_version() -> None:
    pins = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    for path in yaml_files():
        for line in path.read_text().splitlines():
            if "uses:" in line and "./" not in line:
                assert pins.search(line), line
    assert [action for action, commits in used_actions().items() if len(commits) != 1] == []


def test_every_action_has_a_stand_in() -> None:
    used = used_actions()
    assert used.keys() == standin.ACTIONS.keys()
    for action in used:
        inputs = load(ACTIONS / action.removeprefix("actions/") / "action.yml")["inputs"]
        for path in yaml_files():
            for step in steps_of(load(path)):
                if step.get("uses", "").startswith(f"{action}@"):
                    assert step.get("with", {}).keys() <= inputs.keys(), f"{action} has an input its stand-in ignores"


def test_every_variable_of_the_workflows_is_an_option() -> None:
    """A variable that is no option would be ignored without a word."""
    known = {
        f"MODEL_RELEASE_{option.name}".upper()
        for command in cli.COMMANDS
        for option in command.params
        if isinstance(option, click.Option) and option.name
    }
    named = {name for path in yaml_files() for name in re.findall(r"MODEL_RELEASE_\w+", path.read_text())}
    assert named - known == set()


def test_a_click_offers_no_more_than_github_shows() -> None:
    """At most 25 inputs (https://github.blog/changelog/2025-12-04-actions-workflow-dispatch-workflows-now-support-25-inputs)."""
    assert len(load(RELEASE)["on"]["workflow_dispatch"]["inputs"]) <= 25


def test_what_a_pushed_tag_takes_from_variables_is_no_single_decision() -> None:
    """A variable that says `replace`, `dry_run` or `point_to` would say so for every release to come."""
    named = set(re.findall(r"vars\.MODEL_RELEASE_(\w+)", RELEASE.read_text()))
    assert named & {"REPLACE", "DRY_RUN", "POINT_TO", "TAG", "VERSION", "REVISION"} == set()


def test_every_input_reaches_a_command() -> None:
    text = RELEASE.read_text()
    for name in load(RELEASE)["on"]["workflow_call"]["inputs"].keys() - {"dry_run"}:  # That one chooses jobs.
        assert re.search(rf"MODEL_RELEASE_\w+: \$\{{\{{ inputs\.{name}\b", text), name


def test_every_input_variable_and_secret_is_explained() -> None:
    text = (ROOT / ".github" / "RELEASING.md").read_text()
    call = load(RELEASE)["on"]["workflow_call"]
    assert [name for name in (*call["inputs"], *call["secrets"]) if f"`{name}`" not in text] == []
    variables = set(re.findall(r"vars\.MODEL_RELEASE(_\w+)", RELEASE.read_text()))
    unsaid = {name for name in variables if not re.search(rf"`(…|MODEL_RELEASE){name}`", text)}
    assert unsaid == {"_MIRROR_ENDPOINT", "_MIRROR_PUBLIC_URL", "_ORIGIN"}, "the line of the mirror stands for these"


def test_the_light_install_is_enough_for_the_jobs_that_use_it() -> None:
    """plan, doctor, weights --list, publish, fetch and probe import nothing that a light job does not have."""
    heavy = ["torch", "transformers", "numpy", "onnx", "onnx_ir", "onnxruntime", "huggingface_hub", "safetensors"]
    heavy += ["jinja2", "tokenizers", "boto3", "playwright"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({heavy!r}))\n"
        "from model_release.cli import main, plan\n"
        "from model_release.app import fetch, github as app_github, repository\n"
        "from model_release.hosts import cors_probe, github, github_settings\n"
        "from model_release.release import preflight, publish, workflow\n"
        "sys.argv = ['plan.py', '--version', '1.0.0', '--model', 'demo,gpt2']\n"
        "main.run(plan.plan)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ci_and_the_gate_run_the_readmes_test_command_with_all_tests() -> None:
    command = "bash scripts/test.sh"
    (step,) = [step for step in load(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["steps"] if "run" in step]
    assert step["run"] == f"{command} --all"
    assert (ROOT / ".ci" / "run").read_text().endswith(f"\n{command} --all\n")
    assert f"{command} " in (ROOT / "README.md").read_text()


def test_every_night_the_hub_must_give_what_is_pinned() -> None:
    jobs = load(ROOT / ".github/workflows/ci.yml")["jobs"]
    assert jobs["pins"]["strategy"]["matrix"] == "${{ fromJSON(needs.list.outputs.matrix) }}"
    assert [step["run"] for name in ("list", "pins") for step in jobs[name]["steps"] if "run" in step] == [
        "python scripts/weights.py --list",
        "python scripts/weights.py",
    ]
    assert not any("cache" in step.get("uses", "") for step in jobs["pins"]["steps"]), "a cache would prove itself"


def test_new_versions_wait_before_dependabot_proposes_them() -> None:
    updates = load(ROOT / ".github" / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "pip"}
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)


@pytest.mark.parametrize(
    ("path", "first"),
    [
        (acting.EXAMPLE / ".github" / "workflows" / "model.yml", "name: Model"),
        (ROOT / "tests" / "web_app" / ".github" / "workflows" / "deploy.yml", "- uses: someone/see-through/"),
    ],
)
def test_the_readme_shows_what_the_tests_run(path: Path, first: str) -> None:
    text = textwrap.dedent(path.read_text())
    start = next(number for number, line in enumerate(text.splitlines()) if line.strip().startswith(first))
    lines = text.splitlines()[start : start + (7 if first == "name: Model" else 2)]
    shown = textwrap.dedent("\n".join(lines)).replace(acting.OWN.partition("@")[0], "OWNER/NAME")
    assert shown.replace("1" * 40, "COMMIT") in (ROOT / "README.md").read_text()


def test_the_example_repository_calls_the_workflow_with_inputs_it_has() -> None:
    (job,) = load(acting.EXAMPLE / ".github" / "workflows" / "model.yml")["jobs"].values()
    release = load(RELEASE)
    assert job["uses"].partition("@")[0].endswith("/.github/workflows/release-model.yml")
    assert job["with"].keys() <= release["on"]["workflow_call"]["inputs"].keys()
    wanted = {scope for inner in release["jobs"].values() for scope in inner["permissions"].items()}
    given = set(job["permissions"].items())
    assert {(scope, access) for scope, access in wanted if access == "write"} == given
