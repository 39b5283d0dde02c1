"""Weights -> a finished `dist` folder: export, quantize, verify, size gate, package. It publishes nothing."""

import importlib.metadata
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model_release.base.errors import ContractError, ExportError, UsageError
from model_release.base.files import (
    copy_file,
    make_parents,
    remove_made,
    write_bytes,
)
from model_release.contract import manifest
from model_release.contract.activations import (
    CONTRACT_FOLDER,
    FULL_PRECISION,
    Selection,
    load_contract,
    model_file_name,
)
from model_release.contract.tag import ReleaseTag
from model_release.model.onnx_files.data_files import data_files, model_bytes
from model_release.model.pipeline import (
    Progress,
    SelectionRequest,
    SourceRequest,
    calibration_ids,
    draw_report,
    export_weights,
    load_weights,
    pytorch_reference,
    quantize_model,
    silent,
    text_ids,
    verify_weights,
)

if TYPE_CHECKING:
    from model_release.model.verify.verification import Verification
    from model_release.model.weights.folder import Weights

CONTRACT_FILES = ("activations.json", "ACTIVATIONS_CONTRACT.md")
STEPS = 6
"""How many steps `build_dist` tells of."""

REPORT_NAME = "report.html"

_CONFIG = "config.json"
_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "tokenizers")

Delivery = Literal["auto", "git", "release"]
Step = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What a release is made of.

    Attributes:
        precisions: What is made besides `model.onnx`.
        app_precision: The precision the app gets.
        threshold_bytes: Largest model that may live in the app's tree.
        companion: Whether its files are to stand beside another model's in one release: their names begin
            with the model's, and the app, which gets the other model, is none of its business.
    """

    tag: ReleaseTag
    source: SourceRequest
    selection: SelectionRequest
    precisions: tuple[str, ...]
    app_precision: str
    delivery: Delivery
    threshold_bytes: int
    companion: bool = False

    @property
    def prefix(self) -> str:
        """What file names begin with."""
        return f"{self.source.name}-" if self.companion else ""

    def __post_init__(self) -> None:
        if self.app_precision not in (FULL_PRECISION, *self.precisions):
            raise UsageError(
                f"--app-precision must be fp32 or one of --precision, "
                f"got {self.app_precision[:60]!r} with {', '.join(self.precisions)}. Add it to --precision."
            )
        if self.threshold_bytes < 0:
            raise UsageError("--size-threshold must not be negative. The default is 50 (MB).")


def build_dist(request: BuildRequest, dist: Path, step: Step, progress: Progress) -> dict[str, Any]:
    """Makes and verifies every file of a release.

    Args:
        request: What to make.
        dist: An empty folder; after a failure it holds whatever was made until then.
        step: Told the name and the detail of each of the `STEPS` steps as it begins.
        progress: Told what happens within them.

    Returns:
        The manifest.

    Raises:
        ReleaseError: Of the step that failed.
    """
    from model_release.contract.file_checks import stored_bytes  # It needs numpy; planning a run does not.

    step("weights", request.source.describe())
    weights = load_weights(request.source, progress)
    selection = request.selection.resolve(weights.shape.layers)
    text = text_ids(weights)
    _require_fit(request, stored_bytes(weights.shape, load_contract().precision(request.app_precision)))
    model = dist / model_file_name(FULL_PRECISION)
    step("export", f"layers {','.join(map(str, selection.layers))}, opset {request.selection.opset}")
    export_weights(weights, selection, request.selection.opset, model, progress=silent)  # The step's line says it.
    if request.companion and data_files(model):  # Their names stand in the model file; a prefix would break them.
        raise UsageError(
            f"--companion is for a model of one file, {request.source.name} has data files. Release it on its own."
        )
    step("quantize", ", ".join(request.precisions))
    quantize_model(model, request.precisions, dist, calibration=lambda: calibration_ids(weights))
    step("verify", f"{1 + len(request.precisions)} files against PyTorch and the contract")
    verifications = _verify_all(weights, text, (FULL_PRECISION, *request.precisions), dist, progress)
    delivery = _decide_delivery(request, dist)
    step("size gate", _describe_delivery(delivery))
    step("package", "tokenizer, config, contract, report, manifest, checksums")
    measured_on = "validation text" if text else "random tokens"
    return _package(request, weights, selection, verifications, measured_on, delivery, dist)


def make_dist(request: BuildRequest, output: Path, step: Step, progress: Progress) -> dict[str, Any]:
    """`build_dist` into a folder that appears complete or not at all.

    Raises:
        ExportError: There is something already, or it cannot be written.
        ReleaseError: See `build_dist`.
    """
    if os.path.lexists(output):
        raise ExportError(f"--output must be a new folder, {output} is there. Remove it, or choose another.")
    made: list[Path] = []
    try:
        made = make_parents(output.absolute().parent)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.absolute().parent) as folder:
            whole = Path(folder) / "dist"
            whole.mkdir()
            document = build_dist(request, whole, step, progress)
            whole.rename(output)
    except BaseException as failure:
        remove_made(made)
        if isinstance(failure, OSError):
            raise ExportError(
                f"{output} must be writable, got: {failure.strerror or failure}. Choose another --output."
            ) from failure
        raise
    return document


def describe_dist(request: BuildRequest, progress: Progress) -> list[list[str]]:
    """What `build_dist` would make, without making it: rows of file, MB and what is known of it.

    Weights are located and checked (a Hub's are downloaded into its cache); nothing else is written.
    """
    from model_release.contract.file_checks import stored_bytes

    weights = load_weights(request.source, progress)
    selection = request.selection.resolve(weights.shape.layers)
    outputs = load_contract().expected_outputs(weights.shape, selection)
    rows = []
    for name in (FULL_PRECISION, *request.precisions):
        size_bytes = stored_bytes(weights.shape, load_contract().precision(name))
        verdict = "at or under" if size_bytes <= request.threshold_bytes else "over"
        rows.append(
            [
                model_file_name(name),
                f"about {size_bytes / 1e6:.1f}",
                f"{len(outputs)} outputs, {verdict} the {request.threshold_bytes / 1e6:g} MB threshold",
            ]
        )
    rows += [[name, "", "copied"] for name in (*weights.tokenizer_files, _CONFIG, *CONTRACT_FILES)]
    return rows + [[name, "", "written"] for name in (REPORT_NAME, manifest.MANIFEST_NAME, manifest.CHECKSUMS_NAME)]


def numbered(progress: Progress, total: int) -> Step:
    """Progress lines that count the steps."""
    count = iter(range(1, total + 1))
    return lambda name, detail: progress(f"[{next(count)}/{total}] {name:<10} {detail}")


def _verify_all(
    weights: "Weights", text: Sequence[int], precisions: Sequence[str], dist: Path, progress: Progress
) -> dict[str, "Verification"]:
    """Verifies every file against one PyTorch model; fails once, after all were looked at."""
    reference = pytorch_reference(weights)
    results = {}
    for precision in precisions:
        name = model_file_name(precision)
        results[precision] = result = verify_weights(dist / name, name, reference, text, progress=silent)
        measured = result.agreement
        figures = f", mean KL {measured.mean_kl:.1e} nats, top-1 {measured.top1:.1%}" if measured else ""
        progress(
            f"      {name}: "
            f"{f'{len(result.clauses)} clauses hold' if result.passed else f'{len(result.findings)} findings'}{figures}"
        )
        for finding in result.findings:
            progress(f"      {finding}")
    for result in results.values():
        result.require()
    return results


def _decide_delivery(request: BuildRequest, dist: Path) -> dict[str, Any]:
    """The size gate: at or under the threshold the app's model may live in its tree.

    Raises:
        UsageError: See `_require_fit`.
    """
    file = model_file_name(request.app_precision)
    size_bytes = model_bytes(dist / file)
    within = size_bytes <= request.threshold_bytes
    _require_fit(request, size_bytes)
    mode = ("git" if within else "release") if request.delivery == "auto" else request.delivery
    mode = "release" if request.companion else mode
    return {
        "asked": request.delivery,
        "mode": mode,
        "file": request.prefix + file,
        "precision": request.app_precision,
        "size_bytes": size_bytes,
        "threshold_bytes": request.threshold_bytes,
        "within_threshold": within,
    }


def _require_fit(request: BuildRequest, size_bytes: int) -> None:
    """Refuses `--delivery git` for a model over the threshold; asked first of its weights alone, before any work."""
    if request.delivery == "git" and not request.companion and size_bytes > request.threshold_bytes:
        raise UsageError(
            f"--delivery git needs a model of at most {request.threshold_bytes / 1e6:g} MB, "
            f"{model_file_name(request.app_precision)} has {size_bytes / 1e6:.1f} MB. "
            "Choose a smaller precision, --delivery release, or another --size-threshold."
        )


def _describe_delivery(delivery: dict[str, Any]) -> str:
    sign = "≤" if delivery["within_threshold"] else ">"
    return (
        f"{delivery['file']} {delivery['size_bytes'] / 1e6:.1f} MB {sign} "
        f"{delivery['threshold_bytes'] / 1e6:g} MB: delivery {delivery['mode']}"
    )


def _package(
    request: BuildRequest,
    weights: "Weights",
    selection: Selection,
    verifications: dict[str, "Verification"],
    measured_on: str,
    delivery: dict[str, Any],
    dist: Path,
) -> dict[str, Any]:
    """Completes `dist`: tokenizer, config, contract, report, manifest and checksums beside the models."""
    for name in (*weights.tokenizer_files, _CONFIG):
        copy_file(weights.folder / name, dist / name, error=ExportError)
    for name in CONTRACT_FILES:
        copy_file(CONTRACT_FOLDER / name, dist / name, error=ExportError)
    for path in sorted(dist.iterdir()):
        path.rename(dist / f"{request.prefix}{path.name}")
    manifest_name, checksums_name = manifest.part_names(request.prefix)
    files = manifest.describe_files(dist, [path.name for path in dist.iterdir()])
    document: dict[str, Any] = {
        "manifest_version": manifest.MANIFEST_VERSION,
        "tag": request.tag.text,
        "version": request.tag.version,
        "name": request.source.name,
        "contract_version": load_contract().version,
        "model": {
            "source": weights.source,
            "revision": weights.revision,
            "weights_sha256": weights.sha256,
            "weights": [asdict(file) for file in weights.files],
            "parameters": weights.shape.parameter_count,
            "shape": asdict(weights.shape),
        },
        "selection": {
            "layers": list(selection.layers),
            "activations": list(selection.activations),
            "logits": selection.logits,
            "opset": request.selection.opset,
        },
        "delivery": delivery,
        "variants": [_variant(precision, result, measured_on, request) for precision, result in verifications.items()],
        "files": [asdict(file) for file in files],
        "made_with": {library: importlib.metadata.version(library) for library in _LIBRARIES},
    }
    if request.companion:
        document["asset_prefix"] = request.prefix
    by_output = {precision: result.by_output for precision, result in verifications.items()}
    report = draw_report(weights, selection, dist / delivery["file"], document, by_output)
    report_name = request.prefix + REPORT_NAME
    write_bytes(dist / report_name, report, error=ExportError)
    files = (*files, *manifest.describe_files(dist, [report_name]))
    document["files"] = [asdict(file) for file in sorted(files, key=lambda file: file.name)]
    write_bytes(dist / manifest_name, manifest.render(document), error=ExportError)
    described = (*files, *manifest.describe_files(dist, [manifest_name]))
    write_bytes(dist / checksums_name, manifest.checksums(described), error=ExportError)
    return document


def _variant(precision: str, result: "Verification", measured_on: str, request: BuildRequest) -> dict[str, Any]:
    """A model file's entry of the manifest: what it is, and what was measured on it."""
    terms = load_contract().precision(precision)
    measured = result.agreement
    if measured is None:
        raise ContractError(f"{result.file} must have been compared with PyTorch. Report this as a defect.")
    return {
        "file": request.prefix + result.file,
        "precision": precision,
        "stored": terms.stored,
        "computed": terms.computed,
        "size_bytes": result.file_bytes,
        "within_threshold": result.file_bytes <= request.threshold_bytes,
        "clauses": list(result.clauses),
        "deviations": [
            {
                "kind": item.kind,
                "max_abs": manifest.rounded(item.max_abs),
                "relative": manifest.rounded(item.relative),
                "cosine": round(item.cosine, 4),
            }
            for item in result.deviations
        ],
        "agreement": {
            "text": measured_on,
            "positions": measured.positions,
            "mean_kl_nats": manifest.rounded(measured.mean_kl),
            "top1": round(measured.top1, 3),
            "top1_or_tie": round(measured.top1_or_tie, 3),
            "perplexity_ratio": round(measured.perplexity_ratio, 4),
        },
    }
