"""What to see of a model, as it is asked for before the model is known."""

from dataclasses import dataclass

from model_release.base.errors import UsageError
from model_release.contract.activations import load_contract, parse_activations
from model_release.contract.selection import Logits, Selection, parse_layers, parse_ranges

DEFAULT_OPSET = 20
"""Loaded by onnxruntime since 1.17 (https://onnxruntime.ai/docs/reference/compatibility.html)."""


@dataclass(frozen=True, kw_only=True)
class SelectionRequest:
    """What to see of the model, as the command line says it."""

    layers: str | None = None
    all_layers: bool = False
    activations: str | None = None
    logits: Logits = "all"
    opset: int = DEFAULT_OPSET

    def __post_init__(self) -> None:
        if self.layers is not None and self.all_layers:
            raise UsageError("--layers and --all-layers exclude each other. Give one of them.")
        contract = load_contract()
        if not contract.min_opset <= self.opset <= contract.max_opset:
            raise UsageError(
                f"--opset must be from {contract.min_opset} to {contract.max_opset}, got {self.opset}. "
                f"The default is {DEFAULT_OPSET}."
            )
        parse_activations(self.activations)
        if self.layers is not None:
            parse_ranges(self.layers)  # Malformed text fails before anything is fetched.

    def resolve(self, layer_count: int) -> Selection:
        """The selection for a model of `layer_count` layers; by default the last one."""
        text = f"0-{layer_count - 1}" if self.all_layers else (self.layers if self.layers is not None else "-1")
        return Selection(
            layers=parse_layers(text, layer_count), activations=parse_activations(self.activations), logits=self.logits
        )
