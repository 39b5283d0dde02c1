"""What a release is, apart from how it is described: two machines that build one request agree on it.

Measured figures, verdicts of browsers, library versions and the page differ a little from machine to machine, and so do
the bytes of precisions that are calibrated on text; none of them makes another release.
"""

from collections.abc import Mapping

from model_release.contract.activations import load_contract
from model_release.contract.manifest import REPORT_NAME, Manifest, is_data_file


def identity(manifest: Manifest) -> dict[str, str]:
    """Everything that decides what a release is: what was asked, where it came from, and its reproducible bytes.

    Returns:
        Fact by name, in the order in which people want to hear of a difference.
    """
    model, selection, delivery = manifest.model, manifest.selection, manifest.delivery
    facts = {
        "tag": manifest.tag,
        "model": manifest.name,
        "source": model.source,
        "revision": model.revision,
        "sha256 of the weights": model.weights_sha256,
        "layers": ",".join(map(str, selection.layers)),
        "activations": ",".join(selection.activations),
        "logits": selection.logits,
        "opset": str(selection.opset),
        "precisions": ",".join(variant.precision for variant in manifest.variants),
        "delivery": delivery.asked,
        "the app's file": delivery.file,
        "size threshold": f"{delivery.threshold_bytes} bytes",
        "contract version": manifest.contract_version,
        "context": str(model.context or ""),
    }
    calibrated = _calibrated_files(manifest)
    for entry in manifest.files:
        if entry.name != manifest.asset_prefix + REPORT_NAME:
            facts[entry.name] = f"{entry.size_bytes} bytes" if entry.name in calibrated else f"sha256 {entry.sha256}"
    return facts


def first_difference(released: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """The first fact in which two identities differ, in words; empty if they are equal.

    >>> first_difference({"layers": "11", "opset": "20"}, {"layers": "5", "opset": "20"})
    'layers: 11 in the release, 5 here'
    """
    for name in dict.fromkeys([*wanted, *released]):
        there, here = released.get(name), wanted.get(name)
        if there != here:
            return f"{name[:80]}: {_short(there)} in the release, {_short(here)} here"
    return ""


def _calibrated_files(manifest: Manifest) -> set[str]:
    """The files whose bytes follow activations, which each machine rounds its own way."""
    precisions = load_contract().precisions
    models = {
        variant.file
        for variant in manifest.variants
        if variant.precision in precisions and precisions[variant.precision].calibrated
    }
    return {name for name in manifest.names for model in models if name == model or is_data_file(name, model)}


def _short(fact: str | None) -> str:
    return "none" if not fact else fact if len(fact) <= 80 else f"{fact[:77]}..."
