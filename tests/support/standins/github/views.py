"""Things as the API shows them."""

import base64
import zlib
from typing import Any
from urllib.parse import quote

from .calls import Call
from .models import Asset, Dispatch, Pull, Release
from .repository import Repository

_REPOSITORY_ADDRESSES = {
    "archive": "/{archive_format}{/ref}",
    "assignees": "/assignees{/user}",
    "blobs": "/git/blobs{/sha}",
    "branches": "/branches{/branch}",
    "collaborators": "/collaborators{/collaborator}",
    "comments": "/comments{/number}",
    "commits": "/commits{/sha}",
    "compare": "/compare/{base}...{head}",
    "contents": "/contents/{+path}",
    "contributors": "/contributors",
    "deployments": "/deployments",
    "downloads": "/downloads",
    "events": "/events",
    "forks": "/forks",
    "git_commits": "/git/commits{/sha}",
    "git_refs": "/git/refs{/sha}",
    "git_tags": "/git/tags{/sha}",
    "hooks": "/hooks",
    "issue_comment": "/issues/comments{/number}",
    "issue_events": "/issues/events{/number}",
    "issues": "/issues{/number}",
    "keys": "/keys{/key_id}",
    "labels": "/labels{/name}",
    "languages": "/languages",
    "merges": "/merges",
    "milestones": "/milestones{/number}",
    "notifications": "/notifications{?since,all,participating}",
    "pulls": "/pulls{/number}",
    "releases": "/releases{/id}",
    "stargazers": "/stargazers",
    "statuses": "/statuses/{sha}",
    "subscribers": "/subscribers",
    "subscription": "/subscription",
    "tags": "/tags",
    "teams": "/teams",
    "trees": "/git/trees{/sha}",
}


def node_id(kind: str, number: object) -> str:
    """An opaque id."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def repository_url(call: Call) -> str:
    """The repository's address in the API."""
    return f"{call.api}/repos/{call.repository.full_name}"


def web_url(call: Call) -> str:
    """The repository's address for people."""
    return f"{call.host}/{call.repository.full_name}"


def user(call: Call, login: str) -> dict[str, Any]:
    """An account."""
    number = 1 + sum(login.encode()) % 1000
    url = f"{call.api}/users/{quote(login)}"
    return {
        "login": login,
        "id": number,
        "node_id": node_id("User", number),
        "avatar_url": f"{call.host}/avatars/u/{number}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{call.host}/{quote(login)}",
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "starred_url": f"{url}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{url}/subscriptions",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": "Bot" if login.endswith("[bot]") else "User",
        "site_admin": False,
    }


def repository(call: Call) -> dict[str, Any]:
    """A repository in full."""
    repo, url, web = call.repository, repository_url(call), web_url(call)
    host = call.host.partition("//")[2]
    push = call.may_push
    open_pulls = len(repo.open_pulls())
    return {
        "id": repo.id,
        "node_id": node_id("Repository", repo.id),
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
        "visibility": "private" if repo.private else "public",
        "owner": user(call, repo.owner),
        "html_url": web,
        "description": None,
        "fork": False,
        "url": url,
        **{f"{name}_url": url + path for name, path in _REPOSITORY_ADDRESSES.items()},
        "created_at": repo.created_at,
        "updated_at": repo.created_at,
        "pushed_at": repo.created_at,
        "git_url": f"git://{host}/{repo.full_name}.git",
        "ssh_url": f"git@{host}:{repo.full_name}.git",
        "clone_url": f"{web}.git",
        "svn_url": web,
        "mirror_url": None,
        "homepage": None,
        "size": 1,
        **dict.fromkeys(("stargazers_count", "watchers_count", "watchers", "forks_count", "forks"), 0),
        **dict.fromkeys(("network_count", "subscribers_count"), 0),
        "open_issues_count": open_pulls,
        "open_issues": open_pulls,
        "language": None,
        "license": None,
        "topics": [],
        "has_issues": True,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": True,
        "has_pages": False,
        "has_discussions": False,
        "archived": False,
        "disabled": False,
        "default_branch": repo.default_branch,
        "permissions": {"admin": False, "maintain": False, "push": push, "triage": push, "pull": True},
    }


def asset(call: Call, release_: Release, item: Asset) -> dict[str, Any]:
    """A file of a release."""
    return {
        "url": f"{repository_url(call)}/releases/assets/{item.id}",
        "id": item.id,
        "node_id": node_id("ReleaseAsset", item.id),
        "name": item.name,
        "label": item.label,
        "uploader": user(call, "github-actions[bot]"),
        "content_type": item.content_type,
        "state": item.state,
        "size": item.size_bytes,
        "digest": item.digest,
        "download_count": item.download_count,
        "created_at": item.created_at,
        "updated_at": item.created_at,
        "browser_download_url": f"{web_url(call)}/releases/download/{quote(release_.web_tag, safe='')}/{item.name}",
    }


def release(call: Call, item: Release) -> dict[str, Any]:
    """A release with its files."""
    url, web = f"{repository_url(call)}/releases/{item.id}", web_url(call)
    uploads = f"{call.host}{call.prefix.replace('/v3', '')}/uploads/repos/{call.repository.full_name}"
    archive = repository_url(call)
    return {
        "url": url,
        "assets_url": f"{url}/assets",
        "upload_url": f"{uploads}/releases/{item.id}/assets{{?name,label}}",
        "html_url": f"{web}/releases/tag/{quote(item.web_tag, safe='')}",
        "id": item.id,
        "author": user(call, "github-actions[bot]"),
        "node_id": node_id("Release", item.id),
        "tag_name": item.tag,
        "target_commitish": item.target,
        "name": item.name,
        "draft": item.draft,
        "immutable": item.immutable,
        "prerelease": item.prerelease,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
        "published_at": item.published_at,
        "assets": [asset(call, item, each) for each in item.assets],
        "tarball_url": None if item.draft else f"{archive}/tarball/{quote(item.tag, safe='')}",
        "zipball_url": None if item.draft else f"{archive}/zipball/{quote(item.tag, safe='')}",
        "body": item.body,
    }


def pull_in_list(call: Call, item: Pull) -> dict[str, Any]:
    """A pull request in a list."""
    repo, url, web = call.repository, repository_url(call), f"{web_url(call)}/pull/{item.number}"
    owner, pull_url, issue_url = (
        user(call, repo.owner),
        f"{url}/pulls/{item.number}",
        f"{url}/issues/{item.number}",
    )
    addresses = {
        "html": web,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "review_comments": f"{pull_url}/comments",
        "review_comment": f"{url}/pulls/comments{{/number}}",
        "commits": f"{pull_url}/commits",
        "statuses": f"{url}/statuses/{item.head_sha}",
    }

    def end(branch_name: str, sha: str) -> dict[str, Any]:
        label = f"{repo.owner}:{branch_name}"
        return {"label": label, "ref": branch_name, "sha": sha, "user": owner, "repo": repository(call)}

    return {
        "url": pull_url,
        "id": item.id,
        "node_id": node_id("PullRequest", item.id),
        "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch",
        **{f"{name}_url": address for name, address in addresses.items()},
        "number": item.number,
        "state": item.state,
        "locked": False,
        "title": item.title,
        "user": user(call, "github-actions[bot]"),
        "body": item.body,
        "labels": [],
        "milestone": None,
        "created_at": item.created_at,
        "updated_at": item.created_at,
        "closed_at": item.closed_at,
        "merged_at": item.merged_at,
        "merge_commit_sha": item.merge_commit,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "head": end(item.head, item.head_sha),
        "base": end(item.base, item.base_sha),
        "_links": {name: {"href": address} for name, address in (addresses | {"self": pull_url}).items()},
        "author_association": "NONE",
        "auto_merge": None,
        "draft": item.draft,
        "active_lock_reason": None,
    }


def pull(call: Call, item: Pull) -> dict[str, Any]:
    """A pull request in full."""
    history = call.repository.objects.history
    commits = len(set(history(item.head_sha)) - set(history(item.base_sha)))
    merged = item.merged_at is not None
    return pull_in_list(call, item) | {
        "merged": merged,
        "mergeable": None if merged else True,
        "rebaseable": None if merged else True,
        "mergeable_state": "unknown" if merged else "clean",
        "merged_by": user(call, call.repository.owner) if merged else None,
        "comments": 0,
        "review_comments": 0,
        "maintainer_can_modify": False,
        "commits": commits,
        "additions": 1,
        "deletions": 0,
        "changed_files": 1,
    }


def workflow_id(name: str) -> int:
    """The number of a workflow file."""
    return zlib.crc32(name.encode())


def workflow(call: Call, repo: Repository, name: str) -> dict[str, Any]:
    """A workflow file."""
    number = workflow_id(name)
    url = f"{repository_url(call)}/actions/workflows/{number}"
    return {
        "id": number,
        "node_id": node_id("Workflow", number),
        "name": name.partition(".")[0],
        "path": f".github/workflows/{name}",
        "state": "active",
        "created_at": repo.created_at,
        "updated_at": repo.created_at,
        "url": url,
        "html_url": f"{web_url(call)}/blob/{repo.default_branch}/.github/workflows/{name}",
        "badge_url": f"{web_url(call)}/workflows/{name}/badge.svg",
    }


def workflow_run(call: Call, number: int, item: Dispatch) -> dict[str, Any]:
    """A run that a dispatch has started."""
    repo, url = call.repository, f"{repository_url(call)}/actions/runs/{number}"
    commit = repo.objects.commits[item.head_sha]
    person = {"name": commit.committer.name, "email": commit.committer.email}
    whole = repository(call)
    return {
        "id": number,
        "node_id": node_id("WorkflowRun", number),
        "name": item.workflow,
        "path": f".github/workflows/{item.workflow}",
        "display_title": item.workflow,
        "run_number": number,
        "event": "workflow_dispatch",
        "status": "queued",
        "conclusion": None,
        "workflow_id": workflow_id(item.workflow),
        "head_branch": item.ref,
        "head_sha": item.head_sha,
        "head_commit": {
            "id": item.head_sha,
            "tree_id": commit.tree,
            "message": commit.message,
            "timestamp": commit.committer.date,
            "author": person,
            "committer": person,
        },
        "url": url,
        "html_url": f"{web_url(call)}/actions/runs/{number}",
        **{f"{name}_url": f"{url}/{name}" for name in ("jobs", "logs", "artifacts", "cancel", "rerun")},
        "check_suite_url": f"{repository_url(call)}/check-suites/{number}",
        "workflow_url": f"{repository_url(call)}/actions/workflows/{workflow_id(item.workflow)}",
        "created_at": item.created_at,
        "updated_at": item.created_at,
        "pull_requests": [],
        "repository": whole,
        "head_repository": whole,
    }
