"""Releases: lists, drafts, publication, immutability."""

from typing import Any

from . import views
from .calls import REPOSITORY, Call, Refusal, Response, invalid, not_found, route
from .models import Release
from .repository import Repository

MAX_BODY_CHARACTERS = 125_000
RELEASES = f"{REPOSITORY}/releases"
RULES = "Repository rule violations found"
CREATION = "Cannot create ref due to creations being restricted."
_INVALID_IN_TAGS = set(" ~^:?*[\\\x7f") | {chr(code) for code in range(32)}


def visible(call: Call) -> list[Release]:
    """What the client may see, newest first: drafts only with push access."""
    releases = [release for release in call.repository.releases.values() if call.may_push or not release.draft]
    return sorted(releases, key=lambda release: (release.draft, release.created_at, release.id), reverse=True)


def wanted(call: Call) -> Release:
    """The release of the path."""
    release = call.repository.releases.get(int(call.params["release_id"]))
    if release is None or (release.draft and not call.may_push):
        raise not_found()
    return release


@route("GET", RELEASES)
def list_releases(call: Call) -> Response:
    """Published releases for everyone, drafts for those who may push."""
    return call.page(visible(call), lambda release: views.release(call, release))


@route("GET", f"{RELEASES}/latest")
def latest_release(call: Call) -> Response:
    """The latest full release."""
    return _shown(call, call.repository.latest())


@route("GET", f"{RELEASES}/tags/{{tag}}")
def release_by_tag(call: Call) -> Response:
    """A published release; a draft is not found by its tag, whoever asks."""
    return _shown(call, call.repository.published(call.params["tag"]))


@route("GET", f"{RELEASES}/{{release_id}}")
def release_by_id(call: Call) -> Response:
    """A release, or a draft."""
    return _shown(call, wanted(call))


@route("POST", RELEASES, writes="contents")
def create_release(call: Call) -> Response:
    """A new release; the tag of a draft need not exist."""
    repo = call.repository
    tag, target = call.text("tag_name"), call.text("target_commitish", repo.default_branch)
    draft, prerelease = _flag(call, "draft"), _flag(call, "prerelease")
    release = Release(
        id=repo.clock.next_id(),
        tag=tag,
        target=target,
        name=_optional_text(call, "name"),
        body=_optional_text(call, "body"),
        draft=True,
        prerelease=prerelease,
        created_at=repo.release_date(tag, target),
        untagged=repo.untagged_name(tag),
    )
    make_latest = _make_latest(call)
    _check(call, release, to_be_public=not draft)
    release.updated_at = repo.clock.now()
    repo.releases[release.id] = release
    if not draft:
        repo.publish(release, make_latest=make_latest or "true")
    shown = views.release(call, release)
    return Response(201, shown, {"Location": shown["url"]})


@route("PATCH", f"{RELEASES}/{{release_id}}", writes="contents")
def update_release(call: Call) -> Response:
    """Changes a release; `draft: false` publishes it."""
    repo, release = call.repository, wanted(call)
    was_draft = release.draft
    changed = Release(**vars(release))
    changed.tag = call.text("tag_name", release.tag)
    changed.target = call.text("target_commitish", release.target)
    changed.name = _optional_text(call, "name", release.name)
    changed.body = _optional_text(call, "body", release.body)
    changed.prerelease = _flag(call, "prerelease", release.prerelease)
    changed.draft = _flag(call, "draft", release.draft)
    make_latest = _make_latest(call)
    if release.immutable and (changed.tag != release.tag or changed.draft):
        raise invalid("Release", "Cannot change the tag or draft state of an immutable release")
    if was_draft or changed.tag != release.tag:
        _check(call, changed, to_be_public=not changed.draft)
    changed.updated_at = repo.clock.now()
    vars(release).update(vars(changed))
    if was_draft and not changed.draft:
        repo.publish(release, make_latest=make_latest or "true")
    elif make_latest:
        repo.mark_latest(release, make_latest)
    if not release.draft and f"refs/tags/{release.tag}" not in repo.refs:
        repo.create_tag(release.tag, target=release.target)
    return Response(200, views.release(call, release))


@route("DELETE", f"{RELEASES}/{{release_id}}", writes="contents")
def delete_release(call: Call) -> Response:
    """Removes a release and its files; the tag stays."""
    release = wanted(call)
    del call.repository.releases[release.id]
    for asset in release.assets:
        asset.file.unlink(missing_ok=True)
    return Response(204)


def _shown(call: Call, release: Release | None) -> Response:
    if release is None:
        raise not_found()
    return Response(200, views.release(call, release))


def _check(call: Call, release: Release, *, to_be_public: bool) -> None:
    """Refuses what GitHub refuses.

    Raises:
        Refusal: 422, with every error there is.
    """
    repo = call.repository
    if _may_not_tag(call, release):
        raise Refusal(403, "Resource not accessible by integration")
    errors: list[tuple[str, str] | str | dict[str, str]] = []
    has_tag = f"refs/tags/{release.tag}" in repo.refs
    valid_tag = bool(release.tag) and not (_INVALID_IN_TAGS & set(release.tag) or ".." in release.tag)
    valid_target = repo.resolve(release.target) is not None
    if release.body and len(release.body) > MAX_BODY_CHARACTERS:
        errors.append(_custom("body", f"body is too long (maximum is {MAX_BODY_CHARACTERS} characters)"))
    if to_be_public and any(r.tag == release.tag and not r.draft for r in repo.releases.values() if r.id != release.id):
        errors.append(("already_exists", "tag_name"))
    elif to_be_public and release.tag in repo.burned_tags:
        if not has_tag:
            errors.append(_custom("pre_receive", f"pre_receive {RULES}\n\n{CREATION}\n\n"))
        errors.append(_custom("tag_name", "tag_name was used by an immutable release"))
        if not has_tag:
            errors.append("Published releases must have a valid tag")
    elif not valid_tag or (to_be_public and not (has_tag or valid_target)):
        errors.append(_custom("tag_name", "tag_name is not a valid tag"))
        if to_be_public:
            errors.append("Published releases must have a valid tag")
    if not (valid_target or has_tag):
        errors.append(("invalid", "target_commitish"))
    if errors:
        shown = [error if isinstance(error, dict) else _as_error(error) for error in errors]
        raise Refusal(422, "Validation Failed", *shown, documentation="https://docs.github.com/rest/releases/releases")


def _may_not_tag(call: Call, release: Release) -> bool:
    """Whether a workflow's token names a commit that brings workflow files, or that is on no branch."""
    repo, sha = call.repository, release.target
    if not (call.token and call.token.is_actions and sha in repo.objects.commits):
        return False
    if f"refs/tags/{release.tag}" in repo.refs or call.data.get("target_commitish") != sha:
        return False
    on_a_branch = any(sha in repo.objects.history(head) for _, head in repo.branches())
    before = next(iter(repo.objects.commits[sha].parents), None)
    return not on_a_branch or _workflow_files(repo, sha) != (_workflow_files(repo, before) if before else {})


def _workflow_files(repo: Repository, sha: str) -> dict[str, bytes]:
    return {path: content for path, content in repo.files(sha).items() if path.startswith(".github/workflows/")}


def _custom(field: str, message: str) -> dict[str, str]:
    return {"resource": "Release", "code": "custom", "field": field, "message": message}


def _as_error(error: tuple[str, str] | str) -> dict[str, str]:
    if isinstance(error, str):
        return {"resource": "Release", "code": "custom", "message": error}
    return {"resource": "Release", "code": error[0], "field": error[1]}


def _optional_text(call: Call, name: str, default: str | None = None) -> str | None:
    return default if call.data.get(name) is None else call.text(name)


def _flag(call: Call, name: str, default: bool = False) -> bool:
    value: Any = call.data.get(name, default)
    if not isinstance(value, bool):
        raise Refusal(422, f"Invalid request.\n\nFor 'properties/{name}', {value!r} is not a boolean.")
    return value


def _make_latest(call: Call) -> str:
    value = str(call.data.get("make_latest", ""))
    if value not in ("", "true", "false", "legacy"):
        raise invalid("Release", ("invalid", "make_latest"))
    return value
