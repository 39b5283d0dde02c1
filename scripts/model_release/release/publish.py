"""A finished `dist` folder -> a published release: check, plan, refuse or apply, by reconciliation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path

from model_release.app.app import Released, model_in_tree
from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.base.files import read_bytes
from model_release.browser.results import read_timings
from model_release.contract import manifest
from model_release.contract.dist import Dist, check_dist
from model_release.contract.manifest import MANIFEST_NAME, FileEntry, Manifest
from model_release.contract.tag import ReleaseTag, parse_tag
from model_release.hosts.host import Host, ReleaseDetails
from model_release.hosts.reconcile import Action, ReleaseState, plan_release
from model_release.release import kept
from model_release.release.kept import Mirroring, PublicRelease, compare_with_public, mirror_released, other_content
from model_release.release.notes import Attestation, render_notes

_MAX_PREVIOUS = 5  # releases to look back for a manifest that can be read


@dataclass(frozen=True, kw_only=True)
class PublishResult:
    """What was published, or would be.

    Attributes:
        document: The manifest: the public release's own, if that was kept.
        dist: The folder that was to be published.
        kept: The public release, where that was kept in place of the folder's.
        actions: What was done with each file, over all passes.
        published: Whether people could see the release before.
        surplus: Unfinished releases of the same tag that were removed.
        details: What the release is besides its files.
        model_url: Where the web app's model is found in the release; empty after a dry run.
        mirror_url: What `VITE_MODEL_URL` may say instead, `?v=` included; empty without a mirror.
    """

    document: Manifest
    dist: Path
    kept: PublicRelease | None
    actions: tuple[Action, ...]
    published: bool
    surplus: int
    details: ReleaseDetails
    model_url: str
    mirror_url: str


def hand_over(result: PublishResult, host: Host, scratch: Path) -> Released:
    """What the web app needs to know of a release that is public.

    Args:
        result: Of publishing it.
        host: Where it is.
        scratch: An empty folder; gets the files of a release that was kept, where they go into the app's tree.

    Raises:
        ManifestError: A file of the release has other bytes than it says.
        HostError: The host refuses.
    """
    if result.kept is not None:
        return kept.hand_over(host, result.kept, scratch, mirror_url=result.mirror_url)
    return Released(
        document=result.document, dist=result.dist, asset_url=result.model_url, mirror_url=result.mirror_url
    )


def model_for_tree(dist: Path) -> str:
    """What `WebApp.check` wants to know of a release folder; nothing of one that `publish` is going to refuse."""
    try:
        content = read_bytes(dist / MANIFEST_NAME, limit_bytes=manifest.MAX_MANIFEST_BYTES)
        return model_in_tree(manifest.parse(content))
    except (OSError, ManifestError):
        return ""


def publish(  # noqa: PLR0913 - each is a choice of its own, and all but three have a default
    dist: Path,
    tag: ReleaseTag,
    host: Host,
    *,
    replace: bool = False,
    latest: bool = False,
    dry_run: bool = False,
    mirror: Mirroring | None = None,
    attestation: Attestation | None = None,
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
        attestation: Who has signed the files, for the notes.
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
    if mirror is not None and checked.document.delivery.asked == "git":
        raise UsageError(
            "--mirror is for a model outside the app's tree, got a release for --delivery git. Leave it out."
        )
    run = _Run(
        dist=dist,
        checked=checked,
        tag=tag,
        host=host,
        replace=replace,
        details=ReleaseDetails(files=checked.entries, prerelease=tag.prerelease, latest=latest),
        dry_run=dry_run,
        mirror=mirror,
        attestation=attestation,
        planned=planned,
    )
    public, details = host.with_retries(run.one_pass)
    document = public.document if public is not None else checked.document
    return PublishResult(
        document=document,
        dist=dist,
        kept=public,
        actions=tuple(run.done[name] for name in sorted(run.done)),
        published=run.first is not None and run.first.published,
        surplus=run.first.surplus if run.first is not None else 0,
        details=details,
        model_url="" if dry_run else host.with_retries(lambda: host.asset_url(tag.text, document.delivery.file)),
        mirror_url=run.mirror_url,
    )


@dataclass(kw_only=True)
class _Run:
    """One call of `publish`: what it was asked for, and what its passes have done so far.

    Attributes:
        done: What was done with each file, by name.
        first: What the first pass found at the host.
        mirrored: What was brought to the mirror; a later pass may find that another release has become public.
        mirror_url: See `PublishResult`.
    """

    dist: Path
    checked: Dist
    tag: ReleaseTag
    host: Host
    replace: bool
    details: ReleaseDetails
    dry_run: bool
    mirror: Mirroring | None
    attestation: Attestation | None
    planned: Callable[[tuple[Action, ...]], None]
    done: dict[str, Action] = field(default_factory=dict)
    first: ReleaseState | None = None
    mirrored: tuple[FileEntry, ...] = ()
    mirror_url: str = ""

    def one_pass(self) -> tuple[PublicRelease | None, ReleaseDetails]:
        """Reads what is there, plans, and carries the plan out.

        Returns:
            The public release if it is kept, and what the release is besides its files.
        """
        state = self.host.state(self.tag.text)
        actions = plan_release(self.details.files, state, replace=self.replace)
        if state is not None and any(action.kind == "refuse" for action in actions):
            public = _public_release(self.tag, self.host, state, self.checked, actions)
            return public, self._keep(public, state)
        document, details = self.checked.document, self.details
        if state is None or not state.published or any(action.kind != "keep" for action in actions):
            previous = _previous(self.tag, self.host)
            _refuse_hidden_break(self.tag, document.contract_version, previous)
            details = replace_fields(details, notes=_notes(self.checked, previous, self.attestation))
        self._begin(state, actions)
        self._bring_to_mirror(document, details.files, was_public=state is not None and state.published)
        self._apply(actions, details)
        return None, details

    def _keep(self, public: PublicRelease, state: ReleaseState) -> ReleaseDetails:
        """Goes on with a public release's own files; nothing changes in it, leftovers beside it go."""
        actions = plan_release(public.entries, state)
        self._begin(state, actions)
        if self.mirror is not None and not self.dry_run and self.mirrored != public.entries:
            self.mirror_url = mirror_released(self.host, public, self.mirror)
            self.mirrored = public.entries
        details = replace_fields(self.details, files=public.entries)
        self._apply(actions, details)
        return details

    def _begin(self, state: ReleaseState | None, actions: tuple[Action, ...]) -> None:
        """Tells the first plan; a later pass keeps what an earlier one has done."""
        if not self.done:
            self.first = state
            self.planned(actions)
        self.done.update({a.name: a for a in actions if a.kind != "keep" or a.name not in self.done})

    def _bring_to_mirror(self, document: Manifest, files: tuple[FileEntry, ...], *, was_public: bool) -> None:
        """Mirrors the release, once and before it is public."""
        if self.mirror is not None and not self.dry_run and self.mirrored != files:
            self.mirror_url = self.mirror(document, self.dist, files, was_public=was_public)
            self.mirrored = files

    def _apply(self, actions: tuple[Action, ...], details: ReleaseDetails) -> None:
        """Carries actions out; also with nothing to change, as leftovers beside a finished release go."""
        if not self.dry_run:
            self.host.apply(self.tag.text, self.dist, actions, details)


def offline_notes(dist: Path, tag: ReleaseTag, attestation: Attestation | None = None) -> str:
    """The notes that a folder would be published with, but for what has changed since the release before.

    Raises:
        ManifestError: The folder is not what its manifest says.
    """
    return _notes(check_dist(dist, tag), None, attestation)


def check_version(tag: ReleaseTag, contract_version: str, host: Host) -> None:
    """Refuses a tag whose version hides a breaking change, before there is anything to publish.

    Raises:
        HostError: It needs a new major version, or the host refuses us.
    """
    host.with_retries(lambda: _refuse_hidden_break(tag, contract_version, _previous(tag, host)))


def _notes(checked: Dist, previous: Manifest | None, attestation: Attestation | None) -> str:
    timings = {key: of for path in checked.beside for key, of in read_timings(path).items()}
    return render_notes(checked.document, checked.figures, previous, checked.companions, timings, attestation)


def _public_release(
    tag: ReleaseTag, host: Host, state: ReleaseState, wanted: Dist, actions: tuple[Action, ...]
) -> PublicRelease:
    """The public release under the tag, if it is what is wanted, built on another machine.

    Raises:
        HostError: The tag holds another release, and may not be replaced.
    """
    comparison = compare_with_public(host, tag, state, wanted)
    if comparison.public is not None:
        return comparison.public
    refused = [action for action in actions if action.kind == "refuse"]
    difference = comparison.difference or f"{refused[0].name}: {refused[0].reason}, {len(refused)} in all"
    raise other_content(host, tag, state, difference)


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
