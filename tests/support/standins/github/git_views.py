"""Git's things as the API shows them."""

import base64
from typing import Any
from urllib.parse import quote

from .calls import Call
from .objects import Commit, Entry, Person, TagObject
from .views import node_id, repository_url, user, web_url

MAX_INLINE_CONTENT_BYTES = 1_000_000  # Above it, the contents API leaves the content out.
_UNSIGNED = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}


def ref(call: Call, name: str, sha: str) -> dict[str, Any]:
    """A branch or tag, as git knows it."""
    kind = call.repository.objects.kind(sha)
    return {
        "ref": name,
        "node_id": node_id("Ref", name),
        "url": f"{repository_url(call)}/git/{quote(name)}",
        "object": {"type": kind, "sha": sha, "url": f"{repository_url(call)}/git/{kind}s/{sha}"},
    }


def person(item: Person) -> dict[str, str]:
    """An author or committer."""
    return {"name": item.name, "email": item.email, "date": item.date}


def git_commit(call: Call, sha: str) -> dict[str, Any]:
    """A commit, as git knows it."""
    item, url = call.repository.objects.commits[sha], repository_url(call)
    return {
        "sha": sha,
        "node_id": node_id("Commit", sha),
        "url": f"{url}/git/commits/{sha}",
        "html_url": f"{web_url(call)}/commit/{sha}",
        "author": person(item.author),
        "committer": person(item.committer),
        "tree": _tree_link(call, item),
        "message": item.message,
        "parents": _parents(call, item, "git/commits"),
        "verification": _UNSIGNED,
    }


def commit(call: Call, sha: str) -> dict[str, Any]:
    """A commit, as the repository's history shows it."""
    item, url = call.repository.objects.commits[sha], repository_url(call)
    return {
        "sha": sha,
        "node_id": node_id("Commit", sha),
        "url": f"{url}/commits/{sha}",
        "html_url": f"{web_url(call)}/commit/{sha}",
        "comments_url": f"{url}/commits/{sha}/comments",
        "commit": {
            "url": f"{url}/git/commits/{sha}",
            "author": person(item.author),
            "committer": person(item.committer),
            "message": item.message,
            "tree": _tree_link(call, item),
            "comment_count": 0,
            "verification": _UNSIGNED,
        },
        "author": user(call, item.author.name.replace(" ", "-")),
        "committer": user(call, item.committer.name.replace(" ", "-")),
        "parents": _parents(call, item, "commits"),
    }


def _tree_link(call: Call, item: Commit) -> dict[str, str]:
    return {"sha": item.tree, "url": f"{repository_url(call)}/git/trees/{item.tree}"}


def _parents(call: Call, item: Commit, path: str) -> list[dict[str, str]]:
    url, web = repository_url(call), web_url(call)
    return [{"sha": sha, "url": f"{url}/{path}/{sha}", "html_url": f"{web}/commit/{sha}"} for sha in item.parents]


def tag_object(call: Call, sha: str, item: TagObject) -> dict[str, Any]:
    """An annotated tag."""
    url = f"{repository_url(call)}/git"
    return {
        "node_id": node_id("Tag", sha),
        "tag": item.name,
        "sha": sha,
        "url": f"{url}/tags/{sha}",
        "message": item.message,
        "tagger": person(item.tagger),
        "object": {"sha": item.target, "type": item.kind, "url": f"{url}/{item.kind}s/{item.target}"},
        "verification": _UNSIGNED,
    }


def tree(call: Call, sha: str, *, recursive: bool) -> dict[str, Any]:
    """A tree, with everything below it or not."""
    objects = call.repository.objects
    lines = objects.walk(sha) if recursive else iter(objects.trees[sha].items())
    url = f"{repository_url(call)}/git"
    return {
        "sha": sha,
        "url": f"{url}/trees/{sha}",
        "truncated": False,
        "tree": [
            {
                "path": path,
                "mode": entry.mode,
                "type": entry.kind,
                "sha": entry.sha,
                "url": f"{url}/{entry.kind}s/{entry.sha}",
            }
            | ({"size": len(objects.blobs[entry.sha])} if entry.kind == "blob" else {})
            for path, entry in lines
        ],
    }


def wrapped_base64(content: bytes) -> str:
    """Base64 in lines, as GitHub sends it."""
    return base64.encodebytes(content).decode()


def content(call: Call, path: str, entry: Entry, ref_name: str, *, full: bool) -> dict[str, Any]:
    """A file or folder in the contents API; `full` adds a file's bytes."""
    repo, url = call.repository, repository_url(call)
    is_file = entry.kind == "blob"
    data = repo.objects.blobs[entry.sha] if is_file else b""
    kind = "file" if is_file else "dir"
    self_url = f"{url}/contents/{quote(path)}?ref={quote(ref_name)}"
    git_url = f"{url}/git/{entry.kind}s/{entry.sha}"
    html_url = f"{web_url(call)}/{'blob' if is_file else 'tree'}/{quote(ref_name)}/{quote(path)}"
    raw_url = f"{call.site.assets_url}/raw/{repo.full_name}/{quote(ref_name)}/{quote(path)}"
    shown = {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": entry.sha,
        "size": len(data),
        "url": self_url,
        "html_url": html_url,
        "git_url": git_url,
        "download_url": raw_url if is_file else None,
        "type": kind,
        "_links": {"self": self_url, "git": git_url, "html": html_url},
    }
    if full:
        small = len(data) <= MAX_INLINE_CONTENT_BYTES
        shown |= {"content": wrapped_base64(data) if small else "", "encoding": "base64" if small else "none"}
    return shown


def branch(call: Call, name: str, sha: str) -> dict[str, Any]:
    """A branch in full."""
    url = f"{repository_url(call)}/branches/{quote(name)}"
    protected = name in call.repository.protected
    return {
        "name": name,
        "commit": commit(call, sha),
        "_links": {"self": url, "html": f"{web_url(call)}/tree/{quote(name)}"},
        "protected": protected,
        "protection": {
            "enabled": protected,
            "required_status_checks": {"enforcement_level": "off", "contexts": [], "checks": []},
        },
        "protection_url": f"{url}/protection",
    }


def short_branch(call: Call, name: str, sha: str) -> dict[str, Any]:
    """A branch in a list."""
    return {
        "name": name,
        "commit": {"sha": sha, "url": f"{repository_url(call)}/commits/{sha}"},
        "protected": name in call.repository.protected,
    }


def tag(call: Call, name: str, sha: str) -> dict[str, Any]:
    """A tag in a list."""
    url, quoted = repository_url(call), quote(name, safe="")
    sha = call.repository.peeled(sha)
    return {
        "name": name,
        "node_id": node_id("Ref", f"refs/tags/{name}"),
        "commit": {"sha": sha, "url": f"{url}/commits/{sha}"},
        "zipball_url": f"{url}/zipball/refs/tags/{quoted}",
        "tarball_url": f"{url}/tarball/refs/tags/{quoted}",
    }
