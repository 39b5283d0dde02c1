"""What lies beside a release's models: delivery, report, bill of materials, manifest and checksums."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.base.errors import ContractError, ExportError
from model_release.base.files import copy_file, write_bytes
from model_release.contract import manifest, measured
from model_release.contract.activations import CONTRACT_FOLDER, load_contract
from model_release.contract.manifest import (
    Delivery,
    Manifest,
    ModelEntry,
    SelectionEntry,
    Variant,
)
from model_release.contract.measured import (
    MEASURED_NAME,
    AgreementEntry,
    DeviationEntry,
    Measured,
    Measurement,
    rounded,
)
from model_release.contract.precision import model_file_name
from model_release.contract.selection import Selection
from model_release.model.onnx_files.data_files import model_bytes
from model_release.release.request import BuildRequest, require_fit

if TYPE_CHECKING:
    from model_release.contract.measures import Deviation
    from model_release.model.verify.verification import Verification
    from model_release.model.weights.folder import Weights
    from model_release.model.weights.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Built:
    """A model's part of a release.

    Attributes:
        document: The manifest.
        figures: What was measured.
    """

    document: Manifest
    figures: Measured


ENCLOSED = (
    CONTRACT_FOLDER / "activations.json",
    CONTRACT_FOLDER / "ACTIVATIONS_CONTRACT.md",
    CONTRACT_FOLDER.with_name("scripts") / "fetch.mjs",
)
"""What every release brings along: the contract, and what gets its files into a web app."""


CONFIG_NAME, TOKENIZER = "config.json", "tokenizer.json"


_LIBRARIES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "tokenizers")


def decide_delivery(request: BuildRequest, dist: Path) -> Delivery:
    """The size gate: at or under the threshold the app's model may live in its tree.

    Raises:
        UsageError: See `require_fit`.
    """
    file = model_file_name(request.app_precision)
    size_bytes = model_bytes(dist / file)
    within = size_bytes <= request.threshold_bytes
    require_fit(request, size_bytes)
    in_tree = within if request.delivery == "auto" else request.delivery == "git"
    return Delivery(
        asked=request.delivery,
        mode="git" if in_tree and not request.companion else "release",
        file=request.prefix + file,
        precision=request.app_precision,
        size_bytes=size_bytes,
        threshold_bytes=request.threshold_bytes,
        within_threshold=within,
        fit_bytes=request.fit_bytes,
    )


def describe_delivery(delivery: Delivery) -> str:
    """The size gate's decision in one line."""
    sign = "≤" if delivery.within_threshold else ">"
    return (
        f"{delivery.file} {delivery.size_bytes / 1e6:.1f} MB {sign} "
        f"{delivery.threshold_bytes / 1e6:g} MB: delivery {delivery.mode}"
    )


def package(
    request: BuildRequest,
    weights: "Weights",
    selection: Selection,
    verifications: dict[str, "Verification"],
    tokenizer: "Tokenizer | None",
    delivery: Delivery,
    dist: Path,
) -> Built:
    """Completes `dist`: tokenizer, config, contract, `fetch.mjs`, and what says what they are, beside the models."""
    from model_release.release.bom import render_bom

    for name in (*weights.tokenizer_files, CONFIG_NAME):
        copy_file(weights.folder / name, dist / name, error=ExportError)
    if tokenizer is not None and not (dist / TOKENIZER).exists():
        write_bytes(dist / TOKENIZER, tokenizer.content.encode(), error=ExportError)
    for path in ENCLOSED:
        copy_file(path, dist / path.name, error=ExportError)
    for path in sorted(dist.iterdir()):
        path.rename(dist / f"{request.prefix}{path.name}")
    manifest_name, checksums_name = manifest.part_names(request.prefix)
    files = manifest.describe_files(dist, [path.name for path in dist.iterdir()])
    document = Manifest(
        tag=request.tag.text,
        version=request.tag.version,
        name=request.source.name,
        asset_prefix=request.prefix,
        contract_version=load_contract().version,
        model=ModelEntry(
            source=weights.source,
            revision=weights.revision,
            weights_sha256=weights.sha256,
            weights=weights.files,
            parameters=weights.blueprint.parameter_count,
            shape=weights.blueprint.sizes,
        ),
        selection=SelectionEntry(
            layers=selection.layers,
            activations=selection.activations,
            logits=selection.logits,
            cache=selection.cache,
            interventions=selection.interventions,
            opset=request.selection.opset,
        ),
        delivery=delivery,
        variants=tuple(_variant(precision, result, request) for precision, result in verifications.items()),
        files=files,
        descriptions=tuple(request.prefix + name for name in (MEASURED_NAME, manifest.REPORT_NAME, manifest.BOM_NAME)),
    )
    figures = Measured(
        tag=request.tag.text,
        models=tuple(_measurement(result, request) for result in verifications.values()),
        made_with={library: importlib.metadata.version(library).partition("+")[0] for library in _LIBRARIES},
    )
    built = Built(document=document, figures=figures)
    by_output = {precision: result.by_output for precision, result in verifications.items()}
    report = draw_report(weights, selection, tokenizer, dist / delivery.file, built, by_output)
    contents = (measured.render(figures), report, render_bom(document, figures))
    for name, content in zip(document.descriptions, contents, strict=True):
        write_bytes(dist / name, content, error=ExportError)
    write_bytes(dist / manifest_name, manifest.render(document), error=ExportError)
    described = (*files, *manifest.describe_files(dist, [manifest_name, *document.descriptions]))
    write_bytes(dist / checksums_name, manifest.checksums(described), error=ExportError)
    return built


def _variant(precision: str, result: "Verification", request: BuildRequest) -> Variant:
    """A model file's entry of the manifest."""
    terms = load_contract().precision(precision)
    return Variant(
        file=request.prefix + result.file,
        precision=precision,
        stored=result.metadata.stored_precision.stored,
        computed=terms.computed,
        size_bytes=result.file_bytes,
        within_threshold=result.file_bytes <= request.threshold_bytes,
        fitted=bool(result.metadata.widths),
    )


def _measurement(result: "Verification", request: BuildRequest) -> Measurement:
    """What was measured on a model file."""
    agreement = result.agreement
    if agreement is None:
        raise ContractError(f"{result.file} must have been compared with PyTorch. Report this as a defect.")
    return Measurement(
        file=request.prefix + result.file,
        clauses=tuple(result.clauses),
        deviations=tuple(
            DeviationEntry(
                kind=item.kind,
                max_abs=rounded(item.max_abs),
                relative=rounded(item.relative),
                cosine=round(item.cosine, 4),
            )
            for item in result.deviations
        ),
        agreement=AgreementEntry(
            text=_measured_on(request) if result.on_text else "random ids",
            positions=agreement.positions,
            mean_kl_nats=rounded(agreement.mean_kl),
            top1=round(agreement.top1, 3),
            top1_or_tie=round(agreement.top1_or_tie, 3),
            perplexity_ratio=round(agreement.perplexity_ratio, 4),
        ),
    )


def _measured_on(request: BuildRequest) -> str:
    return "validation text" if request.validation is None else f"validation text {request.validation.name}"


def draw_report(
    weights: "Weights",
    selection: Selection,
    tokenizer: "Tokenizer | None",
    model: Path,
    built: Built,
    by_output: Mapping[str, Mapping[str, "Deviation"]],
) -> bytes:
    """The page of a release: what `model` returns for a prompt, and what the verifications say."""
    from model_release.browser.pages.render import render_report
    from model_release.browser.pages.sample import take_sample

    sample = take_sample(model, weights, selection, tokenizer)
    return render_report(built.document, built.figures, by_output, sample)
