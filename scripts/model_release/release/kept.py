"""A public release that holds what is wanted, described by another machine: it is the truth, and it is kept."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from model_release.app.app import Released
from model_release.base.errors import HostError, ManifestError
from model_release.base.files import sha256_of, sha256_of_bytes
from model_release.contract import manifest, measured
from model_release.contract.dist import Dist, check_manifest, parse_checksums
from model_release.contract.identity import Asked, asked_of, first_difference, identity
from model_release.contract.manifest import FileEntry, Manifest
from model_release.contract.measured import MEASURED_NAME, Measured
from model_release.contract.pinned_models import load_registry, locate
from model_release.contract.tag import ReleaseTag, next_free, parse_tag
from model_release.hosts.host import Host
from model_release.hosts.reconcile import ReleaseState
from model_release.release.request import BuildRequest
from model_release.release.workflow import DEMO, WeightsJob


class Mirroring(Protocol):
    """Brings a release to a mirror; see `hosts.mirror.AppMirror`."""

    def __call__(self, document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool) -> str:
        """Manifest, folder and files of a release -> what VITE_MODEL_URL may say."""


@dataclass(frozen=True, kw_only=True)
class PublicRelease:
    """A public release, as it says of itself.

    Attributes:
        document: The manifest of its first model.
        entries: Every file that its checksums list, and the checksums.
    """

    document: Manifest
    entries: tuple[FileEntry, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A public release beside what is to be published.

    Attributes:
        public: The release, where it has the identity that is wanted.
        difference: The first real difference, where it has not; empty if it cannot be read as one of ours.
    """

    public: PublicRelease | None = None
    difference: str = ""


def compare_with_public(host: Host, tag: ReleaseTag, state: ReleaseState, wanted: Dist) -> Comparison:
    """Reads a public release back, and compares its identity with a folder's.

    Args:
        host: Where it is.
        tag: Its tag.
        state: What the host holds under the tag.
        wanted: The folder that is to be published.

    Raises:
        ManifestError: It has the identity that is wanted, but its files are not what its own checksums say.
        HostError: The host refuses.
    """
    documents, entries = [], []
    try:
        for each in (wanted.document, *wanted.companions):
            document, listed = _read_part(host, tag, state, each.asset_prefix)
            documents.append(document)
            entries += listed
    except ManifestError:
        return Comparison()
    for document, each in zip(documents, (wanted.document, *wanted.companions), strict=True):
        if difference := first_difference(identity(document), identity(each)):
            return Comparison(difference=difference)
    surplus = {file.name for file in state.files} - {entry.name for entry in entries}
    if surplus:
        return Comparison(difference=f"{min(surplus)[:80]!a}: in the release, none here")
    _require_whole(tag, state, entries)
    return Comparison(public=PublicRelease(document=documents[0], entries=tuple(entries)))


def find_public(host: Host, asked: Asked) -> PublicRelease | None:
    """The public release that a request asks for, before anything is built; None if there is none, or none of ours.

    Only what was asked is compared: whether the tag holds it is all that building could show.

    Raises:
        ManifestError: It is what is asked for, but its files are not what its own checksums say.
        HostError: It was asked for something else, or the host refuses.
    """
    tag = parse_tag(asked.tag)

    def accept(document: Manifest) -> bool:
        if difference := first_difference(asked_of(document).facts(), asked.facts()):
            raise other_content(host, tag, host.state(tag.text), difference)
        return True

    return _accepted(host, tag, {"": accept})


def other_content(host: Host, tag: ReleaseTag, state: ReleaseState | None, difference: str) -> HostError:
    """That a tag holds another release than the one that is to be published, and what can be done."""
    is_immutable = state is not None and state.immutable
    return HostError(
        f"{tag.text} is released with other content ({difference}){' and is immutable' if is_immutable else ''}. "
        f"Use the next free tag, {next_free(tag, host.tags()).text}{'' if is_immutable else ', or give --replace'}."
    )


def is_asked_for(host: Host, tag: ReleaseTag, models: Sequence[tuple[WeightsJob, BuildRequest]]) -> bool:
    """Whether a public release is what a run asks for, so that nothing has to be built.

    The weights are not at hand: a pinned commit stands for them. Where nothing pins them, the answer is no.

    Raises:
        ManifestError: It is what is asked for, but its files are not what its own checksums say.
        HostError: The host refuses.
    """

    def answers(job: WeightsJob, request: BuildRequest, document: Manifest) -> bool:
        is_pinned = bool(job.cache_key) or not job.model
        source = locate(job.model, job.revision, load_registry())[0] if job.model else DEMO
        return is_pinned and request.is_answered_by(document, source=source, revision=job.revision)

    accepts = {request.prefix: partial(answers, job, request) for job, request in models}
    return _accepted(host, tag, accepts) is not None


def _accepted(host: Host, tag: ReleaseTag, accepts: Mapping[str, Callable[[Manifest], bool]]) -> PublicRelease | None:
    """The public release of which every part is accepted, and which holds no other.

    Args:
        host: Where it is.
        tag: Its tag.
        accepts: Judges a part's manifest, by the prefix of its files; that of the first model comes first.

    Raises:
        ManifestError: It is accepted, but its files are not what its own checksums say.
        HostError: The host refuses.
    """

    def one_pass() -> PublicRelease | None:
        state = host.state(tag.text)
        if state is None or not state.published:
            return None
        documents: list[Manifest] = []
        entries: list[FileEntry] = []
        for prefix, accept in accepts.items():
            try:
                document, listed = _read_part(host, tag, state, prefix)
            except ManifestError:
                return None  # None of ours; publishing says more.
            if not accept(document):
                return None
            documents.append(document)
            entries += listed
        if {file.name for file in state.files} != {entry.name for entry in entries}:
            return None
        _require_whole(tag, state, entries)
        return PublicRelease(document=documents[0], entries=tuple(entries))

    return host.with_retries(one_pass)


def read_figures(host: Host, public: PublicRelease) -> Measured | None:
    """What was measured on a public release; None if it was made before figures were files of their own."""
    name = public.document.asset_prefix + MEASURED_NAME
    content = host.with_retries(lambda: host.read(public.document.tag, name))
    return measured.parse(content) if content is not None else None


def read_public(host: Host, tag: ReleaseTag) -> PublicRelease:
    """Reads a public release back, and holds it against its own checksums.

    Raises:
        HostError: There is no public release under the tag, or the host refuses.
        ManifestError: It is none of ours, or its files are not what its checksums say.
    """

    def one_pass() -> PublicRelease:
        state = host.state(tag.text)
        if state is None or not state.published:
            raise HostError(
                f"{tag.text} must be a public release, {'it is a draft' if state else 'there is none'}. "
                "Publish it first, or correct --tag."
            )
        document, entries = _read_part(host, tag, state, "")
        if document.tag != tag.text:
            raise ManifestError(
                f"the manifest of {tag.text} must be its own, got that of {document.tag}. Do not use this release."
            )
        _require_whole(tag, state, entries)
        return PublicRelease(document=document, entries=tuple(entries))

    return host.with_retries(one_pass)


def hand_over(host: Host, public: PublicRelease, scratch: Path, *, mirror_url: str = "") -> Released:
    """What the web app needs to know of a public release.

    Args:
        host: Where it is.
        public: From `read_public`.
        scratch: An empty folder; gets the release's files, where they go into the app's tree.
        mirror_url: What the app is to use instead; empty without a mirror.

    Raises:
        ManifestError: A file of the release has other bytes than it says.
        HostError: The host refuses.
    """
    document = public.document
    url = host.with_retries(lambda: host.asset_url(document.tag, document.delivery.file))
    released = Released(document=document, dist=scratch, asset_url=url, mirror_url=mirror_url)
    if released.delivered_by_git:
        host.with_retries(lambda: copy_released(host, public, scratch))
    return released


def mirror_released(host: Host, public: PublicRelease, mirror: Mirroring) -> str:
    """Mirrors a public release's own files; within `with_retries`.

    Returns:
        What the app is to use.

    Raises:
        ManifestError: A file has other bytes than the release says, here or at the mirror.
        HostError: The host or the mirror refuses.
    """
    with tempfile.TemporaryDirectory(prefix="model-release-") as folder:
        copy_released(host, public, Path(folder))
        return mirror(public.document, Path(folder), public.entries, was_public=True)


def copy_released(host: Host, public: PublicRelease, folder: Path) -> None:
    """Brings the files of a public release into a folder, each checked against its sha256; within `with_retries`.

    Raises:
        ManifestError: A file has other bytes than the release says.
        HostError: The host refuses, or the folder cannot be written.
    """
    for entry in public.entries:
        host.copy(public.document.tag, entry.name, folder / entry.name)
        if sha256_of(folder / entry.name, error=ManifestError) != entry.sha256:
            raise ManifestError(
                f"{entry.name} of {public.document.tag} must have the sha256 that the release gives, it has another. "
                "Do not use this release; make a new one."
            )


def _read_part(host: Host, tag: ReleaseTag, state: ReleaseState, prefix: str) -> tuple[Manifest, list[FileEntry]]:
    """One model's manifest, and every file of its part.

    Raises:
        ManifestError: It is missing, or is none of ours.
    """
    manifest_name, checksums_name = manifest.part_names(prefix)
    content, sums = host.read(tag.text, manifest_name), host.read(tag.text, checksums_name)
    if content is None or sums is None:
        raise ManifestError(f"{tag.text} must have {manifest_name} and {checksums_name}. Make a new release.")
    checksums = parse_checksums(sums)
    digest = sha256_of_bytes(content)
    document = check_manifest(content, checksums, digest, name=manifest_name)
    sizes = {file.name: file.size_bytes for file in state.files}
    return document, [
        *document.files,
        *(
            FileEntry(name=name, size_bytes=sizes.get(name, 0), sha256=checksums[name])
            for name in document.descriptions
        ),
        FileEntry(name=manifest_name, size_bytes=len(content), sha256=digest),
        FileEntry(name=checksums_name, size_bytes=len(sums), sha256=sha256_of_bytes(sums)),
    ]


def _require_whole(tag: ReleaseTag, state: ReleaseState, entries: list[FileEntry]) -> None:
    """Holds what the host has against what the release says of itself.

    Raises:
        ManifestError: A file is missing, unfinished or has other bytes.
    """
    there = {file.name: file.sha256 for file in state.files}
    for entry in entries:
        if there.get(entry.name) != entry.sha256:
            raise ManifestError(
                f"{tag.text} must hold what its own SHA256SUMS says, {entry.name} "
                f"{'is missing' if entry.name not in there else 'has other bytes'}. Give --replace, or use a new tag."
            )
