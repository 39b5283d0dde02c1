"""A folder with a release's files x its manifests and checksums: is it what they say, every byte of it?"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_release.base.errors import ManifestError
from model_release.base.files import is_file, read_bytes
from model_release.base.github_limits import ASSET_NAME
from model_release.contract import manifest, measured
from model_release.contract.manifest import CHECKSUMS_NAME, MANIFEST_NAME, TIMINGS_NAME, FileEntry, Manifest
from model_release.contract.measured import MEASURED_NAME, Measured
from model_release.contract.tag import ReleaseTag, parse_tag

_AGAIN = "Make the release again."
_ADVICE = "Do not use this release; make it again."


@dataclass(frozen=True, kw_only=True)
class Dist:
    """A folder that is what its manifests say.

    Attributes:
        document: The manifest of the release's first model, whose files have plain names.
        companions: The manifests of the other models, by name.
        figures: What was measured on each model, by the prefix of its files' names.
        entries: Every file of the release, by name.
        beside: Files that tell what the models needed in a browser, if one was asked; no part of the release.
    """

    document: Manifest
    companions: tuple[Manifest, ...]
    figures: Mapping[str, Measured]
    entries: tuple[FileEntry, ...]
    beside: tuple[Path, ...]


def check_dist(dist: Path, tag: ReleaseTag) -> Dist:
    """Checks a folder against its own manifests and checksums, every byte of it.

    A release holds one model or several. Each has a manifest and checksums of its own; those of the
    first are `manifest.json` and `SHA256SUMS`, and the names of another model's files all begin with its
    name and a hyphen. A model's `browser.json` may lie beside them.

    Raises:
        ManifestError: Something is missing, too much or different.
    """
    return _check(dist, tag, first="")


def check_built(dist: Path) -> Dist:
    """`check_dist` for what one build has made: a whole release, or a companion that is still alone.

    Raises:
        ManifestError: See `check_dist`.
    """
    try:
        prefixes = [path.name.removesuffix(MANIFEST_NAME) for path in dist.glob(f"*{MANIFEST_NAME}")]
    except OSError:
        prefixes = []  # Reading the manifest says why.
    first = prefixes[0] if len(prefixes) == 1 else ""
    return _check(dist, parse_tag(manifest.read(dist, first).tag), first=first)


def _check(dist: Path, tag: ReleaseTag, *, first: str) -> Dist:
    """A folder whose first model has this prefix."""
    try:
        present = {path.name: is_file(path) for path in dist.iterdir()}
        others = {name.removesuffix(MANIFEST_NAME) for name in present if name.endswith(MANIFEST_NAME)} - {first}
        prefixes = [first, *sorted(others)]
        parts = {prefix: _read_part(dist, prefix, tag) for prefix in prefixes}
        beside = {prefix + TIMINGS_NAME for prefix in prefixes} & present.keys()
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
    figures = {document.asset_prefix: _read_figures(dist, document) for document in documents}
    return Dist(
        document=documents[0],
        companions=tuple(documents[1:]),
        figures=figures,
        entries=entries,
        beside=tuple(dist / name for name in sorted(beside)),
    )


def _read_part(dist: Path, prefix: str, tag: ReleaseTag) -> tuple[Manifest, bytes]:
    """A model's manifest and the bytes of its checksums.

    Raises:
        ManifestError: The manifest is of another release, or contradicts itself.
        OSError: One of them cannot be read.
    """
    manifest_name, checksums_name = manifest.part_names(prefix)
    document = manifest.parse(read_bytes(dist / manifest_name, limit_bytes=manifest.MAX_MANIFEST_BYTES))
    sums = read_bytes(dist / checksums_name, limit_bytes=manifest.MAX_CHECKSUMS_BYTES)
    if (document.tag, document.version) != (tag.text, tag.version):
        raise ManifestError(
            f"{manifest_name} must be of {tag.text}, got {document.tag[:80]!a} "
            f"with version {document.version[:80]!a}. Give the tag it was made for, or make it again."
        )
    if document.asset_prefix != prefix or not all(name.startswith(prefix) for name in document.names):
        raise ManifestError(f"{manifest_name!a} must list files whose names begin as its own. {_AGAIN}")
    if not {document.delivery.file, *document.variants_by_file} <= {entry.name for entry in document.files}:
        raise ManifestError(f"{manifest_name} must list every model it describes. {_AGAIN}")
    if prefix + MEASURED_NAME not in document.descriptions:
        raise ManifestError(f"{manifest_name} must name {prefix + MEASURED_NAME} among its descriptions. {_AGAIN}")
    return document, sums


def _read_figures(dist: Path, document: Manifest) -> Measured:
    """What was measured on a model.

    Raises:
        ManifestError: There are no figures, or they are of other files.
    """
    figures = measured.read(dist, document.asset_prefix)
    files = {each.file for each in figures.models}
    if figures.tag != document.tag or files != document.variants_by_file.keys():
        raise ManifestError(
            f"{document.asset_prefix + MEASURED_NAME} must be of {document.tag} and its models, "
            f"got {figures.tag[:80]!a} and {', '.join(sorted(files))[:200]!a}. {_AGAIN}"
        )
    return figures


def _names(prefix: str, document: Manifest) -> list[str]:
    """Every file name of a model's part of the release."""
    return [*document.names, *manifest.part_names(prefix)]


def _differences(prefix: str, document: Manifest, sums: bytes, found: dict[str, FileEntry]) -> list[str]:
    """What of a model's part is not as its manifest and its checksums say."""
    wrong = [f"{entry.name!a} has other bytes" for entry in document.files if found[entry.name] != entry]
    checksums_name = manifest.part_names(prefix)[1]
    summed = (found[name] for name in _names(prefix, document) if name != checksums_name)
    return [*wrong, *([] if sums == manifest.checksums(summed) else [f"{checksums_name} has other sums"])]


def parse_checksums(content: bytes) -> dict[str, str]:
    """`SHA256SUMS` -> sha256 by file name.

    Raises:
        ManifestError: It is not as `sha256sum` writes it.
    """
    sums: dict[str, str] = {}
    for line in content.decode("utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match or not ASSET_NAME.fullmatch(match[2]) or match[2] in sums:
            raise ManifestError(
                f"{CHECKSUMS_NAME} must hold a sha256 and a name a line, each name once, got {line[:80]!a}. {_ADVICE}"
            )
        sums[match[2]] = match[1]
    return sums


def check_manifest(content: bytes, checksums: Mapping[str, str], sha256: str, *, name: str = MANIFEST_NAME) -> Manifest:
    """Reads a manifest that the checksums vouch for.

    Args:
        content: `manifest.json`.
        checksums: sha256 by name, of `SHA256SUMS`.
        sha256: Of `content`.
        name: The manifest's own; that of another model of the release begins with the model's.

    Raises:
        ManifestError: It is none, or says other than the checksums.
    """
    if checksums.get(name) != sha256:
        raise ManifestError(
            f"{name} must have the sha256 that {CHECKSUMS_NAME} gives, "
            f"{checksums.get(name, 'which is none')}, got {sha256}. {_ADVICE}"
        )
    document = manifest.parse(content)
    for entry in document.files:
        if checksums.get(entry.name) != entry.sha256:
            raise ManifestError(
                f"{entry.name[:80]!a} must have one sha256, got {entry.sha256} in {name} and "
                f"{checksums.get(entry.name, 'none')} in {CHECKSUMS_NAME}. {_ADVICE}"
            )
    if missing := [name for name in document.descriptions if name not in checksums]:
        raise ManifestError(f"{CHECKSUMS_NAME} must have the sha256 of {missing[0][:80]!a}, got none. {_ADVICE}")
    return document
