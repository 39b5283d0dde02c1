"""Files -> sizes, sha256 and a byte-stable manifest.

`manifest.json` says what a release holds and what was measured; `SHA256SUMS` lets `sha256sum -c`
check it. Equal content gives equal bytes: keys are sorted, nothing depends on time or place.

The dataclasses are what `contract/manifest.schema.json` describes. A field is a key; one with a default is a key that
may be missing, and is missing where the field has its default. Other keys stand in `shape` and `made_with` alone.
"""

import functools
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from model_release.base.errors import HostError, ManifestError
from model_release.base.files import read_bytes, sha256_of
from model_release.base.github_limits import ASSET_NAME, MAX_ASSET_BYTES
from model_release.contract.activations import CONTRACT_FOLDER
from model_release.contract.selection import Logits

if TYPE_CHECKING:
    import jsonschema

MANIFEST_NAME = "manifest.json"
CHECKSUMS_NAME = "SHA256SUMS"
REPORT_NAME = "report.html"
MAX_MANIFEST_BYTES = 1 << 23
MAX_CHECKSUMS_BYTES = 1 << 20
MANIFEST_VERSION = 1


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


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How the web app gets its model: from its own tree (`git`) or from the release.

    Attributes:
        asked: What the release was asked for.
        mode: What became of it.
        file: The app's model file.
        size_bytes: Of the file and its data files.
        threshold_bytes: Largest model that may live in the app's tree.
    """

    asked: Literal["auto", "git", "release"]
    mode: Literal["git", "release"]
    file: str
    precision: str
    size_bytes: int
    threshold_bytes: int
    within_threshold: bool


@dataclass(frozen=True, kw_only=True)
class DeviationEntry:
    """`measures.Deviation`, in the digits that a manifest keeps."""

    kind: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class AgreementEntry:
    """`measures.Agreement`, in the digits that a manifest keeps.

    Attributes:
        text: What it was measured on.
    """

    text: str
    positions: int
    mean_kl_nats: float
    top1: float
    top1_or_tie: float
    perplexity_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class BackendEntry:
    """What became of a model file in a browser, on one backend of onnxruntime-web.

    Attributes:
        reason: Why it does not run, in the backend's words.
        cosine: The least of any kind of output, with the fp32 file's.
        relative: The largest relative error of any, against the fp32 file.
    """

    backend: str
    runs: bool
    reason: str | None = None
    cosine: float | None = None
    relative: float | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model file: what it is, and what was measured on it.

    Attributes:
        stored: What its weights are stored as.
        computed: What is computed with them.
        size_bytes: Of the file and its data files.
        clauses: Clauses of the contract that were judged, and hold.
        deviations: Its errors against PyTorch, by kind of output.
        agreement: How well its next tokens agree with PyTorch's.
        backends: What became of it in a browser; None if none was asked.
    """

    file: str
    precision: str
    stored: str
    computed: str
    size_bytes: int
    within_threshold: bool
    clauses: tuple[str, ...]
    deviations: tuple[DeviationEntry, ...]
    agreement: AgreementEntry
    backends: tuple[BackendEntry, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model's part of a release holds, and what was measured on it.

    Attributes:
        tag: The release's tag, which nobody has judged yet; see `tag.parse_tag`.
        version: The version in it.
        name: The model's folder in the web app.
        contract_version: The contract that its files keep.
        variants: One entry a model file.
        files: Every file but the manifest and the checksums.
        made_with: Versions of the libraries that made it, by name.
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
    made_with: Mapping[str, str]
    asset_prefix: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its files."""
        return tuple(entry.name for entry in self.files)

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


def render(manifest: Manifest) -> bytes:
    """A manifest as bytes.

    Raises:
        ManifestError: It does not fit `contract/manifest.schema.json`.
    """
    return _render({"manifest_version": MANIFEST_VERSION, **_plain(manifest)})


def parse(content: bytes) -> Manifest:
    """Reads a manifest, which may come from anywhere.

    Raises:
        ManifestError: It is no JSON, or does not fit the schema.
    """
    try:
        document = json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as failure:
        raise _no_json(failure) from failure
    _render(document)  # What can be read can be written.
    del document["manifest_version"]
    manifest: Manifest = _typed(Manifest, document)
    return manifest


def read(folder: Path) -> Manifest:
    """The manifest of a release folder.

    Raises:
        ManifestError: There is none, or see `parse`.
    """
    try:
        return parse(read_bytes(folder / MANIFEST_NAME, limit_bytes=MAX_MANIFEST_BYTES))
    except OSError as failure:
        raise ManifestError(
            f"{folder} must be a release with its {MANIFEST_NAME}, got: {failure.strerror}. "
            "Give e.g. out/releases/model-v1.0.0."
        ) from failure


def _render(document: Any) -> bytes:  # noqa: ANN401 - any JSON
    """JSON that fits the schema as bytes.

    Raises:
        ManifestError: It does not fit, or is nothing that every reader of JSON can read.
    """
    try:
        _require_fit(document)
        return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (ValueError, RecursionError) as failure:  # Half a character, no number, or lists in lists in lists.
        raise _no_json(failure) from failure


def _require_fit(document: Any) -> None:  # noqa: ANN401 - any JSON
    """Checks JSON against the manifest's schema; see `parse`."""
    import jsonschema  # Only manifests need it; importing it takes longer than most commands.

    problem = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if problem is not None:
        raise ManifestError(
            f"{MANIFEST_NAME} must fit contract/manifest.schema.json, "
            f"at {problem.json_path[:200]}: {problem.message[:200]}. Make the release again."
        )


@functools.cache
def _validator() -> "jsonschema.Validator":
    """The schema, to which 1.0 is no whole number, though it is one to JSON."""
    import jsonschema

    schema = json.loads((CONTRACT_FOLDER / "manifest.schema.json").read_text(encoding="utf-8"))
    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    validator: jsonschema.Validator = jsonschema.validators.extend(base, type_checker=types)(schema)  # type: ignore[no-untyped-call]
    return validator


def _no_json(failure: Exception) -> ManifestError:
    return ManifestError(f"{MANIFEST_NAME} must be JSON, got: {failure}. Make the release again.")


def _whole(text: str) -> int:
    """A whole number that every reader of JSON has: https://www.rfc-editor.org/rfc/rfc7493#section-2.2."""
    number = int(text)
    if abs(number) > 2**53:
        raise ValueError(f"a whole number beyond 2^53, {text[:40]}")
    return number


def _finite(text: str) -> float:
    """A number; neither JSON nor the notes of a release have infinity."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"a number that is not finite, {text[:40]}")
    return number


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401 - by annotations
    """JSON that fits the schema -> what a field's annotation says it is."""
    if get_origin(kind) is UnionType:  # With None, for a key that may be missing; this one is there.
        kind = get_args(kind)[0]
    if is_dataclass(kind):
        kinds = get_type_hints(kind)
        return kind(**{key: _typed(kinds[key], part) for key, part in value.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_typed(get_args(kind)[0], part) for part in value)
    return value


def _plain(value: Any) -> Any:  # noqa: ANN401 - as above
    """The way back: what equals its default is a key that is not there."""
    if is_dataclass(value):
        parts = ((field, getattr(value, field.name)) for field in fields(value))
        return {field.name: _plain(part) for field, part in parts if part != field.default}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def checksums(entries: Iterable[FileEntry]) -> bytes:
    """`SHA256SUMS` as `sha256sum -c` reads it."""
    return "".join(
        f"{entry.sha256}  {entry.name}\n" for entry in sorted(entries, key=lambda entry: entry.name)
    ).encode()


def rounded(value: float) -> float:
    """A measured figure to two significant digits: more would differ from machine to machine."""
    return float(f"{value:.1e}")


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
