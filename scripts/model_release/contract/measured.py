"""What was measured on a release's files, and what made them: it describes a release, and does not decide what it is.

`measured.json` differs a little from machine to machine, as errors, a browser's verdicts and library versions do. A
public release keeps the one it was published with. The dataclasses are what `contract/measured.schema.json` describes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model_release.base.errors import ManifestError
from model_release.base.files import read_bytes
from model_release.contract.typed_json import Format

MEASURED_NAME = "measured.json"
MAX_MEASURED_BYTES = 1 << 23


@dataclass(frozen=True, kw_only=True)
class DeviationEntry:
    """`measures.Deviation`, in the digits that are kept."""

    kind: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class AgreementEntry:
    """`measures.Agreement`, in the digits that are kept.

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
class Measurement:
    """What was measured on one model file.

    Attributes:
        clauses: Clauses of the contract that were judged, and hold.
        deviations: Its errors against PyTorch, by kind of output.
        agreement: How well its next tokens agree with PyTorch's.
        backends: What became of it in a browser; None if none was asked.
    """

    file: str
    clauses: tuple[str, ...]
    deviations: tuple[DeviationEntry, ...]
    agreement: AgreementEntry
    backends: tuple[BackendEntry, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on a model's part of a release.

    Attributes:
        tag: The release's tag.
        models: One entry a model file.
        made_with: Versions of the libraries that made it, by name.
    """

    tag: str
    models: tuple[Measurement, ...]
    made_with: Mapping[str, str]

    def of(self, file: str) -> Measurement:
        """What was measured on a model file.

        Raises:
            ManifestError: Nothing was.
        """
        for each in self.models:
            if each.file == file:
                return each
        raise ManifestError(f"{MEASURED_NAME} must say what was measured on {file[:80]!a}. Make the release again.")


_FORMAT = Format(
    name=MEASURED_NAME, schema="measured.schema.json", kind=Measured, version_key="measured_version", version=1
)


def render(measured: Measured) -> bytes:
    """The figures as bytes.

    Raises:
        ManifestError: They do not fit `contract/measured.schema.json`.
    """
    return _FORMAT.render(measured)


def parse(content: bytes) -> Measured:
    """Reads figures, which may come from anywhere.

    Raises:
        ManifestError: They are no JSON, or do not fit the schema.
    """
    return _FORMAT.typed(_FORMAT.load(content))


def read(folder: Path, prefix: str = "") -> Measured:
    """The figures of a model in a release folder.

    Args:
        folder: The folder.
        prefix: What the names of the model's files begin with.

    Raises:
        ManifestError: There are none, or see `parse`.
    """
    name = prefix + MEASURED_NAME
    try:
        return parse(read_bytes(folder / name, limit_bytes=MAX_MEASURED_BYTES))
    except OSError as failure:
        raise ManifestError(f"{folder} must have {name}, got: {failure.strerror}. Make the release again.") from failure


def rounded(value: float) -> float:
    """A measured figure to two significant digits: more would differ from machine to machine."""
    return float(f"{value:.1e}")
