"""What is done with one model: export, quantize, verify; request -> result.

Heavy modules are imported where they are needed: quantizing needs no PyTorch, `--help` needs nothing.
"""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.base.errors import ExportError, QuantizeError, UsageError
from model_release.base.files import is_file
from model_release.base.progress import Progress, silent
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.precision import FULL_PRECISION, model_file_name
from model_release.contract.request import Budget, SelectionRequest
from model_release.contract.selection import (
    Selection,
)
from model_release.model.onnx_files.data_files import atomic_model
from model_release.model.weights.source import SourceRequest, load_weights

_LARGE_LOGITS_BYTES = 250e6  # GPT-2's whole context has 206 MB.

if TYPE_CHECKING:
    from model_release.contract.blueprint import Blueprint
    from model_release.model.verify.probes import PyTorchModel
    from model_release.model.verify.verification import Verification
    from model_release.model.weights.folder import Weights
    from model_release.model.weights.tokenizer import Tokenizer


def export_model(
    source: SourceRequest,
    request: SelectionRequest,
    output: Path,
    *,
    precision: str = FULL_PRECISION,
    budget: Budget | None = None,
    verify: bool = False,
    progress: Progress = silent,
) -> "Verification | None":
    """Exports a model to an ONNX file; with `verify`, only if it equals PyTorch.

    Returns:
        The verification, if one was asked for. When it fails nothing is written.

    Raises:
        ReleaseError: See `load_weights`; ExportError when the export or the file fails, ContractError
            or NumericMismatchError when the verification does.
    """
    progress(f"weights: {source.describe()}")
    with _collection_paused():
        weights = load_weights(source, progress)
    from model_release.model.weights.tokenizer import load_tokenizer

    selection = request.resolve(weights.blueprint)
    advise(weights.blueprint, selection, progress)
    if os.path.realpath(output) in {os.path.realpath(path) for path in weights.folder.iterdir()}:
        raise ExportError(f"--output must not be a file of the model's own folder, got {output}. Choose another path.")
    with atomic_model(output, error=ExportError) as temporary:
        export_weights(weights, selection, request.opset, temporary, progress, precision=precision, budget=budget)
        if not verify:
            return None
        text = text_ids(weights.blueprint, load_tokenizer(weights, progress), progress=progress)
        result = verify_weights(temporary, output.name, pytorch_reference(weights), text, progress)
        result.require()
    return result


def advise(blueprint: Blueprint, selection: Selection, progress: Progress) -> None:
    """Says how to make runs smaller, where a large vocabulary makes them large."""
    size_bytes = blueprint.context * blueprint.vocab * 4
    if selection.logits == "all" and size_bytes > _LARGE_LOGITS_BYTES:
        progress(
            f"note: a run of {blueprint.context} tokens returns {size_bytes / 1e6:.0f} MB of logits; "
            "--logits last returns those of the last position alone, --context promises fewer tokens"
        )


def export_weights(
    weights: "Weights",
    selection: Selection,
    opset: int,
    output: Path,
    progress: Progress,
    *,
    precision: str = FULL_PRECISION,
    budget: Budget | None = None,
) -> None:
    """Traces the graph, attaches the weights, writes the file.

    Weights go from their file into the new one, a parameter at a time, encoded on the way. Only a precision
    that looks at the running model needs an fp32 file first, which is made beside `output` and removed.
    """
    with _collection_paused():
        from model_release.model.precision.quantize import CALIBRATED, quantize_file, quantize_graph

    if precision in CALIBRATED:
        from model_release.model.weights.tokenizer import load_tokenizer

        with tempfile.TemporaryDirectory(prefix=".fp32-", dir=output.parent) as folder:
            full = Path(folder) / model_file_name(FULL_PRECISION)
            export_weights(weights, selection, opset, full, progress)
            progress(f"quantize: {precision}")
            text = calibration_ids(weights.blueprint, load_tokenizer(weights, progress), progress=progress)
            quantize_file(full, output, precision, text, budget=budget, note=progress)
        return
    progress(
        f"export: layers {','.join(map(str, selection.layers))}, "
        f"{len(selection.activations)} kinds of activations, opset {opset}"
    )
    with _collection_paused():
        from model_release.model.export.trace import trace

        model = trace(weights.config, weights.blueprint, selection, opset=opset)
    from model_release.contract.metadata import ModelMetadata
    from model_release.model.export.passes import attach_parameters
    from model_release.model.onnx_files.file import write_model
    from model_release.model.onnx_files.naming import set_metadata

    shapes = {name: parameter.dims for name, parameter in weights.blueprint.parameters.items()}
    attach_parameters(model, shapes, weights.finite_tensor)
    metadata = ModelMetadata(
        contract_version=load_contract().version,
        source=weights.source,
        revision=weights.revision,
        weights_sha256=weights.sha256,
        blueprint=weights.blueprint,
        selection=selection,
        precision=precision,
    )
    if precision == FULL_PRECISION:
        set_metadata(model, metadata)
        write_model(model, output, error=ExportError)
    else:
        quantize_graph(model, metadata, output)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Pauses the cyclic garbage collector, and keeps it from what was made meanwhile.

    Imports and tracing make millions of objects and drop few. Looking for garbage among them took a
    fifth of the export's time, and once more a tenth when the program ended.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def quantize_model(
    model: Path,
    precisions: Sequence[str],
    output_dir: Path,
    *,
    calibration: Callable[[], Sequence[int]] = tuple,
    budget: Budget | None = None,
    progress: Progress = silent,
    note: Progress = silent,
) -> tuple[Path, ...]:
    """Makes precisions of an exported model, each file whole or not at all.

    Args:
        model: The exported file.
        precisions: Names of the contract.
        output_dir: Where the files go.
        calibration: Gives token ids of a text; called only for precisions that look at one, see `quantize_file`.
        budget: How large `small` may be.
        progress: Told what is made.
        note: Told what becomes of the budget.

    Raises:
        QuantizeError: The model is not one of ours, or a precision cannot be made or written.
    """
    from model_release.model.precision.quantize import CALIBRATED, quantize_file

    ids = () if CALIBRATED.keys().isdisjoint(precisions) else calibration()
    targets = []
    for precision in precisions:
        progress(f"quantize: {precision}")
        target = output_dir / model_file_name(precision)
        if os.path.realpath(target) == os.path.realpath(model):
            raise QuantizeError(f"{target} is the model to read. Choose another --output-dir.")
        quantize_file(model, target, precision, ids, budget=budget, note=note)
        targets.append(target)
    return tuple(targets)


def verify_model(model: Path, reference: SourceRequest | None, *, progress: Progress = silent) -> "Verification":
    """Verifies a model file against the contract, and against PyTorch where a reference is given.

    Raises:
        ContractError: The file is no model of ours. Findings do not raise; see `Verification.require`.
        WeightsError: The reference cannot be had, or has another shape than the model.
    """
    from model_release.contract.metadata import metadata_of
    from model_release.model.onnx_files.facts import read_facts

    metadata = metadata_of(model.name, read_facts(model).props)
    if reference is None:
        return verify_weights(model, model.name, None, [], progress)
    from model_release.model.weights.tokenizer import load_tokenizer

    progress(f"reference: {reference.describe()}")
    weights = load_weights(reference, progress)
    if replace(weights.blueprint, context=metadata.blueprint.context) != metadata.blueprint:
        raise UsageError(
            f"the reference must have the model's shape {metadata.blueprint.sizes}, got {weights.blueprint.sizes}. "
            f"Give the weights it was made from."
        )
    text = text_ids(weights.blueprint, load_tokenizer(weights, progress), progress=progress)
    return verify_weights(model, model.name, pytorch_reference(weights), text, progress)


def verify_weights(
    path: Path, name: str, reference: "PyTorchModel | None", text: Sequence[int], progress: Progress
) -> "Verification":
    """Verifies a file under the name people will see it by; see `verification.verify_file`."""
    from model_release.model.verify.verification import verify_file

    return verify_file(
        path, name=name, reference=reference, text_ids=text, progress=lambda step: progress(f"verify {name}: {step}")
    )


def pytorch_reference(weights: "Weights") -> "PyTorchModel":
    """PyTorch's model of the weights; it remembers its answers for the next precision."""
    from model_release.model.verify.reference import Reference
    from model_release.model.verify.verification import CachedReference

    return CachedReference(Reference(weights))


def text_ids(
    blueprint: "Blueprint", tokenizer: "Tokenizer | None", validation: Path | None = None, progress: Progress = silent
) -> list[int]:
    """The validation text in the model's tokens; nothing without a tokenizer that speaks it.

    Raises:
        ReleaseError: See `ids_of_text`.
    """
    from model_release.model.verify.probes import QUALITY_TOKENS
    from model_release.model.weights.tokenizer import VALIDATION_TEXT, TextUse, ids_of_text

    tokens = min(QUALITY_TOKENS, blueprint.context) + 1
    use = TextUse(option="--validation", ours=VALIDATION_TEXT, tokens=tokens)
    return ids_of_text(tokenizer, validation, use, progress)


def calibration_ids(
    blueprint: "Blueprint", tokenizer: "Tokenizer | None", calibration: Path | None = None, progress: Progress = silent
) -> list[int]:
    """The calibration text in the model's tokens; nothing without a tokenizer that speaks it.

    Raises:
        ReleaseError: See `ids_of_text`.
    """
    from model_release.model.precision.calibration import WINDOW_TOKENS
    from model_release.model.weights.tokenizer import CALIBRATION_TEXT, TextUse, ids_of_text

    use = TextUse(option="--calibration", ours=CALIBRATION_TEXT, tokens=min(WINDOW_TOKENS, blueprint.context))
    return ids_of_text(tokenizer, calibration, use, progress)


def calibration_ids_for(
    model: Path, tokenizer: Path | None, calibration: Path | None, progress: Progress = silent
) -> list[int]:
    """A calibration text in the tokens of an exported model; nothing without a tokenizer that speaks it.

    Args:
        model: The exported file.
        tokenizer: Its `tokenizer.json`; if not given, the one beside the model, if there is one.
        calibration: A text file; if not given, the embedded model's.
        progress: Told if the tokenizer does not know that text.

    Raises:
        ContractError: The model is none of ours.
        WeightsError: The text or the tokenizer cannot be read, or belongs to another model.
        UsageError: A text was given, and there is no tokenizer, or it does not know the text.
    """
    from model_release.contract.metadata import metadata_of
    from model_release.model.onnx_files.facts import read_facts
    from model_release.model.weights.file_names import TOKENIZER
    from model_release.model.weights.tokenizer import Tokenizer, read_text

    beside = model.with_name(TOKENIZER)
    if tokenizer is None and not is_file(beside):
        if calibration is not None:
            read_text(calibration)  # One that is not there is not masked by what is missing beside it.
            raise UsageError(f"--calibration needs a tokenizer, got none beside {model}. Give --tokenizer.")
        return []
    blueprint = metadata_of(model.name, read_facts(model).props).blueprint
    return calibration_ids(blueprint, Tokenizer(tokenizer or beside, blueprint.vocab), calibration, progress)
