"""Runs the workflows with act: real steps and real commands, stand-ins for GitHub, the Hub and the actions."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTIONS = Path(__file__).resolve().parent / "standins" / "actions"
OWN_REPOSITORY, OWN_COMMIT = "someone/see-through", "1" * 40
OWN = f"{OWN_REPOSITORY}@{OWN_COMMIT}"
"""How other repositories of these tests call the workflows' own."""
NOT_IN_ACT = {
    "job.workflow_repository": f"'{OWN_REPOSITORY}'",
    "job.workflow_sha": f"'{OWN_COMMIT}'",
    "      queue: max": "      # queue: max",
}
"""What act does not know -> what stands for it: both expressions are empty there, the key is refused."""
EXAMPLE = Path(__file__).resolve().parents[1] / "example_repository"
BIN = Path(sys.executable).parent

_USES = re.compile(r"([^@/\s]+/[^@/\s]+)((?:/[^@\s]+)?)@([0-9a-f]{40})")


def load(path: Path) -> dict[str, Any]:
    """A workflow or an action as data; `on` stays a word."""
    text = re.sub(r"^on:", '"on":', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(yaml.safe_load(text))


def yaml_files() -> list[Path]:
    """Every workflow and action of the project."""
    github = ROOT / ".github"
    return sorted([*github.glob("workflows/*.yml"), *github.glob("actions/*/action.yml")])


def steps_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All steps of a workflow's jobs, or of an action."""
    if "runs" in document:
        return list(document["runs"]["steps"])
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


def used_actions() -> dict[str, set[str]]:
    """Actions of other repositories that are used: repository and path -> commits."""
    used: dict[str, set[str]] = {}
    for path in yaml_files():
        for step in steps_of(load(path)):
            if match := _USES.fullmatch(step.get("uses", "")):
                used.setdefault(match[1] + match[2], set()).add(match[3])
    return used


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of a run.

    Attributes:
        exit_code: act's.
        jobs: Result by the job's name.
        steps: Result by `job: step`.
        text: Everything that the steps printed.
        summary: The job summaries.
        commit: What it was about; empty if that is act's own affair.
        state: The folder of the stand-in actions.
    """

    exit_code: int
    jobs: dict[str, str]
    steps: dict[str, str]
    text: str
    summary: str
    commit: str
    state: Path = field(repr=False)

    @property
    def attested(self) -> dict[str, str]:
        """The sha256 of each attested file."""
        path = self.state / "attested.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def installed(self) -> list[str]:
        """What pip was asked to install, a line a call: `job: arguments`."""
        path = self.state / "installed.txt"
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, action: str) -> list[dict[str, Any]]:
        """The calls of an action."""
        lines = (self.state / "calls.jsonl").read_text().splitlines()
        return [call for call in map(json.loads, lines) if call["action"] == action]


def own_checkout(folder: Path, *, source: Path = ROOT, change: Callable[[Path], None] = lambda _: None) -> Path:
    """A repository with one commit, as a runner would check it out.

    Args:
        folder: Where it is made; may be `source`.
        source: Whose files it has; of the project's own those below tests are left out.
        change: Edits them before they are committed.
    """
    if folder != source:
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=source, check=True, capture_output=True, text=True).stdout.splitlines()
        for name in names:
            if not name.startswith("tests/") and (source / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, folder / name)
    for path in (folder / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for ours, acts in NOT_IN_ACT.items():
            text = text.replace(ours, acts)
        path.write_text(text, encoding="utf-8")
    change(folder)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=All"]):
        subprocess.run([*git, *command], cwd=folder, check=True, capture_output=True)
    return folder


def run_workflow(
    folder: Path,
    *,
    checkout: Path,
    event: str,
    payload: Mapping[str, Any],
    state: Path | None = None,
    workflow: str = "release-model.yml",
    own: Path | None = None,
    directory: Path | None = None,
    repository: str = "someone/app",
    ref: str = "refs/heads/main",
    commit: str = "",
    api_url: str = "http://127.0.0.1:9",
    server_url: str = "http://127.0.0.1:9",
    hub_url: str = "http://127.0.0.1:9",
    token: str = "write-token",  # noqa: S107 - the stand-in's
    variables: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    built: Path | None = None,
    timeout_s: float = 240.0,
) -> Run:
    """Runs a workflow.

    Args:
        folder: A new folder for what act keeps.
        checkout: What a plain checkout gives: the workflows' own repository, from `own_checkout`, or an app's.
        event: `push` or `workflow_dispatch`.
        payload: The event, besides what follows from the other arguments.
        state: Of the stand-in actions; one that was used before brings its caches.
        workflow: Its file name.
        own: The workflows' own repository, as others call it; `checkout` by default.
        directory: The repository whose workflow it is, if another one.
        repository: That repository's name.
        ref: What the event is about.
        commit: Of that repository; by default one of which GitHub's stand-in knows nothing.
        api_url: GitHub's API.
        server_url: GitHub's pages.
        hub_url: The Hub.
        token: The run's own.
        variables: The repository's.
        secrets: Its, besides the token.
        built: Where equal builds are found and kept, for a run that is not about building.
        timeout_s: For all of it.
    """
    own = own or checkout
    folder.mkdir(parents=True)
    state = state or folder / "state"
    for name in ("summaries", "artifacts", "caches", "repositories"):
        (state / name).mkdir(parents=True, exist_ok=True)
    for name in ("artifacts", "summaries"):
        shutil.rmtree(state / name)
        (state / name).mkdir()
    for name in ("calls.jsonl", "installed.txt", "attested.json"):
        (state / name).unlink(missing_ok=True)
    for name, there in (("self", checkout), (OWN_REPOSITORY, own)):
        link = state / "repositories" / name
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(there)
    event_file = folder / "event.json"
    owner, _, short = repository.partition("/")
    about = {"full_name": repository, "name": short, "owner": {"login": owner}, "default_branch": "main"}
    event_file.write_text(json.dumps({"ref": ref, "repository": {**about, "private": False}, **payload}))
    kind, _, short = ref.removeprefix("refs/").partition("/")
    environment = {
        "GITHUB_API_URL": api_url,
        "GITHUB_SERVER_URL": server_url,
        "GITHUB_REPOSITORY": repository,
        "GITHUB_REF": ref,
        "GITHUB_REF_NAME": short,
        **({"SHA_REF": commit} if commit else {}),  # What act makes GITHUB_SHA of.
        "GITHUB_REF_TYPE": "tag" if kind == "tags" else "branch",
        "GITHUB_RUN_ID": "1234567",
        "GITHUB_ACTIONS": "true",
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(folder / "huggingface"),
        "OMP_NUM_THREADS": "1",
        "STANDIN_STATE": str(state),
        "STANDIN_PYTHON": sys.executable,
        "STANDIN_ACTIONS": str(ACTIONS),
        "STANDIN_BUILT": str(built or ""),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ["--json", "--strict", "--action-offline-mode", "--no-skip-checkout", "--no-cache-server"]
    options += ["--action-cache-path", str(folder / "cache"), "--eventpath", str(event_file)]
    options += ["--platform", "ubuntu-24.04=-self-hosted", "--secret", f"GITHUB_TOKEN={token}"]
    for key, value in environment.items():
        options += ["--env", f"{key}={value}"]
    for key, value in (variables or {}).items():
        options += ["--var", f"{key}={value}"]
    for key, value in (secrets or {}).items():
        options += ["--secret", f"{key}={value}"]
    options += ["--local-repository", f"{OWN}={own}"]
    for action, commits in used_actions().items():
        home = "/".join(action.split("/")[:2])
        for sha in commits:
            options += ["--local-repository", f"{home}@{sha}={ACTIONS / home.split('/')[1]}"]
    # A clean environment: act would hand the host's own to every step.
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "xdg")}
    (folder / "home").mkdir()
    done = subprocess.run(
        [BIN / "act", event, "--workflows", f".github/workflows/{workflow}", *options],
        cwd=directory or checkout,
        env=clean,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    (folder / "act.log").write_text(done.stdout + done.stderr)  # For whoever asks why a test failed.
    return _read(done, state, commit)


def _read(done: "subprocess.CompletedProcess[str]", state: Path, commit: str) -> Run:
    """The log of act, line by line."""
    jobs: dict[str, str] = {}
    steps: dict[str, str] = {}
    said = []
    for line in (*done.stdout.splitlines(), *done.stderr.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            said.append(line)
            continue
        said.append(entry.get("msg", "").rstrip("\n"))
        if "jobResult" in entry:
            name = re.sub(r"-\d+$", "", entry["job"].rpartition("/")[2].strip())
            jobs[name] = entry["jobResult"]
        if "stepResult" in entry and entry.get("stage") == "Main":
            steps[f"{entry['jobID']}: {entry['step']}"] = entry["stepResult"]
    summary = "\n".join(path.read_text() for path in sorted((state / "summaries").glob("*.md")))
    return Run(
        exit_code=done.returncode,
        jobs=jobs,
        steps=steps,
        text="\n".join(said),
        summary=summary,
        commit=commit,
        state=state,
    )
