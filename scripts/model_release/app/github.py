"""The web app's repository on GitHub: one commit with the env values and, delivered by git, the model's files.

Every pass reads the branch, plans (`app.commit`), and writes once, expecting what it read; so a re-run, a retry
and a repair are the same thing. What a protected branch refuses becomes a pull request, one for each release.
"""

from collections.abc import Mapping
from dataclasses import replace

from model_release.app.branches import Branch, Branches, ProtectedError, listing, open_repository
from model_release.app.commit import AppCommit, Blob, Changes, CommitResult, describe_blob, plan_app
from model_release.app.deploy import Deploy
from model_release.app.envfile import changed_lines
from model_release.app.pulls import Pulls
from model_release.app.rules import changed_by, ignored_by, rule_files
from model_release.base.errors import EnvFileError, HostError
from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy


def commit_to_app(
    api: Client,
    request: AppCommit,
    *,
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Progress = silent,
) -> CommitResult:
    """Puts values and files into the app's repository, by commit or by pull request, and starts its deploy.

    Args:
        api: From `github_client.connect`.
        request: What goes where.
        retry_policy: How long GitHub may take.
        progress: Told each line that changes, and each wait.

    Raises:
        HostError: GitHub refuses for good, or a file is too large for it.
        EnvFileError: The env file is missing there, or cannot be edited safely.
    """
    blobs = {path: describe_blob(file) for path, file in sorted(request.files.items())}
    app = _App(api, request, blobs, progress)
    what = f"{request.repository} (--env-repo)"
    result = with_retries(app.place, retry_policy, progress, what=what)
    if request.deploy_workflow is None:
        return result
    if result.outcome in ("pull request", "branch pushed"):
        note = f"{request.deploy_workflow} is not started: nothing changes for the app before the merge."
        return replace(result, notes=(*result.notes, note))
    deploy = Deploy(app.branches.repo, request, new=result.outcome == "committed")
    dispatched, note = with_retries(deploy.start, retry_policy, progress, what=what)
    return replace(result, dispatched=dispatched, notes=(*result.notes, note) if note else result.notes)


def check_app(
    api: Client,
    request: AppCommit,
    *,
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Progress = silent,
) -> None:
    """Everything that can be refused before there is a release; writes nothing.

    Raises:
        HostError: There is no such repository or branch for us, or its own rules change files.
        EnvFileError: The env file is missing there, or cannot be edited safely.
    """
    app = _App(api, request, {}, progress)
    with_retries(app.check, retry_policy, progress, what=f"{request.repository} (--env-repo)")


class _App:
    """The repository, and what this run has said and judged already."""

    def __init__(self, api: Client, request: AppCommit, blobs: Mapping[str, Blob], progress: Progress) -> None:
        self._api, self._request, self._blobs, self._progress = api, request, blobs, progress
        self._opened: Branches | None = None
        self._shown = self._ruled = False

    @property
    def branches(self) -> Branches:
        """The repository's branches; it is asked for once."""
        if self._opened is None:
            repo = open_repository(self._api, self._request.repository)
            self._opened = Branches(repo, self._request, self._blobs)
        return self._opened

    def check(self) -> None:
        """One pass that only reads."""
        base = self.branches.base()
        plan_app(self._request, self._blobs, base.state)
        self._apply_rules(base)

    def place(self) -> CommitResult:
        """One pass: what the branch lacks goes there, or into a pull request."""
        request, branches = self._request, self.branches
        pulls = Pulls(branches, request, self._blobs, self._progress)
        base = branches.base()
        changes = plan_app(request, self._blobs, base.state)
        topic = branches.read(request.topic)
        known = pulls.find(base) if topic else []
        if not changes:
            pulls.tidy(base, topic, known)
            return CommitResult(outcome="committed" if branches.has_tried else "unchanged", commit=base.state.commit)
        self._apply_rules(base)
        self._show(base, changes)
        if not any(pull.state == "open" for pull in known):
            try:
                commit = branches.commit(base, changes)
            except ProtectedError as refusal:
                self._progress(f"{base.name} is protected ({refusal}): a pull request instead")
            else:
                pulls.tidy(base, topic, known)
                return CommitResult(outcome="committed", commit=commit)
        return pulls.ask(base, changes, topic)

    def _apply_rules(self, base: Branch) -> None:
        """Looks once whether the repository's own rules would change or hide what is committed."""
        if self._ruled:
            return
        request = self._request
        holds = listing(self.branches.repo, base.state.commit)
        wanted = {path for each in (request.env_path, *request.files) for path in rule_files(each)}
        texts = {path: holds.read(path) for path in sorted(wanted & holds.shas.keys())}
        rule = changed_by(request.env_path, texts)
        if rule is not None and rule.attribute != "eol":
            raise EnvFileError(
                f"{request.env_path} must come out of git as it goes in, but {rule} {rule.effect}, which GitHub's API "
                f"does not. Add the line '{rule.exempts(request.env_path)}' below it."
            )
        for path in sorted(request.files):
            if rule := changed_by(path, texts):
                raise HostError(
                    f"{path} must come out of git as it goes in, but {rule} {rule.effect}, which GitHub's API does "
                    f"not. Use --delivery release, or add the line '{rule.exempts(path)}' below it."
                )
        for path in (request.env_path, *sorted(request.files)):
            if path not in holds.shas and (rule := ignored_by(path, texts)):
                self._progress(
                    f"warning: {path} is committed although {rule} leaves it out: tools that follow that rule do not "
                    "see it. Change that line."
                )
        self._ruled = True

    def _show(self, base: Branch, changes: Changes) -> None:
        """Says once what will change."""
        if self._shown:
            return
        self._shown = True
        self._progress(f"{self._request.repository}, {base.name}:")
        for line in changed_lines(base.state.env or b"", changes.env or base.state.env or b""):
            self._progress(line)
        for path in changes.files:
            self._progress(f"  + {path} ({self._blobs[path].size_bytes / 1e6:.1f} MB)")
