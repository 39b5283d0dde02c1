"""Files -> sizes, sha256 and a byte-stable manifest.

`manifest.json` says what a release holds and what was measured; `SHA256SUMS` lets `sha256sum -c`
check it. Equal content gives equal bytes: keys are sorted, nothing depends on time or place.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_release.base.errors import HostError, ManifestError
from model_release.base.files import sha256_of
from model_release.base.github_limits import ASSET_NAME, MAX_ASSET_BYTES
from model_release.contract.activations import CONTRACT_FOLDER

MANIFEST_NAME = "manifest.json"
CHECKSUMS_NAME = "SHA256SUMS"
MANIFEST_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of a release."""

    name: str
    size_bytes: int
    sha256: str


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
        digest = sha256_of(folder / name, error=ManifestError)
        size_bytes = (folder / name).stat().st_size
        if size_bytes > MAX_ASSET_BYTES:
            raise HostError(
                f"{name} must be smaller than 2 GiB to be a release asset, got {size_bytes / 1e6:.0f} MB. "
                f"Choose a smaller precision."
            )
        entries.append(FileEntry(name=name, size_bytes=size_bytes, sha256=digest))
    return tuple(entries)


def render(document: Mapping[str, Any]) -> bytes:
    """A manifest as bytes.

    Raises:
        ManifestError: It does not fit `contract/manifest.schema.json`.
    """
    validate(document)
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse(content: bytes) -> dict[str, Any]:
    """Reads a manifest, which may come from anywhere.

    Raises:
        ManifestError: It is no JSON, or does not fit the schema.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as failure:
        raise ManifestError(f"{MANIFEST_NAME} must be JSON, got: {failure}. Make the release again.") from failure
    validate(document)
    return dict(document)


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a release folder.

    Raises:
        ManifestError: There is none, or see `parse`.
    """
    try:
        return parse((folder / MANIFEST_NAME).read_bytes())
    except OSError as failure:
        raise ManifestError(
            f"{folder} must be a release with its {MANIFEST_NAME}, got: {failure.strerror}. "
            "Give e.g. out/releases/model-v1.0.0."
        ) from failure


def validate(document: object) -> None:
    """Checks a manifest against its schema; see `parse`."""
    import jsonschema  # Only manifests need it; importing it takes longer than most commands.

    schema = json.loads((CONTRACT_FOLDER / "manifest.schema.json").read_text(encoding="utf-8"))
    problem = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(document))
    if problem is not None:
        raise ManifestError(
            f"{MANIFEST_NAME} must fit contract/manifest.schema.json, "
            f"at {problem.json_path}: {problem.message[:200]}. Make the release again."
        )


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
