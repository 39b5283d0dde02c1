"""What a repository on GitHub allows and holds, as far as a token may see it. Nothing is written, nothing is judged."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import github

from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.github_words import read_refusal, words_of
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy

_T = TypeVar("_T")
_PULL_REQUEST_RULES = frozenset({"pull_request", "update", "required_status_checks", "required_signatures"})
"""Rules that may keep a workflow's commit from a branch (https://docs.github.com/rest/repos/rules)."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A deployment environment.

    Attributes:
        reviewers: How many people or teams are asked.
        protected_branches_only: Whether tags are kept out.
        patterns: Else which refs may deploy, as kind (`branch`, `tag`) and pattern of the name; None for any, or if
            the token may not see them.
    """

    reviewers: int
    protected_branches_only: bool
    patterns: tuple[tuple[str, str], ...] | None

    def lets_in(self, kind: str, name: str) -> bool:
        """Whether a `branch` or a `tag` may deploy, as far as can be seen; of branches it is not asked which."""
        if self.protected_branches_only:
            return kind == "branch"
        return self.patterns is None or any(of == kind and fnmatchcase(name, text) for of, text in self.patterns)


@dataclass(frozen=True, kw_only=True)
class TagState:
    """A tag and its release.

    Attributes:
        commit: What git's tag stands for; empty without one.
        public: Whether people see a release under it.
    """

    commit: str
    public: bool


@dataclass(frozen=True, kw_only=True)
class RepositoryState:
    """A repository as such.

    Attributes:
        may_push: Whether the token may write contents.
    """

    name: str
    default_branch: str
    private: bool
    may_push: bool


class RepositorySettings:
    """Answers one question at a time; None where the token may not see the answer.

    Args:
        client: From `github_client.connect`.
        repository: `owner/name`.
        retry_policy: How long GitHub may take.
        progress: Told each wait.

    Every method raises `HostError` where GitHub is out of reach, or refuses the repository itself.
    """

    def __init__(
        self,
        client: Client,
        repository: str,
        *,
        retry_policy: RetryPolicy = RETRY_POLICY,
        progress: Progress = silent,
    ) -> None:
        self._client, self._name, self._retry_policy, self._progress = client, repository, retry_policy, progress

    def repository(self) -> RepositoryState:
        """The repository, which the token must be able to read."""
        found = self._asked(self._get(""))
        return RepositoryState(
            name=str(found["full_name"]),
            default_branch=str(found["default_branch"]),
            private=bool(found["private"]),
            may_push=bool(found.get("permissions", {}).get("push")),
        )

    def head(self, branch: str) -> str:
        """A branch's newest commit; empty if there is no such branch."""
        found = self._seen(self._get(f"/branches/{quote(branch, safe='/')}"), absent={})
        return str(found["commit"]["sha"]) if found else ""

    def protected(self, branch: str) -> bool:
        """Whether a branch, as far as can be seen, wants more than a commit."""
        place = quote(branch, safe="/")
        found = self._seen(self._get(f"/branches/{place}"), absent={})
        rules = self._seen(self._get(f"/rules/branches/{place}"), absent=[])
        return bool(found and found["protected"]) or any(rule["type"] in _PULL_REQUEST_RULES for rule in rules or ())

    def actions_may_open_pulls(self) -> bool | None:
        """Whether workflows may open pull requests."""
        found = self._seen(self._get("/actions/permissions/workflow"), absent=None)
        return None if found is None else bool(found["can_approve_pull_request_reviews"])

    def immutable_releases(self) -> bool | None:
        """Whether a release can no longer change once it is public."""
        found = self._seen(self._get("/immutable-releases"), absent={"enabled": False})
        return None if found is None else bool(found["enabled"])

    def environment(self, name: str) -> Environment | None:
        """A deployment environment; None also if there is none."""
        found = self._seen(self._get(f"/environments/{quote(name)}"), absent=None)
        if found is None:
            return None
        rules = found.get("protection_rules") or ()
        policy = found.get("deployment_branch_policy") or {}
        return Environment(
            reviewers=sum(len(rule.get("reviewers") or ()) for rule in rules),
            protected_branches_only=bool(policy.get("protected_branches")),
            patterns=self._may_deploy(name) if policy.get("custom_branch_policies") else None,
        )

    def _may_deploy(self, environment: str) -> tuple[tuple[str, str], ...] | None:
        """The patterns of an environment; those from before there were any for tags have no kind."""
        place = f"/environments/{quote(environment)}/deployment-branch-policies?per_page=100"
        found = self._seen(self._get(place), absent=None)
        if found is None:
            return None
        return tuple((str(each.get("type", "branch")), str(each["name"])) for each in found["branch_policies"])

    def variables(self) -> Mapping[str, str] | None:
        """The repository's variables for workflows."""
        found = self._seen(self._get("/actions/variables?per_page=30"), absent=None)
        return None if found is None else {str(each["name"]): str(each["value"]) for each in found["variables"]}

    def cached(self, key: str, refs: frozenset[str]) -> bool | None:
        """Whether a cache of this key belongs to one of the refs; others are out of a run's reach."""
        found = self._seen(self._get(f"/actions/caches?{urlencode({'key': key})}"), absent=None)
        if found is None:
            return None
        return any(each.get("key") == key and each.get("ref") in refs for each in found["actions_caches"])

    def tag(self, tag: str) -> TagState:
        """A tag and its release."""
        place = quote(tag)
        found = self._seen(self._get(f"/git/ref/tags/{place}"), absent=None)
        target = found["object"] if found else {"type": "", "sha": ""}
        while target["type"] == "tag":
            target = self._asked(self._get(f"/git/tags/{target['sha']}"))["object"]
        released = self._seen(self._get(f"/releases/tags/{place}"), absent=None)
        return TagState(commit=str(target["sha"]), public=released is not None)

    def file(self, path: str, branch: str) -> bytes | None:
        """A small file of a branch; None if there is none."""
        found = self._at(path, branch)
        return base64.b64decode(found["content"]) if isinstance(found, dict) and found["type"] == "file" else None

    def has_folder(self, path: str, branch: str) -> bool:
        """Whether a branch has a folder."""
        return isinstance(self._at(path, branch), list)

    def _at(self, path: str, branch: str) -> Any:  # noqa: ANN401 - an answer in JSON
        """What is at a path: a file, the list of a folder, or None."""
        return self._seen(self._get(f"/contents/{quote(path)}?{urlencode({'ref': branch})}"), absent=None)

    def _get(self, path: str) -> Callable[[], Any]:
        """A question, to be asked."""
        return lambda: self._client.requester.requestJsonAndCheck("GET", f"/repos/{self._name}{path}")[1]

    def _asked(self, question: Callable[[], _T]) -> _T:
        return with_retries(question, self._retry_policy, self._progress, what=self._name)

    def _seen(self, question: Callable[[], Any], *, absent: Any) -> Any:  # noqa: ANN401 - an answer in JSON
        """The answer; `absent` where there is no such thing, None where the token may not see it."""

        def attempt() -> Any:  # noqa: ANN401
            try:
                return question()
            except github.GithubException as failure:
                if failure.status == 404:
                    return absent
                if failure.status == 403 and read_refusal(403, words_of(failure.data)) == "forbidden":
                    return None
                raise

        return self._asked(attempt)
