"""The whole chain, in order: weights -> export -> quantize -> verify -> size gate -> package -> release -> env file.

The env file comes last, so that the app never points at nothing. What can be refused without work
is refused before the work.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.tree import (
    AppRequest,
    check_tree,
    deliver_files,
    write_env,
)
from model_release.base.errors import UsageError
from model_release.base.progress import Progress, numbered
from model_release.contract.activations import load_contract
from model_release.contract.manifest import Manifest, version_query
from model_release.hosts.host import Host
from model_release.hosts.reconcile import Action
from model_release.release import build
from model_release.release.build import build_dist, describe_dist
from model_release.release.publish import Mirroring, check_version, publish
from model_release.release.request import BuildRequest

if TYPE_CHECKING:
    from model_release.app.github import AppResult
    from model_release.app.point import AppPointer

_STEPS = build.STEPS + 3


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What to release, and how it reaches the app.

    Attributes:
        app: The web app's working tree; None leaves it alone.
        replace: Whether a published release may change.
        mirror: Brings the files to where browsers can read them; the app then gets its URL.
        point: Points the web app's repository at the public release; in place of `app`.
    """

    build: BuildRequest
    app: AppRequest | None
    replace: bool = False
    mirror: Mirroring | None = None
    point: "AppPointer | None" = None

    def __post_init__(self) -> None:
        if self.mirror is not None and self.build.delivery == "git":
            raise UsageError(
                "--mirror gives the model an address of its own, got --delivery git. Leave one of them out."
            )


@dataclass(frozen=True, kw_only=True)
class ReleaseResult:
    """What was released.

    Attributes:
        document: The manifest.
        actions: What was done at the host.
        model_url: What the env file says; empty without an app.
        env_changed: Whether the env file was written.
        pointed: What became of the web app's repository, if the release was to change it.
    """

    document: Manifest
    actions: tuple[Action, ...]
    model_url: str
    env_changed: bool
    pointed: "AppResult | None" = None


def release_model(request: ReleaseRequest, host: Host, progress: Progress) -> ReleaseResult:
    """Makes, verifies and publishes a release, then points the app at it.

    Raises:
        ReleaseError: Of the step that failed. Before the release is complete nothing is public, and
            the env file is written only after it.
    """
    tag, step = request.build.tag, numbered(progress, _STEPS)
    step("plan", f"{tag.text} from {request.build.source.describe()}")
    if request.app is not None:
        check_tree(request.app)
    if request.point is not None:
        request.point.check()
    host.with_retries(lambda: host.state(tag.text))  # A host that is out of reach or refuses us says so now.
    check_version(tag, load_contract().version, host)
    with ExitStack() as folders:
        dist = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="model-release-")))
        document = build_dist(request.build, dist, step, progress)
        published = publish(
            dist,
            tag,
            host,
            replace=request.replace,
            mirror=request.mirror,
            planned=lambda actions: step("release", _describe_actions(actions)),
        )
        url, changed, pointed = "", False, None
        if request.app is not None:
            url = published.mirror_url or _deliver(request.app, document, published.model_url, dist)
            changed = write_env(request.app, url, tag.version, progress)
        if request.point is not None:
            pointed, url = request.point.point(document, dist, published.model_url, mirror_url=published.mirror_url)
        step("env file", f"{URL_KEY}={url}" if url else "left alone")
    return ReleaseResult(
        document=document, actions=published.actions, model_url=url, env_changed=changed, pointed=pointed
    )


def describe_release(request: ReleaseRequest, host: Host, progress: Progress) -> list[list[str]]:
    """What `release_model` would make, without making it: rows of file, MB and what is known of it.

    Weights are located and checked (a Hub's are downloaded into its cache); nothing else is written.
    """
    if request.app is not None:
        check_tree(request.app)
    tag = request.build.tag.text
    rows = describe_dist(request.build, progress)
    taken = host.state(tag) is not None
    rows.append(
        [
            tag,
            "",
            "there already: equal content is kept, other content refused"
            if taken and not request.replace
            else "released",
        ]
    )
    if request.app is not None:
        rows.append([str(request.app.env_file), "", f"{URL_KEY} and {VERSION_KEY} set, after the release"])
    return rows


def _describe_actions(actions: Sequence[Action]) -> str:
    """What happens at the host, in one line."""
    return ", ".join(f"{action.kind} {action.name}" for action in actions if action.kind != "keep") or "nothing to do"


def _deliver(app: AppRequest, document: Manifest, asset_url: str, dist: Path) -> str:
    """Puts the model where the app will look for it, and returns its URL with `?v=`."""
    git = document.delivery.mode == "git"
    place = deliver_files(app, document, dist) if git else asset_url
    return f"{place}?v={version_query(document.version, document.app_model.sha256)}"
