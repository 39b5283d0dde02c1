"""A repository as such: its branches, tags, history, workflows; and the limits of the API."""

import re
from typing import Any

from . import git_views, views
from .calls import REPOSITORY, Call, Refusal, Response, not_found, route
from .models import Dispatch
from .repository import Repository

WORKFLOWS = f"{REPOSITORY}/actions/workflows"
_FOLDER = ".github/workflows/"


@route("GET", "/rate_limit")
def rate_limit(call: Call) -> Response:
    """What is left of the hourly limit; asking is free."""
    rate = call.site.rate()
    return Response(200, {"resources": {"core": rate, "search": rate}, "rate": rate})


@route("GET", "/user")
def user(call: Call) -> Response:
    """The token of a workflow has no user; no other is asked for."""
    raise (
        Refusal(403, "Resource not accessible by integration")
        if call.token
        else Refusal(401, "Requires authentication")
    )


@route("GET", REPOSITORY)
def get_repository(call: Call) -> Response:
    """The repository."""
    return Response(200, views.repository(call))


@route("GET", f"{REPOSITORY}/branches")
def list_branches(call: Call) -> Response:
    """Its branches."""
    return call.page(list(call.repository.branches()), lambda item: git_views.short_branch(call, *item))


@route("GET", f"{REPOSITORY}/branches/{{branch}}")
def get_branch(call: Call) -> Response:
    """One branch, and whether it is protected."""
    name = call.params["branch"]
    sha = call.repository.branch_head(name)
    if sha is None:
        raise Refusal(404, "Branch not found")
    return Response(200, git_views.branch(call, name, sha))


@route("GET", f"{REPOSITORY}/tags")
def list_tags(call: Call) -> Response:
    """Its tags, newest name first."""
    return call.page(list(call.repository.tags())[::-1], lambda item: git_views.tag(call, *item))


@route("GET", f"{REPOSITORY}/commits")
def list_commits(call: Call) -> Response:
    """The history of a branch."""
    repo = call.repository
    head = repo.resolve(call.query.get("sha") or repo.default_branch)
    if head is None:
        raise not_found()
    return call.page(repo.objects.history(head), lambda sha: git_views.commit(call, sha))


@route("GET", f"{REPOSITORY}/commits/{{ref}}")
def get_commit(call: Call) -> Response:
    """The commit a branch, tag or id stands for."""
    sha = call.repository.resolve(call.params["ref"])
    if sha is None:
        raise Refusal(422, f"No commit found for SHA: {call.params['ref']}")
    return Response(200, git_views.commit(call, sha))


@route("GET", WORKFLOWS)
def list_workflows(call: Call) -> Response:
    """The workflow files of the default branch."""
    repo = call.repository
    return call.page(_workflows(repo), lambda name: views.workflow(call, repo, name), key="workflows")


@route("GET", f"{WORKFLOWS}/{{workflow_id}}")
def get_workflow(call: Call) -> Response:
    """One workflow, by file name or number."""
    return Response(200, views.workflow(call, call.repository, _workflow(call)))


@route("POST", f"{WORKFLOWS}/{{workflow_id}}/dispatches", writes="actions")
def dispatch_workflow(call: Call) -> Response:
    """Starts a workflow; nothing runs here, it is only noted."""
    repo, name, ref = call.repository, _workflow(call), call.text("ref")
    head = repo.resolve(ref)
    if head is None:
        raise Refusal(422, f"No ref found for: {ref}")
    known = dispatch_inputs(repo.files(ref).get(_FOLDER + name, b"").decode())
    if known is None:
        raise Refusal(422, "Workflow does not have 'workflow_dispatch' trigger")
    inputs = call.data.get("inputs") or {}
    strange = [given for given in inputs if given not in known]
    if strange:
        quoted = ", ".join(f'"{given}"' for given in strange)
        raise Refusal(422, f"Unexpected inputs provided: [{quoted}]")
    repo.dispatches.append(Dispatch(name, ref, inputs, head, repo.clock.now()))
    if not call.data.get("return_run_details"):
        return Response(204)
    number = len(repo.dispatches)
    urls = {"run_url": views.repository_url(call), "html_url": views.web_url(call)}
    return Response(
        200, {"workflow_run_id": number} | {key: f"{url}/actions/runs/{number}" for key, url in urls.items()}
    )


@route("GET", f"{WORKFLOWS}/{{workflow_id}}/runs")
def list_runs(call: Call) -> Response:
    """The runs of a workflow, newest first: one for each dispatch, as nothing else starts one here."""
    name, query = _workflow(call), call.query
    since, branch = query.get("created", "").removeprefix(">="), query.get("branch")
    found = [
        (number, item)
        for number, item in enumerate(call.repository.dispatches, start=1)
        if item.workflow == name and item.created_at >= since and branch in (None, item.ref)
    ]
    return call.page(found[::-1], lambda item: views.workflow_run(call, *item), key="workflow_runs")


@route("POST", f"{REPOSITORY}/dispatches", writes="contents")
def dispatch_event(call: Call) -> Response:
    """Sends a `repository_dispatch`; noted as a workflow of that name."""
    payload: dict[str, Any] = call.data.get("client_payload") or {}
    call.repository.dispatches.append(Dispatch(f"event:{call.text('event_type')}", "", payload))
    return Response(204)


def dispatch_inputs(workflow: str) -> set[str] | None:
    r"""The inputs of a workflow's `workflow_dispatch`, read by indentation; None without that trigger.

    >>> dispatch_inputs("on:\n  workflow_dispatch:\n    inputs:\n      tag:\n        type: string\njobs:\n")
    {'tag'}
    """
    lines = [line for line in workflow.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: set[str] | None = set() if re.search(r"^on:.*\bworkflow_dispatch\b", workflow, re.MULTILINE) else None
    trigger = inputs = name_at = -1
    for line in lines:
        depth = len(line) - len(line.lstrip())
        key = line.strip().partition(":")[0].strip("\"'- ")
        if trigger < 0 or depth <= trigger:
            trigger = inputs = name_at = -1
            if key == "workflow_dispatch" and depth:
                trigger, found = depth, found or set()
        elif inputs < 0 or depth <= inputs:
            inputs, name_at = (depth if key == "inputs" else -1), -1
        elif name_at < 0 or depth == name_at:
            name_at = depth
            found = (found or set()) | {key}
    return found


def _workflows(repo: Repository) -> list[str]:
    paths = (path for path in repo.files() if path.startswith(_FOLDER) and path.endswith((".yml", ".yaml")))
    return [path.removeprefix(_FOLDER) for path in paths]


def _workflow(call: Call) -> str:
    wanted = call.params["workflow_id"]
    for name in _workflows(call.repository):
        if wanted in (name, str(views.workflow_id(name))):
            return name
    raise not_found()
