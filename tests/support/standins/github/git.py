"""The git data API: refs, commits, trees, blobs, tags; and what protects them."""

import base64
import binascii
from typing import Any

from . import git_views, views
from .calls import REPOSITORY, Call, Refusal, Response, invalid, missing, not_found, route
from .objects import FOLDER_MODE, TREE, Commit, Entry, Person, TagObject
from .releases import CREATION, RULES
from .repository import CLASSIC, RESTRICTED, Repository

GIT = f"{REPOSITORY}/git"
MAX_BLOB_BYTES = 100 << 20
THROUGH_PULL_REQUEST = "Changes must be made through a pull request."
NOT_AUTHORIZED = (
    "You're not authorized to push to this branch. Visit https://docs.github.com/articles/about-protected-branches/ "
    "for more information."
)


def protection_refusal(repo: Repository, branch: str, *, contents: bool) -> Refusal | None:
    """How a protected branch refuses a direct change.

    The contents API says 409 where the git data API says 422; a ruleset speaks of violations, a
    classic protection of the file that could not be updated.
    """
    kind = repo.protected.get(branch)
    if not kind:
        return None
    if kind == RESTRICTED:
        return Refusal(403, NOT_AUTHORIZED)
    if kind == CLASSIC:
        words = f"Could not update file: {THROUGH_PULL_REQUEST}" if contents else THROUGH_PULL_REQUEST
    else:
        words = f"{RULES}\n\n{THROUGH_PULL_REQUEST}\n\n"
    return Refusal(409 if contents else 422, words)


@route("GET", f"{GIT}/ref/{{ref}}")
def get_ref(call: Call) -> Response:
    """One branch or tag."""
    name = f"refs/{call.params['ref']}"
    if name not in call.repository.refs:
        raise not_found()
    return Response(200, git_views.ref(call, name, call.repository.refs[name]))


@route("GET", f"{GIT}/matching-refs/{{ref}}")
def matching_refs(call: Call) -> Response:
    """Branches or tags whose names begin so."""
    start = f"refs/{call.params['ref']}"
    found = sorted((name, sha) for name, sha in call.repository.refs.items() if name.startswith(start))
    return call.page(found, lambda item: git_views.ref(call, *item))


@route("POST", f"{GIT}/refs", writes="contents")
def create_ref(call: Call) -> Response:
    """A new branch or tag."""
    repo, name, sha = call.repository, call.text("ref"), call.text("sha")
    if not name.startswith("refs/") or name.count("/") < 2:
        raise Refusal(422, "Reference name must start with 'refs/' and have at least two slashes")
    if not repo.objects.kind(sha):
        raise Refusal(422, "Object does not exist")
    if name in repo.refs:
        raise Refusal(422, "Reference already exists")
    if name.removeprefix("refs/tags/") in repo.burned_tags and name.startswith("refs/tags/"):
        raise Refusal(422, f"{RULES}\n\n{CREATION}\n\n")
    repo.move(name, sha)
    return Response(201, git_views.ref(call, name, sha), {"Location": f"{views.repository_url(call)}/git/{name}"})


@route("PATCH", f"{GIT}/refs/{{ref}}", writes="contents")
def update_ref(call: Call) -> Response:
    """Moves a branch or tag; without `force` only forward."""
    repo, name, sha = call.repository, f"refs/{call.params['ref']}", call.text("sha")
    if name not in repo.refs:
        raise Refusal(422, "Reference does not exist")
    if not repo.objects.kind(sha):
        raise Refusal(422, "Object does not exist")
    _check_change(repo, name, "update")
    if not call.data.get("force") and (
        sha not in repo.objects.commits or repo.peeled(repo.refs[name]) not in repo.objects.history(sha)
    ):
        raise Refusal(422, "Update is not a fast forward")
    repo.move(name, sha)
    return Response(200, git_views.ref(call, name, sha))


@route("DELETE", f"{GIT}/refs/{{ref}}", writes="contents")
def delete_ref(call: Call) -> Response:
    """Removes a branch or tag."""
    repo, name = call.repository, f"refs/{call.params['ref']}"
    if name not in repo.refs:
        raise Refusal(422, "Reference does not exist")
    _check_change(repo, name, "delete")
    repo.move(name, None)
    return Response(204)


def _check_change(repo: Repository, name: str, verb: str) -> None:
    """A protected branch and an immutable release's tag stay where they are."""
    branch, tag = name.removeprefix("refs/heads/"), name.removeprefix("refs/tags/")
    release = repo.published(tag) if name.startswith("refs/tags/") else None
    if release and release.immutable:
        raise Refusal(422, f"{RULES}\n\nCannot {verb} this protected ref.\n\n")
    if name.startswith("refs/heads/"):
        refusal = protection_refusal(repo, branch, contents=False)
        if refusal and verb == "delete":
            raise Refusal(422, "Cannot delete this protected branch")
        if refusal:
            raise refusal


@route("POST", f"{GIT}/blobs", writes="contents")
def create_blob(call: Call) -> Response:
    """Stores a file's content."""
    text, encoding = call.text("content"), call.text("encoding", "utf-8")
    content = decoded(text) if encoding == "base64" else text.encode()
    if len(content) > MAX_BLOB_BYTES:
        raise Refusal(
            422,
            "Sorry, your input was too large to process. Consider creating the blob in a local clone of the "
            "repository and then pushing it to GitHub.",
            {"resource": "Blob", "code": "too_large", "field": "data"},
        )
    sha = call.repository.objects.put_blob(content)
    return Response(201, {"sha": sha, "url": f"{views.repository_url(call)}/git/blobs/{sha}"})


@route("GET", f"{GIT}/blobs/{{file_sha}}")
def get_blob(call: Call) -> Response:
    """A file's content."""
    sha = call.params["file_sha"]
    content = call.repository.objects.blobs.get(sha)
    if content is None:
        raise not_found()
    if ".raw" in call.accept:
        return Response(200, raw=content, media_type="application/vnd.github.raw+json; charset=utf-8")
    shown: dict[str, Any] = {"sha": sha, "node_id": views.node_id("Blob", sha), "size": len(content)}
    shown |= {"url": f"{views.repository_url(call)}/git/blobs/{sha}"}
    return Response(200, shown | {"content": git_views.wrapped_base64(content), "encoding": "base64"})


@route("POST", f"{GIT}/trees", writes="contents")
def create_tree(call: Call) -> Response:
    """A tree from lines; `base_tree` is the one they change, a line with `sha: null` removes."""
    objects = call.repository.objects
    base = call.data.get("base_tree")
    if base is not None:
        base = objects.commits[base].tree if base in objects.commits else base
        if base not in objects.trees:
            raise Refusal(422, "base_tree is not a valid tree oid")
    lines = call.data.get("tree")
    if not isinstance(lines, list) or not lines:
        raise missing("tree") if lines is None else Refusal(422, "Invalid tree info")
    changes: dict[str, Entry | None] = {}
    for line in lines:
        path = line.get("path", "")
        if not path or path.startswith("/") or path.endswith("/") or ".." in path.split("/"):
            raise Refusal(422, "tree.path contains a malformed path component")
        kind, sha = line.get("type", "blob"), line.get("sha")
        if "content" in line:
            sha = objects.put_blob(line["content"].encode())
        elif "sha" not in line:
            raise Refusal(422, "Must supply either tree.sha or tree.content")
        if sha is not None and objects.kind(sha) != kind:
            raise Refusal(422, f"tree.sha {sha} is not a valid {kind}")
        mode = line.get("mode", FOLDER_MODE if kind == TREE else "100644")
        changes[path] = None if sha is None else Entry(mode, kind, sha)
    return Response(201, git_views.tree(call, objects.tree_with(base, changes), recursive=False))


@route("GET", f"{GIT}/trees/{{tree_sha}}")
def get_tree(call: Call) -> Response:
    """A tree, by its id or by a commit, branch or tag."""
    repo, name = call.repository, call.params["tree_sha"]
    commit = repo.resolve(name)
    sha = repo.objects.commits[commit].tree if commit else name
    if sha not in repo.objects.trees:
        raise not_found()
    return Response(200, git_views.tree(call, sha, recursive="recursive" in call.query))


@route("POST", f"{GIT}/commits", writes="contents")
def create_commit(call: Call) -> Response:
    """A commit that no branch knows of yet."""
    objects = call.repository.objects
    message, tree, parents = call.text("message"), call.text("tree"), call.data.get("parents", [])
    if tree not in objects.trees:
        raise Refusal(422, "Tree SHA does not exist")
    if any(parent not in objects.commits for parent in parents):
        raise Refusal(422, "Parent SHA does not exist or is not a commit object")
    author = signature(call, "author")
    committer = signature(call, "committer") if "committer" in call.data else author
    sha = objects.put_commit(Commit(tree, tuple(parents), author, committer, message))
    return Response(201, git_views.git_commit(call, sha))


@route("GET", f"{GIT}/commits/{{commit_sha}}")
def get_commit(call: Call) -> Response:
    """A commit by its id."""
    if call.params["commit_sha"] not in call.repository.objects.commits:
        raise not_found()
    return Response(200, git_views.git_commit(call, call.params["commit_sha"]))


@route("POST", f"{GIT}/tags", writes="contents")
def create_tag_object(call: Call) -> Response:
    """An annotated tag; a ref to it is made apart."""
    objects = call.repository.objects
    target, kind = call.text("object"), call.text("type")
    if objects.kind(target) != kind:
        raise invalid("Tag", ("invalid", "object"))
    item = TagObject(call.text("tag"), kind, target, signature(call, "tagger"), call.text("message"))
    sha = objects.put_tag(item)
    return Response(201, git_views.tag_object(call, sha, item))


@route("GET", f"{GIT}/tags/{{tag_sha}}")
def get_tag_object(call: Call) -> Response:
    """An annotated tag by its id."""
    sha = call.params["tag_sha"]
    if sha not in call.repository.objects.tags:
        raise not_found()
    return Response(200, git_views.tag_object(call, sha, call.repository.objects.tags[sha]))


def signature(call: Call, field: str) -> Person:
    """The author or committer that was given, else the token's holder."""
    default = call.repository.person(call.token.login if call.token else "ghost")
    given = call.data.get(field) or {}
    return Person(given.get("name", default.name), given.get("email", default.email), given.get("date", default.date))


def decoded(text: str) -> bytes:
    """Base64 -> bytes.

    Raises:
        Refusal: 422, it is no base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(422, "content is not valid Base64") from None
