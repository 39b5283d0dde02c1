"""Weights -> a finished `dist` folder: export, quantize, verify, size gate, package. It publishes nothing."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.base.errors import ExportError, UsageError
from model_release.base.files import (
    make_parents,
    remove_made,
)
from model_release.base.progress import Progress, Step, silent
from model_release.contract import manifest
from model_release.contract.activations import load_contract
from model_release.contract.measured import MEASURED_NAME
from model_release.contract.precision import FULL_PRECISION, model_file_name
from model_release.contract.request import FITTED, Budget
from model_release.model.onnx_files.data_files import data_files
from model_release.model.pipeline import (
    advise,
    calibration_ids,
    export_weights,
    pytorch_reference,
    quantize_model,
    text_ids,
    verify_weights,
)
from model_release.model.weights.source import load_weights
from model_release.release.package import (
    CONFIG_NAME,
    ENCLOSED,
    Built,
    decide_delivery,
    describe_delivery,
    package,
)
from model_release.release.request import BuildRequest, require_fit

if TYPE_CHECKING:
    from model_release.contract.blueprint import Blueprint
    from model_release.model.verify.verification import Verification
    from model_release.model.weights.folder import Weights

STEPS = 6
"""How many steps `build_dist` tells of."""


def build_dist(
    request: BuildRequest, dist: Path, step: Step, progress: Progress, *, weights: "Weights | None" = None
) -> Built:
    """Makes and verifies every file of a release.

    Args:
        request: What to make.
        dist: An empty folder; after a failure it holds whatever was made until then.
        step: Told the name and the detail of each of the `STEPS` steps as it begins.
        progress: Told what happens within them.
        weights: Where they are loaded already, and their step told.

    Returns:
        What it is, and what was measured.

    Raises:
        ReleaseError: Of the step that failed.
    """
    from model_release.model.weights.tokenizer import load_tokenizer

    if weights is None:
        step("weights", request.source.describe())
        weights = load_weights(request.source, progress)
    selection = request.selection.resolve(weights.blueprint)
    advise(weights.blueprint, selection, progress)
    tokenizer = load_tokenizer(weights, progress)
    text = text_ids(weights.blueprint, tokenizer, request.validation, progress)
    given = None if request.calibration is None else calibration_ids(weights.blueprint, tokenizer, request.calibration)
    require_fit(request, _expected_bytes(request, weights.blueprint, request.app_precision))
    model = dist / model_file_name(FULL_PRECISION)
    step("export", f"layers {','.join(map(str, selection.layers))}, opset {request.selection.opset}")
    export_weights(weights, selection, request.selection.opset, model, progress=silent)  # The step's line says it.
    if request.companion and data_files(model):  # Their names stand in the model file; a prefix would break them.
        raise UsageError(
            f"--companion is for a model of one file, {request.source.name} has data files. Release it on its own."
        )
    step("quantize", ", ".join(request.precisions))
    quantize_model(
        model,
        request.precisions,
        dist,
        calibration=lambda: (
            calibration_ids(weights.blueprint, tokenizer, progress=progress) if given is None else given
        ),
        note=progress,
        budget=request.budget or Budget(size_bytes=request.threshold_bytes, is_asked=False),
    )
    step("verify", f"{1 + len(request.precisions)} files against PyTorch and the contract")
    verifications = _verify_all(weights, text, (FULL_PRECISION, *request.precisions), dist, progress)
    delivery = decide_delivery(request, dist)
    step("size gate", describe_delivery(delivery))
    step("package", "tokenizer, config, contract, report, bill of materials, manifest, figures, checksums")
    return package(request, weights, selection, verifications, tokenizer, delivery, dist)


def make_dist(request: BuildRequest, output: Path, step: Step, progress: Progress) -> Built:
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
            built = build_dist(request, whole, step, progress)
            whole.rename(output)
    except BaseException as failure:
        remove_made(made)
        if isinstance(failure, OSError):
            raise ExportError(
                f"{output} must be writable, got: {failure.strerror or failure}. Choose another --output."
            ) from failure
        raise
    return built


def describe_dist(request: BuildRequest, progress: Progress) -> list[list[str]]:
    """What `build_dist` would make, without making it: rows of file, MB and what is known of it.

    Weights are located and checked (a Hub's are downloaded into its cache); nothing else is written.
    """
    from model_release.model.weights.file_names import TOKENIZER
    from model_release.model.weights.tokenizer import load_tokenizer

    weights = load_weights(request.source, progress)
    is_made = load_tokenizer(weights, progress) is not None and TOKENIZER not in weights.tokenizer_files
    selection = request.selection.resolve(weights.blueprint)
    outputs = load_contract().expected_outputs(weights.blueprint, selection)
    rows = []
    for name in (FULL_PRECISION, *request.precisions):
        size_bytes = _expected_bytes(request, weights.blueprint, name)
        verdict = "at or under" if size_bytes <= request.threshold_bytes else "over"
        rows.append(
            [
                model_file_name(name),
                f"about {size_bytes / 1e6:.1f}",
                f"{len(outputs)} outputs, {verdict} the {request.threshold_bytes / 1e6:g} MB threshold",
            ]
        )
    rows += [
        [name, "", "copied"] for name in (*weights.tokenizer_files, CONFIG_NAME, *(path.name for path in ENCLOSED))
    ]
    return rows + [
        [name, "", "written"]
        for name in (
            *([TOKENIZER] if is_made else ()),
            manifest.REPORT_NAME,
            manifest.BOM_NAME,
            MEASURED_NAME,
            manifest.MANIFEST_NAME,
            manifest.CHECKSUMS_NAME,
        )
    ]


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


def _expected_bytes(request: BuildRequest, blueprint: "Blueprint", precision: str) -> int:
    """What a file's tensors will take, as far as it is known before anything is made."""
    from model_release.contract.file_checks import stored_bytes  # It needs numpy; planning a run does not.
    from model_release.model.precision.budget import least_bytes

    terms = load_contract().precision(precision)
    size_bytes = stored_bytes(blueprint, terms)
    if precision != FITTED:
        return size_bytes
    if request.budget is not None:
        return request.budget.size_bytes
    can_be_fitted = least_bytes(blueprint, terms) <= request.threshold_bytes
    return min(size_bytes, request.threshold_bytes) if can_be_fitted else size_bytes
