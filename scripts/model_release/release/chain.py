"""The whole chain, in order: weights -> export -> quantize -> verify -> size gate -> package -> release -> env file.

The env file comes last, so that the app never points at nothing. What can be refused without work
is refused before the work.
"""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from model_release.app.app import AppResult, WebApp, model_in_tree
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import MODELS_FOLDER
from model_release.base.progress import Progress, numbered
from model_release.contract.activations import load_contract
from model_release.contract.manifest import Manifest
from model_release.contract.measured import Measured
from model_release.contract.precision import model_file_name
from model_release.hosts.host import Host
from model_release.hosts.reconcile import Action
from model_release.model.weights.source import load_weights
from model_release.release import build
from model_release.release.build import build_dist, describe_dist
from model_release.release.kept import Mirroring, PublicRelease, find_public, mirror_released, read_figures
from model_release.release.kept import hand_over as hand_over_public
from model_release.release.publish import check_version, hand_over, publish
from model_release.release.request import BuildRequest, for_mirror

_STEPS = build.STEPS + 3


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What to release, and how it reaches the app.

    Attributes:
        app: The web app; None leaves it alone.
        replace: Whether a published release may change.
        mirror: Brings the files to where browsers can read them; the app then gets its URL.
    """

    build: BuildRequest
    app: WebApp | None
    replace: bool = False
    mirror: Mirroring | None = None

    def __post_init__(self) -> None:
        if self.mirror is not None:
            for_mirror(self.build.delivery)


@dataclass(frozen=True, kw_only=True)
class ReleaseResult:
    """What was released.

    Attributes:
        document: The manifest.
        figures: What was measured on it; None for one that was public before figures were files of their own.
        actions: What was done at the host.
        app: What became of the web app; None if it was left alone.
    """

    document: Manifest
    figures: Measured | None
    actions: tuple[Action, ...]
    app: AppResult | None


def release_model(request: ReleaseRequest, host: Host, progress: Progress) -> ReleaseResult:
    """Makes, verifies and publishes a release, then points the app at it.

    Raises:
        ReleaseError: Of the step that failed. Before the release is complete nothing is public, and
            the env file is written only after it.
    """
    tag, step = request.build.tag, numbered(progress, _STEPS)
    step("plan", f"{tag.text} from {request.build.source.describe()}")
    if request.app is not None:
        request.app.check(_model_in_tree(request.build))
    host.with_retries(lambda: host.state(tag.text))  # A host that is out of reach or refuses us says so now.
    check_version(tag, load_contract().version, host)
    step("weights", request.build.source.describe())
    weights = load_weights(request.build.source, progress)
    public = None if request.replace else find_public(host, request.build.asked(weights))
    with ExitStack() as folders:
        dist, scratch = (
            Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="model-release-"))) for _ in range(2)
        )
        if public is not None:
            return _use_public(request, host, public, dist, progress)
        built = build_dist(request.build, dist, step, progress, weights=weights)
        if request.app is not None and request.mirror is None and request.build.delivery == "auto":
            request.app.check(model_in_tree(built.document))  # Now its size has decided.
        published = publish(
            dist,
            tag,
            host,
            replace=request.replace,
            mirror=request.mirror,
            planned=lambda actions: step("release", _describe_actions(actions)),
        )
        app = request.app.point(hand_over(published, host, scratch)) if request.app is not None else None
        step("env file", f"{URL_KEY}={app.model_url}" if app is not None else "left alone")
    return ReleaseResult(document=built.document, figures=built.figures, actions=published.actions, app=app)


def _use_public(
    request: ReleaseRequest, host: Host, public: PublicRelease, folder: Path, progress: Progress
) -> ReleaseResult:
    """Goes on with a public release that is what is asked for: nothing is built, and nothing in it changes."""
    tag = public.document.tag
    progress(f"{tag} is public and is what is asked for: nothing is built")
    mirror_url = ""
    if request.mirror is not None:
        mirror = request.mirror
        mirror_url = host.with_retries(lambda: mirror_released(host, public, mirror))
    app = None
    if request.app is not None:
        app = request.app.point(hand_over_public(host, public, folder, mirror_url=mirror_url))
    progress(f"env file: {f'{URL_KEY}={app.model_url}' if app is not None else 'left alone'}")
    actions = tuple(Action(kind="keep", name=entry.name, reason="is there") for entry in public.entries)
    return ReleaseResult(document=public.document, figures=read_figures(host, public), actions=actions, app=app)


def describe_release(request: ReleaseRequest, host: Host, progress: Progress) -> list[list[str]]:
    """What `release_model` would make, without making it: rows of file, MB and what is known of it.

    Weights are located and checked (a Hub's are downloaded into its cache); nothing else is written.
    """
    if request.app is not None:
        request.app.check(_model_in_tree(request.build))
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
        rows.append([request.app.describe(), "", f"{URL_KEY} and {VERSION_KEY} set, after the release"])
    return rows


def _model_in_tree(build: BuildRequest) -> str:
    """What `WebApp.check` wants to know, where it is known before there is a model."""
    path = f"{MODELS_FOLDER}/{build.source.name}/{model_file_name(build.app_precision)}"
    return path if build.delivery == "git" else ""


def _describe_actions(actions: Sequence[Action]) -> str:
    """What happens at the host, in one line."""
    return ", ".join(f"{action.kind} {action.name}" for action in actions if action.kind != "keep") or "nothing to do"
