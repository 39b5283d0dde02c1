"""A finished `dist` folder -> a published release: check, plan, refuse or apply, by reconciliation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.browser import timings
from model_release.browser.timings import FIGURES_NAME, Measured
from model_release.contract import manifest
from model_release.contract.manifest import CHECKSUMS_NAME, MANIFEST_NAME, FileEntry
from model_release.contract.tag import ReleaseTag, next_free, parse_tag
from model_release.hosts.host import Host, ReleaseDetails
from model_release.hosts.reconcile import Action, ReleaseState, plan_release
from model_release.release.notes import render_notes

Mirroring = Callable[[Mapping[str, Any], Path, Iterable[FileEntry]], str]
"""Manifest, folder and files of a release -> what VITE_MODEL_URL may say; see `mirroring.AppMirror`."""

_AGAIN = "Make the release again."
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

    document: dict[str, Any]
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
    if mirror is not None and document["delivery"]["asked"] == "git":
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
            _refuse_hidden_break(tag, document["contract_version"], previous)
            wanted = ReleaseDetails(
                files=entries,
                notes=render_notes(document, previous, checked.companions, checked.measured),
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

    wanted = host.patiently(one_pass)
    file = document["delivery"]["file"]
    return PublishResult(
        document=document,
        actions=tuple(done[name] for name in sorted(done)),
        published=first[0] is not None and first[0].published,
        surplus=first[0].surplus if first[0] is not None else 0,
        details=wanted,
        model_url="" if dry_run else host.patiently(lambda: host.asset_url(tag.text, file)),
        mirror_url=mirror_url,
    )


def check_version(tag: ReleaseTag, contract_version: str, host: Host) -> None:
    """Refuses a tag whose version hides a breaking change, before there is anything to publish.

    Raises:
        HostError: It needs a new major version, or the host refuses us.
    """
    host.patiently(lambda: _refuse_hidden_break(tag, contract_version, _previous(tag, host)))


@dataclass(frozen=True, kw_only=True)
class Dist:
    """A folder that is what its manifests say.

    Attributes:
        document: The manifest of the release's first model, whose files have plain names.
        companions: The manifests of the other models, by name.
        entries: Every file of the release, by name.
        measured: What the models needed in a browser, if one was asked; no part of the release.
    """

    document: dict[str, Any]
    companions: tuple[dict[str, Any], ...]
    entries: tuple[FileEntry, ...]
    measured: Measured


def check_dist(dist: Path, tag: ReleaseTag) -> Dist:
    """Checks a folder against its own manifests and checksums, every byte of it.

    A release holds one model or several. Each has a manifest and checksums of its own; those of the
    first are `manifest.json` and `SHA256SUMS`, and the names of another model's files all begin with its
    name and a hyphen. A model's `browser.json` may lie beside them.

    Raises:
        ManifestError: Something is missing, too much or different.
    """
    try:
        present = {path.name: path.is_file() for path in dist.iterdir()}
        prefixes = sorted({"", *(name.removesuffix(MANIFEST_NAME) for name in present if name.endswith(MANIFEST_NAME))})
        parts = {prefix: _read_part(dist, prefix, tag) for prefix in prefixes}
        beside = {prefix + FIGURES_NAME for prefix in prefixes} & present.keys()
        measured = {key: of for name in sorted(beside) for key, of in timings.read(dist / name).items()}
    except OSError as failure:
        raise ManifestError(
            f"--dist must be a folder with {MANIFEST_NAME} and {CHECKSUMS_NAME}, got: {failure.strerror} "
            f"({dist}). Give the folder of a release."
        ) from failure
    listed = [name for prefix, (document, _) in parts.items() for name in _names(prefix, document)]
    names = set(listed)
    if len(names) != len(listed):
        raise ManifestError(f"{MANIFEST_NAME} must list each file once, and not itself. {_AGAIN}")
    wrong = [f"{name!a} is not listed" for name in sorted(present.keys() - names - beside)]
    wrong += [f"{name!a} is missing" for name in sorted(names - {name for name, is_file in present.items() if is_file})]
    entries: tuple[FileEntry, ...] = ()
    if not wrong:
        entries = manifest.describe_files(dist, names)
        found = {entry.name: entry for entry in entries}
        for prefix, (document, sums) in parts.items():
            wrong += _differences(prefix, document, sums, found)
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ManifestError(f"{dist} must hold what its {MANIFEST_NAME} lists: {', '.join(wrong[:5])}{more}. {_AGAIN}")
    documents = [document for document, _ in parts.values()]
    return Dist(document=documents[0], companions=tuple(documents[1:]), entries=entries, measured=measured)


def _read_part(dist: Path, prefix: str, tag: ReleaseTag) -> tuple[dict[str, Any], bytes]:
    """A model's manifest and the bytes of its checksums.

    Raises:
        ManifestError: The manifest is of another release, or contradicts itself.
        OSError: One of them cannot be read.
    """
    manifest_name, checksums_name = manifest.part_names(prefix)
    document = manifest.parse((dist / manifest_name).read_bytes())
    sums = (dist / checksums_name).read_bytes()
    if (document["tag"], document["version"]) != (tag.text, tag.version):
        raise ManifestError(
            f"{manifest_name} must be of {tag.text}, got {document['tag'][:80]!a} "
            f"with version {document['version'][:80]!a}. Give the tag it was made for, or make it again."
        )
    listed = [entry["name"] for entry in document["files"]]
    if document.get("asset_prefix", "") != prefix or not all(name.startswith(prefix) for name in listed):
        raise ManifestError(f"{manifest_name!a} must list files whose names begin as its own. {_AGAIN}")
    if document["delivery"]["file"] not in listed or any(v["file"] not in listed for v in document["variants"]):
        raise ManifestError(f"{manifest_name} must list every model it describes. {_AGAIN}")
    return document, sums


def _names(prefix: str, document: dict[str, Any]) -> list[str]:
    """Every file name of a model's part of the release."""
    return [*(entry["name"] for entry in document["files"]), *manifest.part_names(prefix)]


def _differences(prefix: str, document: dict[str, Any], sums: bytes, found: dict[str, FileEntry]) -> list[str]:
    """What of a model's part is not as its manifest and its checksums say."""
    wrong = [
        f"{entry['name']!a} has other bytes" for entry in document["files"] if asdict(found[entry["name"]]) != entry
    ]
    checksums_name = manifest.part_names(prefix)[1]
    summed = (found[name] for name in _names(prefix, document) if name != checksums_name)
    return [*wrong, *([] if sums == manifest.checksums(summed) else [f"{checksums_name} has other sums"])]


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


def _previous(tag: ReleaseTag, host: Host) -> dict[str, Any] | None:
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
        if document is not None and document["tag"] == other.text:
            return document
    return None


def _refuse_hidden_break(tag: ReleaseTag, new: str, previous: dict[str, Any] | None) -> None:
    """A breaking change of the contract must show in the version.

    Raises:
        HostError: It does not.
    """
    if previous is None or (before := parse_tag(previous["tag"])).prerelease:
        return  # A prerelease promises nothing.
    old = previous["contract_version"]
    if old.partition(".")[0] != new.partition(".")[0] and tag.major == before.major:
        raise HostError(
            f"{tag.text} must have a new major version, because its contract {new} breaks with {old} of "
            f"{before.text}. Use e.g. model-v{before.major + 1}.0.0."
        )
