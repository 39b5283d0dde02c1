"""Files -> sizes, sha256 and a byte-stable manifest.

`manifest.json` says what a release is: what was asked, where it came from, its files. Nothing in it depends on the
machine that built it. What was measured stands in `measured.json`; see `measured`. `SHA256SUMS` lets `sha256sum -c`
check all of them.

The dataclasses are what `contract/manifest.schema.json` describes; other keys stand in `shape` alone.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from model_release.base.errors import HostError, ManifestError
from model_release.base.files import read_bytes, sha256_of
from model_release.base.github_limits import ASSET_NAME, MAX_ASSET_BYTES
from model_release.contract.selection import Logits
from model_release.contract.typed_json import Format

MANIFEST_NAME = "manifest.json"
CHECKSUMS_NAME = "SHA256SUMS"
REPORT_NAME = "report.html"
BOM_NAME = "bom.cdx.json"
MAX_MANIFEST_BYTES = 1 << 23
MAX_CHECKSUMS_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of a release, or of the weights that it was made from."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """Where a released model comes from.

    Attributes:
        source: Repository on the Hub, `demo`, or `local`.
        revision: Commit of the repository, or empty.
        weights_sha256: Of the weights, whatever files hold them.
        weights: The files that held them.
        parameters: Unique parameters; a tied table counts once.
        shape: The model's sizes, as the release's own version of this project names them.
    """

    source: str
    revision: str
    weights_sha256: str
    weights: tuple[FileEntry, ...]
    parameters: int
    shape: Mapping[str, Any]

    @property
    def context(self) -> int | None:
        """The longest sequence that is promised, in tokens; None where the release does not say."""
        size = self.shape.get("context")
        return size if type(size) is int else None


@dataclass(frozen=True, kw_only=True)
class SelectionEntry:
    """What of the model its files return; see `selection.Selection`."""

    layers: tuple[int, ...]
    activations: tuple[str, ...]
    logits: Logits
    opset: int
    cache: bool = False
    interventions: bool = False


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How the web app gets its model: from its own tree (`git`) or from the release.

    Attributes:
        asked: What the release was asked for.
        mode: What became of it.
        file: The app's model file.
        size_bytes: Of the file and its data files.
        threshold_bytes: Largest model that may live in the app's tree.
        fit_bytes: The size that `small` was asked to fit by name; None where nothing was asked.
    """

    asked: Literal["auto", "git", "release"]
    mode: Literal["git", "release"]
    file: str
    precision: str
    size_bytes: int
    threshold_bytes: int
    within_threshold: bool
    fit_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model file.

    Attributes:
        stored: What its weights are stored as.
        computed: What is computed with them.
        size_bytes: Of the file and its data files.
        fitted: Whether its widths follow a size that it must not exceed; each machine measures them its own way.
    """

    file: str
    precision: str
    stored: str
    computed: str
    size_bytes: int
    within_threshold: bool
    fitted: bool = False


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model's part of a release is.

    Attributes:
        tag: The release's tag, which nobody has judged yet; see `tag.parse_tag`.
        version: The version in it.
        name: The model's folder in the web app.
        contract_version: The contract that its files keep.
        variants: One entry a model file.
        files: Every file but the manifest, the checksums and what describes them.
        descriptions: Names of the files that describe them; they differ from machine to machine.
        asset_prefix: What the names of its files begin with; empty for the release's first model.
    """

    tag: str
    version: str
    name: str
    contract_version: str
    model: ModelEntry
    selection: SelectionEntry
    delivery: Delivery
    variants: tuple[Variant, ...]
    files: tuple[FileEntry, ...]
    descriptions: tuple[str, ...]
    asset_prefix: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files, and of those that describe them."""
        return (*(entry.name for entry in self.files), *self.descriptions)

    @property
    def variants_by_file(self) -> dict[str, Variant]:
        """What its model files are."""
        return {variant.file: variant for variant in self.variants}

    @property
    def app_model(self) -> FileEntry:
        """The file that the web app gets.

        Raises:
            ManifestError: It is not among the files.
        """
        entry = self.entry(self.delivery.file)
        if entry is None:
            raise ManifestError(
                f"{MANIFEST_NAME} must list {self.delivery.file[:80]!a} among its files. Make the release again."
            )
        return entry

    def entry(self, name: str) -> FileEntry | None:
        """The file of a name, if there is one."""
        return next((entry for entry in self.files if entry.name == name), None)

    def variant(self, precision: str) -> Variant | None:
        """The model file of a precision, if there is one."""
        return next((variant for variant in self.variants if variant.precision == precision), None)


def part_names(prefix: str = "") -> tuple[str, str]:
    """The manifest and the checksums of a model whose files have such names.

    >>> part_names("tiny-")
    ('tiny-manifest.json', 'tiny-SHA256SUMS')
    """
    return prefix + MANIFEST_NAME, prefix + CHECKSUMS_NAME


def describe_files(folder: Path, names: Iterable[str]) -> tuple[FileEntry, ...]:
    """Sizes and hashes of files of a folder, by name.

    Raises:
        ManifestError: A file cannot be read, or its name is none a release asset can have.
        HostError: A file is too large for a release asset.
    """
    entries = []
    for name in sorted(names):
        if not ASSET_NAME.fullmatch(name):
            raise ManifestError(
                f"a release file's name must match {ASSET_NAME.pattern}, got {name[:80]!r}. Rename the file."
            )
        try:
            size_bytes = (folder / name).stat().st_size
        except OSError as failure:
            raise ManifestError(f"{folder / name} must be readable, got: {failure.strerror}. Restore it.") from failure
        if size_bytes > MAX_ASSET_BYTES:
            raise HostError(
                f"{name} must be smaller than 2 GiB to be a release asset, got {size_bytes / 1e6:.0f} MB. "
                f"Choose a smaller precision."
            )
        digest = sha256_of(folder / name, error=ManifestError)
        entries.append(FileEntry(name=name, size_bytes=size_bytes, sha256=digest))
    return tuple(entries)


_FORMAT = Format(
    name=MANIFEST_NAME, schema="manifest.schema.json", kind=Manifest, version_key="manifest_version", version=2
)


def render(manifest: Manifest) -> bytes:
    """A manifest as bytes.

    Raises:
        ManifestError: It does not fit `contract/manifest.schema.json`.
    """
    return _FORMAT.render(manifest)


def parse(content: bytes) -> Manifest:
    """Reads a manifest, which may come from anywhere; also one of version 1.

    Raises:
        ManifestError: It is no JSON, or does not fit the schema.
    """
    loaded = _FORMAT.load(content)
    return _FORMAT.typed(_without_figures(loaded) if _version(loaded) == 1 else loaded)


def _version(loaded: Any) -> Any:  # noqa: ANN401 - any JSON
    return loaded.get(_FORMAT.version_key) if isinstance(loaded, dict) else None


def _without_figures(loaded: dict[str, Any]) -> dict[str, Any]:
    """Version 1 as version 2: it had the figures in it, and the report among the files. The schema judges the rest."""
    plain = {key: value for key, value in loaded.items() if key != "made_with"}
    plain |= {_FORMAT.version_key: _FORMAT.version, "descriptions": []}
    if isinstance(variants := loaded.get("variants"), list):
        figures = {"clauses", "deviations", "agreement", "backends"}
        plain["variants"] = [
            {key: value for key, value in each.items() if key not in figures} if isinstance(each, dict) else each
            for each in variants
        ]
    if isinstance(files := loaded.get("files"), list):
        report = f"{loaded.get('asset_prefix', '')}{REPORT_NAME}"
        plain["files"] = [each for each in files if not (isinstance(each, dict) and each.get("name") == report)]
        plain["descriptions"] = [report] if len(plain["files"]) < len(files) else []
    return plain


def read(folder: Path, prefix: str = "") -> Manifest:
    """The manifest of a release folder, or of the model in it whose files' names begin so.

    Raises:
        ManifestError: There is none, or see `parse`.
    """
    try:
        return parse(read_bytes(folder / (prefix + MANIFEST_NAME), limit_bytes=MAX_MANIFEST_BYTES))
    except OSError as failure:
        raise ManifestError(
            f"{folder} must be a release with its {MANIFEST_NAME}, got: {failure.strerror}. "
            "Give e.g. out/releases/model-v1.0.0."
        ) from failure


def checksums(entries: Iterable[FileEntry]) -> bytes:
    """`SHA256SUMS` as `sha256sum -c` reads it."""
    return "".join(
        f"{entry.sha256}  {entry.name}\n" for entry in sorted(entries, key=lambda entry: entry.name)
    ).encode()


def version_query(version: str, sha256: str) -> str:
    """The value of `?v=`: it changes when the release or a byte of the file does.

    >>> version_query("1.0.0", "0a1b2c3d4e5f")
    '1.0.0-0a1b2c3d'
    """
    return f"{version}-{sha256[:8]}"


def data_file_name(model: str, number: int) -> str:
    """The name of a model file's data file.

    >>> data_file_name("model.onnx", 0), data_file_name("model.onnx", 1)
    ('model.onnx_data', 'model.onnx_data_1')
    """
    return f"{model}_data_{number}" if number else f"{model}_data"


def is_data_file(name: str, model: str) -> bool:
    """Whether a file is one of a model file's, by their names.

    >>> is_data_file("model.onnx_data_12", "model.onnx"), is_data_file("model.onnx_data_0", "model.onnx")
    (True, False)
    """
    return re.fullmatch(re.escape(data_file_name(model, 0)) + "(_[1-9][0-9]{0,3})?", name) is not None


TIMINGS_NAME = "browser.json"
"""Times and memory in a browser: it lies beside a release's files, and is never published."""
