"""What can be known before a release is built: findings, each good, a warning or a refusal. Nothing is written."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from model_release.app.app import WebApp
from model_release.app.files import MODELS_FOLDER
from model_release.app.repository import AppPlace
from model_release.app.rules import changed_by, ignored_by, rule_files
from model_release.base.errors import HostError, ReleaseError, UsageError, WeightsError
from model_release.base.files import read_bytes
from model_release.base.text import quoted
from model_release.contract.pinned_models import load_registry
from model_release.contract.tag import ReleaseTag
from model_release.hosts.github_settings import RepositorySettings, RepositoryState
from model_release.release.request import BuildRequest
from model_release.release.workflow import WeightsJob, check_layers, require_pins

ENVIRONMENT = "release"
"""What the workflow's publish job waits for."""

WORKFLOW = Path(__file__).resolve().parents[3] / ".github" / "workflows" / "release-model.yml"
_ACTIONS_SETTINGS = "Settings, Actions, General, Workflow permissions"
_MAX_WORKFLOW_BYTES = 1 << 20
_ALIKE = 0.7  # of difflib: gtp2 is gpt2, distilgpt2 is not


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: What, in a word or two.
        text: What was found and, unless all is well, what to do.
        error: The failure that it will be; None for what is good or a warning.
    """

    level: Literal["good", "warning", "refused"]
    about: str
    text: str
    error: type[ReleaseError] | None = None


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """A release that is to be made, as far as it is known before.

    Attributes:
        tag: None if only the repository is looked at.
        commit: The run's; empty outside of one.
        models: The jobs with their requests.
        by_mirror: Whether the app reads a mirror.
        replace: Whether a public release may change.
        place: The web app; None if it is left alone.
        app: The same, to be asked whether its env file can be edited.
        branch: Of which the workflow was started by hand; empty for a pushed tag, and outside of a workflow.
        in_workflow: Whether the workflow asks: its other jobs have tokens of their own.
        by_hand: Whether a person asks: only then may weights be unpinned.
    """

    tag: ReleaseTag | None
    commit: str
    models: Sequence[tuple[WeightsJob, BuildRequest]]
    by_mirror: bool
    replace: bool
    place: AppPlace | None
    app: WebApp | None
    branch: str
    in_workflow: bool
    by_hand: bool

    @property
    def delivery(self) -> str:
        """How the app gets its model: auto, git or release."""
        return "release" if self.by_mirror else self.models[0][1].delivery


def examine(plan: ReleasePlan, settings: RepositorySettings, of_app: RepositorySettings) -> Iterator[Finding]:
    """Looks at everything, in the order in which a release would meet it.

    Args:
        plan: What is to be released.
        settings: The release's repository.
        of_app: The web app's, which may be the same.
    """
    yield from judge_models(plan.models, by_hand=plan.by_hand)
    try:
        state = settings.repository()
    except ReleaseError as failure:
        yield _refused("token", failure)
        return  # Nothing else would be answered.
    yield _token(state, in_workflow=plan.in_workflow)
    if plan.tag is not None:
        yield from _tag(plan, plan.tag, settings, state)
    yield from _environment(plan, settings)
    yield from _caches(plan, settings, state)
    yield from judge_variables(settings.variables())
    if plan.place is not None and plan.app is not None:
        yield from _web_app(plan, plan.place, plan.app, of_app)


def require(findings: Iterable[Finding]) -> None:
    """Ends with the first refusal, whose class and exit code are those of the failure it would have been later.

    Raises:
        ReleaseError: There is one.
    """
    refused = [finding for finding in findings if finding.error is not None]
    if refused:
        more = f" ({len(refused)} findings must be mended in all.)" if len(refused) > 1 else ""
        raise (refused[0].error or HostError)(f"{refused[0].text}{more}")


def judge_models(models: Iterable[tuple[WeightsJob, BuildRequest]], *, by_hand: bool) -> Iterator[Finding]:
    """Whether names and layers are known: what the registry has not is taken for a model of the Hub."""
    names = list(load_registry())
    for job, request in models:
        try:
            check_layers([(job, request)])
        except UsageError as failure:
            yield _refused("layers", failure)
        if job.is_gated:
            text = f"{job.name} is gated: HF_TOKEN must be that of an account that has accepted its terms on the Hub"
            yield Finding(level="warning", about="model", text=text)
        alike = difflib.get_close_matches(job.model, names, n=1, cutoff=_ALIKE)
        if not job.model or job.cache_key:
            yield Finding(level="good", about="model", text=f"{job.name}: {job.describe()}")
        elif job.is_unpinned:
            yield _unpinned(job, by_hand=by_hand)
        elif "/" not in job.model and job.model not in names and alike:
            text = f"--model must be a known name, got {quoted(job.model)}. Did you mean {alike[0]}?"
            yield Finding(level="refused", about="model", text=text, error=UsageError)
        else:
            text = f"{job.name}: {job.describe()}, of the Hub; no sha256 of it is known before it is fetched"
            yield Finding(level="warning", about="model", text=text)


def _unpinned(job: WeightsJob, *, by_hand: bool) -> Finding:
    try:
        require_pins([job], by_hand=by_hand)
    except WeightsError as failure:
        return _refused("model", failure)
    text = (
        f"{job.name}: {job.describe()}. By hand it is released as the Hub has it now, by a pushed tag not at all. "
        f"Run python scripts/weights.py --pin {job.model} and commit contract/models.json."
    )
    return Finding(level="warning", about="model", text=text)


def _token(state: RepositoryState, *, in_workflow: bool) -> Finding:
    where = f"{state.name}{', private' if state.private else ''}, default branch {state.default_branch}"
    if state.may_push:
        return Finding(level="good", about="token", text=f"may write to {where}")
    if in_workflow:
        return Finding(level="good", about="token", text=f"may read {where}; the jobs that write have their own")
    text = f"may only read {where}. To publish with it, give it contents: write; the workflow has a token of its own."
    return Finding(level="warning", about="token", text=text)


def _tag(plan: ReleasePlan, tag: ReleaseTag, settings: RepositorySettings, state: RepositoryState) -> Iterator[Finding]:
    """What is under the tag, and what would be."""
    there, immutable = settings.tag(tag.text), settings.immutable_releases()
    if there.public:
        if immutable and plan.replace:
            text = f"{tag.text} is public and immutable, --replace cannot change it. Use the next version."
            yield Finding(level="refused", about="tag", text=text, error=HostError)
            return
        text = f"{tag.text} is public already: equal content is kept, other content is refused"
        yield Finding(level="warning" if plan.replace else "good", about="tag", text=text)
    elif there.commit and plan.commit and there.commit != plan.commit:
        text = (
            f"{tag.text} is at {there.commit[:10]}, the run at {plan.commit[:10]}: the release will stand for the "
            "first. Run it for the tag, or move the tag."
        )
        yield Finding(level="warning", about="tag", text=text)
    elif there.commit:
        yield Finding(level="good", about="tag", text=f"{tag.text} is at {there.commit[:10]}, not released yet")
    elif plan.commit and (head := settings.head(state.default_branch)) != plan.commit:
        text = (
            f"{tag.text} is to be made at {plan.commit[:10]}, but {state.default_branch} has moved on to {head[:10]}; "
            "GitHub may refuse that. Push the tag before the run."
        )
        yield Finding(level="warning", about="tag", text=text)
    else:
        text = (
            f"{tag.text} is free; the release makes it at {plan.commit[:10] or f'the head of {state.default_branch}'}"
        )
        yield Finding(level="good", about="tag", text=text)
    if immutable:
        text = "what is public can never change, and its tag never be used again"
        yield Finding(level="good", about="immutable releases", text=text)


def _environment(plan: ReleasePlan, settings: RepositorySettings) -> Iterator[Finding]:
    """Who is asked before anything is published."""
    found = settings.environment(ENVIRONMENT)
    kind, name = ("branch", plan.branch) if plan.branch else ("tag", plan.tag.text if plan.tag else "")
    if found is None:
        text = (
            f"no environment {ENVIRONMENT} that this token can see: publishing then asks nobody. "
            f"Settings, Environments, New environment, {ENVIRONMENT}, Required reviewers."
        )
        yield Finding(level="warning", about="environment", text=text)
    elif plan.tag is not None and not found.lets_in(kind, name):
        allowed = ", ".join(f"{of} {pattern[:80]!a}" for of, pattern in (found.patterns or ())[:5])
        got = "protected branches only" if found.protected_branches_only else allowed or "nothing that may"
        text = (
            f"the environment {ENVIRONMENT} must let {'tags' if kind == 'tag' else f'the branch {name}'} deploy, "
            f"got {got}. Settings, Environments, {ENVIRONMENT}, Deployment branches and tags: "
            f"add the {'tag model-v*' if kind == 'tag' else f'branch {name}, or push the tag instead'}."
        )
        yield Finding(level="refused", about="environment", text=text, error=HostError)
    else:
        asked = f"{found.reviewers} to be asked before publishing" if found.reviewers else "nobody is asked"
        level: Literal["good", "warning"] = "good" if found.reviewers else "warning"
        yield Finding(level=level, about="environment", text=f"{ENVIRONMENT}: {asked}")


def _caches(plan: ReleasePlan, settings: RepositorySettings, state: RepositoryState) -> Iterator[Finding]:
    """Whether a run finds the weights: it sees the caches of its own tag and of the default branch alone."""
    refs = {f"refs/heads/{state.default_branch}"} | ({f"refs/tags/{plan.tag.text}"} if plan.tag else set())
    for job, _ in plan.models:
        warm = settings.cached(job.cache_key, frozenset(refs)) if job.cache_key else None
        if warm:
            yield Finding(level="good", about="weights", text=f"{job.name} is in the cache")
        elif warm is not None:
            text = f"{job.name} is not in the cache and comes from the Hub. Actions, Warm the weights, Run workflow."
            yield Finding(level="warning", about="weights", text=text)


def judge_variables(variables: Mapping[str, str] | None) -> Iterator[Finding]:
    """Whether every variable that is meant for the workflow is one that it reads."""
    text = read_bytes(WORKFLOW, limit_bytes=_MAX_WORKFLOW_BYTES).decode()
    known = sorted(set(re.findall(r"vars\.(MODEL_RELEASE_\w+)", text)))
    meant = sorted(name for name in variables or () if name.startswith("MODEL_RELEASE"))
    for name in meant:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE)
            text = f"{name} is read by nothing. {f'Did you mean {alike[0]}?' if alike else 'Remove it.'}"
            yield Finding(level="warning", about="variables", text=text)
    if meant and set(meant) <= set(known):
        yield Finding(level="good", about="variables", text=", ".join(meant))


def _web_app(plan: ReleasePlan, place: AppPlace, app: WebApp, settings: RepositorySettings) -> Iterator[Finding]:
    """Whether the app's repository takes what a release brings it."""
    try:
        app.check()
    except ReleaseError as failure:
        yield _refused("env file", failure)
        if isinstance(failure, HostError):
            return  # There is no such repository or branch for us.
    else:
        yield Finding(level="good", about="env file", text=f"{app.describe()} can be edited")
    branch = place.branch or settings.repository().default_branch
    yield from _branch(branch, settings)
    yield from _rules_of_git(plan, place, branch, settings)
    if plan.delivery != "release":
        yield from _static_folder(plan, place, branch, settings)


def _branch(branch: str, settings: RepositorySettings) -> Iterator[Finding]:
    """How the env file gets there."""
    if not settings.protected(branch):
        yield Finding(level="good", about="branch", text=f"{branch} takes a commit")
        return
    allowed = settings.actions_may_open_pulls()
    if allowed:
        text = f"{branch} is protected: the env file comes as a pull request"
        yield Finding(level="good", about="branch", text=text)
        return
    known = "Actions may not open pull requests" if allowed is False else "this token cannot see whether Actions may"
    text = (
        f"{branch} is protected, and {known}. {_ACTIONS_SETTINGS}: tick Allow GitHub Actions to create and approve "
        "pull requests. Else you open it from the link that the run shows."
    )
    yield Finding(level="warning", about="branch", text=text)


def _rules_of_git(plan: ReleasePlan, place: AppPlace, branch: str, settings: RepositorySettings) -> Iterator[Finding]:
    """What .gitattributes and .gitignore would do to our files."""
    model = f"{place.static_path}/{MODELS_FOLDER}/{plan.models[0][0].name}/model.onnx"
    places = dict.fromkeys((*rule_files(place.env_path), *rule_files(model)))
    found = {path: settings.file(path, branch) for path in places}
    texts = {path: content.decode(errors="replace") for path, content in found.items() if content is not None}
    rule = ignored_by(place.env_path, texts)
    if rule is not None and settings.file(place.env_path, branch) is None:
        text = f"{rule} hides {place.env_path}: git add passes over it. Change that line, or git add --force it."
        yield Finding(level="warning", about=".gitignore", text=text)
    rule = changed_by(model, texts)
    if rule is not None and plan.delivery != "release":
        text = (
            f"{model} must come out of git as it goes in, but {rule} {rule.effect}, which GitHub's API does not. "
            f"Use --delivery release, or add the line '{rule.exempts(model)}' below it."
        )
        if plan.delivery == "git":
            yield Finding(level="refused", about=".gitattributes", text=text, error=HostError)
        else:
            yield Finding(level="warning", about=".gitattributes", text=text)


def _static_folder(plan: ReleasePlan, place: AppPlace, branch: str, settings: RepositorySettings) -> Iterator[Finding]:
    """Whether a model in the app's tree would lie where the app serves it."""
    public = str(PurePosixPath(place.env_path).parent / "public")
    if settings.has_folder(place.static_path, branch):
        yield Finding(level="good", about="static folder", text=f"a model by git lies below {place.static_path}")
    elif place.static_path != public and settings.has_folder(public, branch):
        text = f"the app must serve {place.static_path}, but has {public} in its place. Give --static-dir {public}."
        if plan.delivery == "git":
            yield Finding(level="refused", about="static folder", text=text, error=UsageError)
        else:
            yield Finding(level="warning", about="static folder", text=text)


def _refused(about: str, failure: ReleaseError) -> Finding:
    return Finding(level="refused", about=about, text=str(failure), error=type(failure))
