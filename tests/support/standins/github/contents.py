"""The contents API: files and folders of a branch, one commit for each change."""

from typing import NoReturn

from . import git_views
from .calls import REPOSITORY, Call, Refusal, Response, missing, not_found, route
from .git import decoded, protection_refusal, signature
from .objects import BLOB, FILE_MODE, TREE, Commit, Entry

CONTENTS = f"{REPOSITORY}/contents/{{path}}"
MAX_RAW_BYTES = 100 << 20


@route("GET", CONTENTS)
def get_contents(call: Call) -> Response:
    """A file, or what is in a folder."""
    repo, path = call.repository, (call.params["path"] or "").strip("/")
    name = call.query.get("ref") or repo.default_branch
    commit = repo.resolve(name)
    if commit is None:
        raise Refusal(404, f"No commit found for the ref {name}")
    entry = repo.objects.find(repo.objects.commits[commit].tree, path)
    if entry is None:
        raise not_found()
    if entry.kind == TREE:
        folder = f"{path}/" if path else ""
        lines = repo.objects.trees[entry.sha].items()
        return Response(200, [git_views.content(call, folder + name_, each, name, full=False) for name_, each in lines])
    if ".raw" in call.accept:
        return Response(200, raw=repo.objects.blobs[entry.sha], media_type="application/vnd.github.raw+json")
    return Response(200, git_views.content(call, path, entry, name, full=True))


@route("PUT", CONTENTS, writes="contents")
def put_contents(call: Call) -> Response:
    """Creates or replaces a file; to replace one, its present blob id must be given."""
    content = call.text("content")
    blob = call.repository.objects.put_blob(decoded(content))
    return _change(call, Entry(FILE_MODE, BLOB, blob))


@route("DELETE", CONTENTS, writes="contents")
def delete_contents(call: Call) -> Response:
    """Removes a file; its present blob id must be given."""
    return _change(call, None)


def _change(call: Call, entry: Entry | None) -> Response:
    """Checks in GitHub's order: the branch, then the blob id, then what protects the branch."""
    repo, path, message = call.repository, call.params["path"], call.text("message")
    branch = call.text("branch", repo.default_branch).removeprefix("refs/heads/")
    head = repo.branch_head(branch)
    if head is None:
        raise Refusal(404, f"Branch {branch} not found")
    tree = repo.objects.commits[head].tree
    old = repo.objects.find(tree, path)
    if old is None and entry is None:
        raise not_found()
    if old is not None:
        sha = call.data.get("sha")
        if not sha:
            raise missing("sha")
        if sha != old.sha:
            _stale(path, str(sha))
    refusal = protection_refusal(repo, branch, contents=True)
    if refusal:
        raise refusal
    author = signature(call, "author") if "author" in call.data else signature(call, "committer")
    committer = signature(call, "committer") if "committer" in call.data else author
    commit = Commit(repo.objects.tree_with(tree, {path: entry}), (head,), author, committer, message)
    sha = repo.objects.put_commit(commit)
    repo.move(f"refs/heads/{branch}", sha)
    shown = git_views.content(call, path, entry, branch, full=False) if entry else None
    return Response(200 if old else 201, {"content": shown, "commit": git_views.git_commit(call, sha)})


def _stale(path: str, sha: str) -> NoReturn:
    raise Refusal(
        409,
        f"{path} does not match {sha}",
        documentation="https://docs.github.com/rest/repos/contents#create-or-update-file-contents",
    )
