"""A finished `dist` folder -> a published release: check, plan, refuse or apply, by reconciliation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.browser.results import read_timings
from model_release.contract import manifest
from model_release.contract.dist import check_dist
from model_release.contract.manifest import MANIFEST_NAME, FileEntry, Manifest
from model_release.contract.tag import ReleaseTag, next_free, parse_tag
from model_release.hosts.host import Host, ReleaseDetails
from model_release.hosts.reconcile import Action, ReleaseState, plan_release
from model_release.release.notes import render_notes

Mirroring = Callable[[Manifest, Path, Iterable[FileEntry]], str]
"""Manifest, folder and files of a release -> what VITE_MODEL_URL may say; see `mirroring.AppMirror`."""

_MAX_PREVIOUS = 5  # releases to look back for a manifest that can be read


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What was published, or would be.

    Attributes:
        document: The manifest.
        actions: What was done with each file, over all passes.
        published: Whether people could see the release before.
        surplus: Unfinished releases of the same tag that were removed.
        details: What the release is besides its files.
        model_url: Where the web app's model is found in the release; empty after a dry run.
        mirror_url: What `VITE_MODEL_URL` may say instead, `?v=` included; empty without a mirror.
    """

    document: Manifest
    actions: tuple[Action, ...]
    published: bool
    surplus: int
    details: ReleaseDetails
    model_url: str
    mirror_url: str


def publish(
    dist: Path,
    tag: ReleaseTag,
    host: Host,
    *,
    replace: bool = False,
    latest: bool = False,
    dry_run: bool = False,
    mirror: Mirroring | None = None,
    planned: Callable[[tuple[Action, ...]], None] = lambda _: None,
) -> PublishResult:
    """Publishes what a folder holds, or finishes what an earlier run began.

    Args:
        dist: A folder with a release's files, its manifest and its checksums, and nothing else.
        tag: The release's tag; the manifest must have the same.
        host: Where it goes.
        replace: Whether a published release may change.
        latest: Whether it becomes the latest release.
        dry_run: Change nothing.
        mirror: Mirrors the release; it must work before the release becomes public.
        planned: Told the actions before they are carried out.

    Raises:
        ManifestError: The folder is not what its manifest says.
        HostError: The tag holds another release, a breaking change hides in a small version, or the
            host refuses.
        UsageError: `latest` with a prerelease, or a mirror for a model that is delivered by git.
    """
    if latest and tag.prerelease:
        raise UsageError(f"--latest must be for a version without prerelease, got {tag.version}. Leave it out.")
    checked = check_dist(dist, tag)
    document, entries = checked.document, checked.entries
    measured = {key: of for path in checked.beside for key, of in read_timings(path).items()}
    if mirror is not None and document.delivery.asked == "git":
        raise UsageError(
            "--mirror is for a model outside the app's tree, got a release for --delivery git. Leave it out."
        )
    mirror_url = ""
    done: dict[str, Action] = {}
    first: list[ReleaseState | None] = []
    details = ReleaseDetails(files=entries, prerelease=tag.prerelease, latest=latest)

    def one_pass() -> ReleaseDetails:
        nonlocal mirror_url
        state = host.state(tag.text)
        actions = plan_release(entries, state, replace=replace)
        _refuse_other_content(tag, host, state, actions)
        settled = state is not None and state.published and all(action.kind == "keep" for action in actions)
        if settled:
            wanted = details
        else:
            previous = _previous(tag, host)
            _refuse_hidden_break(tag, document.contract_version, previous)
            wanted = ReleaseDetails(
                files=entries,
                notes=render_notes(document, previous, checked.companions, measured),
                prerelease=tag.prerelease,
                latest=latest,
            )
        if not first:
            first.append(state)
            planned(actions)
        # A later pass keeps what an earlier one has done.
        done.update({a.name: a for a in actions if a.kind != "keep" or a.name not in done})
        if mirror is not None and not dry_run and not mirror_url:
            mirror_url = mirror(document, dist, entries)
        if not dry_run:  # Also with nothing to change: leftovers beside a finished release go.
            host.apply(tag.text, dist, actions, wanted)
        return wanted

    wanted = host.with_retries(one_pass)
    file = document.delivery.file
    return PublishResult(
        document=document,
        actions=tuple(done[name] for name in sorted(done)),
        published=first[0] is not None and first[0].published,
        surplus=first[0].surplus if first[0] is not None else 0,
        details=wanted,
        model_url="" if dry_run else host.with_retries(lambda: host.asset_url(tag.text, file)),
        mirror_url=mirror_url,
    )


def check_version(tag: ReleaseTag, contract_version: str, host: Host) -> None:
    """Refuses a tag whose version hides a breaking change, before there is anything to publish.

    Raises:
        HostError: It needs a new major version, or the host refuses us.
    """
    host.with_retries(lambda: _refuse_hidden_break(tag, contract_version, _previous(tag, host)))


def _refuse_other_content(tag: ReleaseTag, host: Host, state: ReleaseState | None, actions: tuple[Action, ...]) -> None:
    """Refuses to change a published release.

    Raises:
        HostError: The tag holds another release, and may not be replaced.
    """
    refused = [action for action in actions if action.kind == "refuse"]
    if not refused:
        return
    free = next_free(tag, host.tags())
    immutable = state is not None and state.immutable
    raise HostError(
        f"{tag.text} is released with other content ({refused[0].name}: {refused[0].reason}, "
        f"{len(refused)} in all){' and is immutable' if immutable else ''}. "
        f"Use the next free tag, {free.text}{'' if immutable else ', or give --replace'}."
    )


def _previous(tag: ReleaseTag, host: Host) -> Manifest | None:
    """The manifest of the release before: the last full one, else the last prerelease."""
    earlier = []
    for text in host.released():
        try:
            other = parse_tag(text)
        except UsageError:
            continue  # A release of something else.
        if other < tag:
            earlier.append(other)
    earlier.sort(key=lambda other: (not other.prerelease, other), reverse=True)
    for other in earlier[:_MAX_PREVIOUS]:
        content = host.read(other.text, MANIFEST_NAME)
        try:
            document = manifest.parse(content) if content is not None else None
        except ManifestError:
            continue  # It is none of ours, and no reason to stop.
        if document is not None and document.tag == other.text:
            return document
    return None


def _refuse_hidden_break(tag: ReleaseTag, new: str, previous: Manifest | None) -> None:
    """A breaking change of the contract must show in the version.

    Raises:
        HostError: It does not.
    """
    if previous is None or (before := parse_tag(previous.tag)).prerelease:
        return  # A prerelease promises nothing.
    old = previous.contract_version
    if old.partition(".")[0] != new.partition(".")[0] and tag.major == before.major:
        raise HostError(
            f"{tag.text} must have a new major version, because its contract {new} breaks with {old} of "
            f"{before.text}. Use e.g. model-v{before.major + 1}.0.0."
        )
