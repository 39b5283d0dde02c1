"""What a release is, apart from how it is described: two machines that build one request agree on it.

Measured figures, verdicts of browsers, library versions and the page differ a little from machine to machine, and so do
the bytes of precisions that are calibrated on text; none of them makes another release.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model_release.contract.activations import load_contract
from model_release.contract.manifest import Manifest, SelectionEntry, is_data_file


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a release was asked for, and of which weights.

    Attributes:
        name: The model's folder in the web app.
        source: Of the weights; see `manifest.ModelEntry`, as for `revision` and `weights_sha256`.
        precisions: In the order of its files.
        delivery: `auto`, `git` or `release`.
        file: The app's model file.
        fit_bytes: See `manifest.Delivery`.
        context: The longest sequence that is promised, in tokens; None where an old release does not say.
    """

    tag: str
    name: str
    source: str
    revision: str
    weights_sha256: str
    selection: SelectionEntry
    precisions: Sequence[str]
    delivery: str
    file: str
    threshold_bytes: int
    contract_version: str
    context: int | None
    fit_bytes: int | None = None

    def facts(self) -> dict[str, str]:
        """Fact by name, in the order in which people want to hear of a difference."""
        return {
            "tag": self.tag,
            "model": self.name,
            "source": self.source,
            "revision": self.revision,
            "sha256 of the weights": self.weights_sha256,
            "layers": ",".join(map(str, self.selection.layers)),
            "activations": ",".join(self.selection.activations),
            "logits": self.selection.logits,
            "keys and values": "in and out" if self.selection.cache else "",
            "interventions": "in" if self.selection.interventions else "",
            "opset": str(self.selection.opset),
            "precisions": ",".join(self.precisions),
            "delivery": self.delivery,
            "the app's file": self.file,
            "size threshold": f"{self.threshold_bytes} bytes",
            "fitted to": f"{self.fit_bytes} bytes" if self.fit_bytes is not None else "",
            "contract version": self.contract_version,
            "context": str(self.context or ""),
        }


def asked_of(manifest: Manifest) -> Asked:
    """What the release of a manifest was asked for."""
    model, delivery = manifest.model, manifest.delivery
    return Asked(
        tag=manifest.tag,
        name=manifest.name,
        source=model.source,
        revision=model.revision,
        weights_sha256=model.weights_sha256,
        selection=manifest.selection,
        precisions=[variant.precision for variant in manifest.variants],
        delivery=delivery.asked,
        file=delivery.file,
        threshold_bytes=delivery.threshold_bytes,
        contract_version=manifest.contract_version,
        context=model.context,
        fit_bytes=delivery.fit_bytes,
    )


def identity(manifest: Manifest) -> dict[str, str]:
    """Everything that decides what a release is: what was asked, where it came from, and its reproducible bytes.

    Returns:
        Fact by name; see `Asked.facts`.
    """
    facts = asked_of(manifest).facts()
    calibrated, fitted = _calibrated_files(manifest), {each.file for each in manifest.variants if each.fitted}
    for entry in manifest.files:
        facts[entry.name] = f"{entry.size_bytes} bytes" if entry.name in calibrated else f"sha256 {entry.sha256}"
        if entry.name in fitted:
            facts[entry.name] = "fitted"
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
