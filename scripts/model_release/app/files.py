"""A release's manifest -> the files the web app gets, and its URL. The release may come from anywhere.

Names become paths and URLs here, sizes become downloads, so both are judged before anything is fetched.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from model_release.base.errors import ManifestError
from model_release.base.github_limits import ASSET_NAME, MAX_ASSET_BYTES, MAX_ASSETS
from model_release.contract.manifest import MANIFEST_NAME, FileEntry, Manifest, is_data_file, version_query
from model_release.contract.tag import ReleaseTag
from model_release.contract.transformers_js import ASKED_FOR, delivered_names, path_of_model

MODELS_FOLDER = "models"
"""Below the folder that the app serves at its base."""

Layout = Literal["flat", "transformers.js"]
"""Side by side, or as transformers.js looks for them: model files in `onnx`."""

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_ADVICE = "Do not use this release; make it again."


@dataclass(frozen=True, kw_only=True)
class AppFiles:
    """What the web app gets of a release.

    Attributes:
        folder: Name of its folder below `models`.
        version: The release's version.
        model: The model file.
        others: The model's data files, tokenizer and config; `manifest.json` lies beside them.
        layout: Where they lie in the folder.
    """

    folder: str
    version: str
    model: FileEntry
    others: tuple[FileEntry, ...]
    layout: Layout = "flat"

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """Every file with a hash in the manifest, the model first."""
        return (self.model, *self.others)

    @property
    def url(self) -> str:
        """The model's URL relative to the app's base, which its bundler knows and we do not."""
        query = version_query(self.version, self.model.sha256)
        return f"{MODELS_FOLDER}/{self.folder}/{self.path(self.model.name)}?v={query}"

    def path(self, name: str) -> str:
        """Where a file lies in the folder."""
        is_model = name == self.model.name or is_data_file(name, self.model.name)
        return path_of_model(name) if is_model and self.layout == "transformers.js" else name

    @property
    def filled(self) -> tuple[str, ...]:
        """Files of the layout that the release may lack; dev servers answer with a page where a file is missing."""
        return ASKED_FOR if self.layout == "transformers.js" else ()


def app_files(
    document: Manifest, tag: ReleaseTag, *, precision: str | None = None, layout: Layout = "flat"
) -> AppFiles:
    """What the app gets.

    Args:
        document: The release's manifest.
        tag: The release that was asked for.
        precision: Another variant than the one the release delivers.
        layout: Where the app looks for them.

    Raises:
        ManifestError: It is another release's, has no such variant or file, or a name or a size that no
            release of ours has.
    """
    if (document.tag, document.version) != (tag.text, tag.version):
        raise ManifestError(
            f"{MANIFEST_NAME} must be of {tag.text}, got {document.tag[:80]!a} with version "
            f"{document.version[:80]!a}. {_ADVICE}"
        )
    if not _FOLDER.fullmatch(document.name):
        raise ManifestError(f"the model's name must match {_FOLDER.pattern}, got {document.name[:80]!a}. {_ADVICE}")
    entries = _entries(document.files)
    variants = {variant.precision: variant.file for variant in document.variants}
    if precision is not None and precision not in variants:
        raise ManifestError(
            f"--precision must be one of this release, {', '.join(map(ascii, sorted(variants)))}, "
            f"got {precision[:60]!a}. Choose one of them."
        )
    model = document.delivery.file if precision is None else variants[precision]
    names = delivered_names(document, model)
    for name in names:
        if name not in entries:
            raise ManifestError(f"{MANIFEST_NAME} must list {name[:80]!a} among its files. {_ADVICE}")
    if len(set(names)) != len(names) or MANIFEST_NAME in names:
        raise ManifestError(f"the model must be a file of its own, got {model[:80]!a}. {_ADVICE}")
    return AppFiles(
        folder=document.name,
        version=tag.version,
        model=entries[model],
        others=tuple(entries[name] for name in names[1:]),
        layout=layout,
    )


def check_query(document: Manifest, tag: ReleaseTag, file: str, query: str) -> None:
    """Holds the env file's `?v=` against the release.

    Args:
        document: The manifest.
        tag: The release.
        file: The file's name in `VITE_MODEL_URL`.
        query: What stands after `?v=` there.

    Raises:
        ManifestError: They disagree: one of them was changed without the other.
    """
    entry = document.entry(file)
    expected = version_query(tag.version, entry.sha256) if entry else "nothing of this name"
    if query != expected:
        raise ManifestError(
            f"the env file and the release must agree on {file[:80]!a}, but VITE_MODEL_URL says "
            f"?v={query[:80]!a} and {tag.text} has {expected}. Release again, or correct the env file."
        )


def _entries(files: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """The manifest's files by name, with names and sizes a release can have."""
    entries: dict[str, FileEntry] = {}
    folded: set[str] = set()
    for file in files:
        name, size = file.name, file.size_bytes
        if not ASSET_NAME.fullmatch(name) or name.endswith("."):
            raise ManifestError(f"a release file's name must match {ASSET_NAME.pattern}, got {name[:80]!a}. {_ADVICE}")
        if name.casefold() in folded:  # One file, on the file systems of Windows and macOS.
            raise ManifestError(f"{name} must be listed once. {_ADVICE}")
        if not 0 <= size <= MAX_ASSET_BYTES:
            raise ManifestError(f"{name} must be smaller than 2 GiB, got {str(size)[:40]} bytes. {_ADVICE}")
        folded.add(name.casefold())
        entries[name] = file
    if len(entries) > MAX_ASSETS:
        raise ManifestError(f"a release must have at most {MAX_ASSETS} files, got {len(entries)}. {_ADVICE}")
    return entries
