"""Pull requests between the branches of one repository."""

from . import views
from .calls import REPOSITORY, Call, Refusal, Response, invalid, not_found, route
from .models import Pull

PULLS = f"{REPOSITORY}/pulls"
NOT_PERMITTED = "GitHub Actions is not permitted to create or approve pull requests."


@route("GET", PULLS)
def list_pulls(call: Call) -> Response:
    """Filtered by state, `owner:branch` of the head, and base; newest first."""
    repo, state = call.repository, call.query.get("state", "open")
    head, base = call.query.get("head", ""), call.query.get("base", "")
    found = [
        pull
        for pull in reversed(repo.pulls)
        if state in ("all", pull.state)
        and (":" not in head or head == f"{repo.owner}:{pull.head}")  # Anything else is ignored, as it is there.
        and base in ("", pull.base)
    ]
    return call.page(found, lambda pull: views.pull_in_list(call, pull))


@route("GET", f"{PULLS}/{{pull_number}}")
def get_pull(call: Call) -> Response:
    """One pull request."""
    return Response(200, views.pull(call, _wanted(call)))


@route("POST", PULLS, writes="pull_requests")
def create_pull(call: Call) -> Response:
    """Opens a pull request."""
    repo = call.repository
    if call.token and call.token.is_actions and not repo.actions_may_open_pulls:
        raise Refusal(
            403, NOT_PERMITTED, documentation="https://docs.github.com/rest/pulls/pulls#create-a-pull-request"
        )
    title, base = call.text("title"), call.text("base")
    head = call.text("head").removeprefix(f"{repo.owner}:")
    head_sha, base_sha = repo.branch_head(head), repo.branch_head(base)
    errors = [("invalid", name) for name, sha in (("head", head_sha), ("base", base_sha)) if sha is None]
    if errors or head_sha is None or base_sha is None:
        raise invalid("PullRequest", *errors)
    if head_sha in repo.objects.history(base_sha):
        raise invalid("PullRequest", f"No commits between {base} and {head}")
    if any(pull.head == head and pull.base == base for pull in repo.open_pulls()):
        raise invalid("PullRequest", f"A pull request already exists for {repo.owner}:{head}.")
    pull = Pull(
        id=repo.clock.next_id(),
        number=len(repo.pulls) + 1,
        title=title,
        body=call.data.get("body"),
        head=head,
        base=base,
        head_sha=head_sha,
        base_sha=base_sha,
        created_at=repo.clock.now(),
        draft=bool(call.data.get("draft")),
    )
    repo.pulls.append(pull)
    return Response(201, views.pull(call, pull))


@route("PATCH", f"{PULLS}/{{pull_number}}", writes="pull_requests")
def update_pull(call: Call) -> Response:
    """Changes title, text, state or base."""
    repo, pull = call.repository, _wanted(call)
    state, base = call.text("state", pull.state), call.text("base", pull.base)
    if repo.branch_head(base) is None:
        raise invalid("PullRequest", ("invalid", "base"))
    if state not in ("open", "closed") or (state == "open" and pull.merged_at):
        raise invalid("PullRequest", ("invalid", "state"))
    if state == "open" and pull.state == "closed" and repo.branch_head(pull.head) is None:
        raise invalid("PullRequest", f"state cannot be changed. The {pull.head} branch has been deleted.")
    pull.closed_at = None if state == "open" else pull.closed_at or repo.clock.now()
    pull.title, pull.state, pull.base = call.text("title", pull.title), state, base
    pull.body = call.data.get("body", pull.body)
    return Response(200, views.pull(call, pull))


def _wanted(call: Call) -> Pull:
    number = int(call.params["pull_number"])
    if not 0 < number <= len(call.repository.pulls):
        raise not_found()
    return call.repository.pulls[number - 1]
