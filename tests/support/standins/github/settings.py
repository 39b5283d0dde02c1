"""What a repository's settings say: rules, environments, variables, caches. Some are for administrators alone."""

from typing import Any

from . import views
from .calls import REPOSITORY, Call, Response, not_found, route

ACTIONS = f"{REPOSITORY}/actions"


@route("GET", f"{REPOSITORY}/rules/branches/{{branch}}")
def rules_of_branch(call: Call) -> Response:
    """The rules of rulesets, which the branch itself does not show."""
    wants_pulls = call.repository.protected.get(call.params["branch"]) == "ruleset"
    origin = {"ruleset_source_type": "Repository", "ruleset_source": call.repository.full_name, "ruleset_id": 1}
    return Response(200, [{"type": "pull_request", **origin}] if wants_pulls else [])


@route("GET", f"{ACTIONS}/permissions/workflow", writes="administration")
def workflow_permissions(call: Call) -> Response:
    """What a workflow's token may do by default, and whether it may open pull requests."""
    may = call.repository.actions_may_open_pulls
    return Response(200, {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": may})


@route("GET", f"{REPOSITORY}/immutable-releases", writes="administration")
def immutable_releases(call: Call) -> Response:
    """Whether releases are immutable here; 404 if not."""
    if not call.repository.immutable_releases:
        raise not_found()
    return Response(200, {"enabled": True, "enforced_by_owner": False})


@route("GET", f"{REPOSITORY}/environments/{{environment_name}}")
def environment(call: Call) -> Response:
    """A deployment environment and who is asked for it."""
    name, repo = call.params["environment_name"], call.repository
    if name not in repo.environments:
        raise not_found()
    url, asked = f"{views.repository_url(call)}/environments/{name}", repo.environments[name]
    rule = {"id": 2, "node_id": views.node_id("Rule", 2), "type": "required_reviewers", "prevent_self_review": False}
    reviewers = [{"type": "User", "reviewer": views.user(call, login)} for login in asked]
    policy = {"protected_branches": repo.tags_may_not_deploy, "custom_branch_policies": repo.may_deploy is not None}
    shown = {
        "id": 1,
        "node_id": views.node_id("Environment", 1),
        "name": name,
        "url": url,
        "html_url": f"{views.web_url(call)}/deployments/activity_log?environments_filter={name}",
        "created_at": repo.created_at,
        "updated_at": repo.created_at,
        "protection_rules": [{**rule, "reviewers": reviewers}] if asked else [],
        "deployment_branch_policy": policy if any(policy.values()) else None,
    }
    return Response(200, shown)


@route("GET", f"{REPOSITORY}/environments/{{environment_name}}/deployment-branch-policies")
def deployment_branch_policies(call: Call) -> Response:
    """Which branches and tags may deploy to an environment."""
    repo = call.repository
    if call.params["environment_name"] not in repo.environments:
        raise not_found()

    def shown(item: tuple[str, str]) -> dict[str, Any]:
        return {"id": 1, "node_id": views.node_id("Policy", 1), "type": item[0], "name": item[1]}

    return call.page(repo.may_deploy or [], shown, key="branch_policies")


@route("GET", f"{ACTIONS}/variables", writes="administration")
def variables(call: Call) -> Response:
    """The variables of workflows."""
    made = {"created_at": call.repository.created_at, "updated_at": call.repository.created_at}
    items = sorted(call.repository.variables.items())
    return call.page(items, lambda item: {"name": item[0], "value": item[1], **made}, key="variables")


@route("GET", f"{ACTIONS}/caches")
def caches(call: Call) -> Response:
    """What runs have kept, by the beginning of its key."""
    made = {"created_at": call.repository.created_at, "last_accessed_at": call.repository.created_at}
    found = [item for item in call.repository.caches.items() if item[0].startswith(call.query.get("key", ""))]

    def shown(item: tuple[str, str]) -> dict[str, Any]:
        return {"id": 1, "key": item[0], "ref": item[1], "version": "1", "size_in_bytes": 1, **made}

    return call.page(found, shown, key="actions_caches")
