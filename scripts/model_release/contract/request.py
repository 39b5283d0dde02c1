"""What to see of a model, and how large it may be, as it is asked for before the model is known."""

from collections.abc import Collection
from dataclasses import dataclass

from model_release.base.errors import UsageError
from model_release.contract.activations import load_contract, parse_activations
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Logits, Selection, parse_layers, parse_ranges

DEFAULT_OPSET = 20
"""Loaded by onnxruntime since 1.17 (https://onnxruntime.ai/docs/reference/compatibility.html)."""

FITTED = "small"
"""The precision whose widths may follow a budget."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How large a file may be.

    Attributes:
        size_bytes: Of the whole file.
        is_asked: Whether it was asked for by name: then the file takes all the room there is, and nothing larger is
            made. Otherwise a file stays as its precision has it, where it fits or cannot be made to.
    """

    size_bytes: int
    is_asked: bool


def asked_budget(fit: float | None, precisions: Collection[str]) -> Budget | None:
    """What `--fit` asks for, in MB; None where it is not given.

    Raises:
        UsageError: It is no size, or no precision is there that could be fitted.
    """
    if fit is None:
        return None
    if not 0 <= fit <= 1e9:
        raise UsageError(f"--fit must be a size in MB, got {fit:g}. The small of GPT-2 takes 50.")
    if FITTED not in precisions:
        got = ", ".join(precisions)
        raise UsageError(f"--fit is for the precision {FITTED}, got {got[:80]}. Add {FITTED} to --precision.")
    return Budget(size_bytes=round(fit * 1e6), is_asked=True)


@dataclass(frozen=True, kw_only=True)
class SelectionRequest:
    """What to see of the model, as the command line says it."""

    layers: str | None = None
    all_layers: bool = False
    activations: str | None = None
    logits: Logits = "all"
    cache: bool = False
    interventions: bool = False
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

    def layers_of(self, count: int) -> tuple[int, ...]:
        """The layers that are seen of a model with so many; by default its last.

        Raises:
            UsageError: One is out of range.
        """
        text = f"0-{count - 1}" if self.all_layers else (self.layers if self.layers is not None else "-1")
        return parse_layers(text, count)

    def resolve(self, blueprint: Blueprint) -> Selection:
        """The selection for a model; by default its last layer. `all` and `default` mean what the model has of them.

        Raises:
            UsageError: A layer is out of range, or a kind was named that the model has not in these layers.
        """
        layers = self.layers_of(blueprint.layers)
        contract = load_contract()
        named = {part.strip() for part in (self.activations or "").split(",")}
        kept = []
        for kind in parse_activations(self.activations):
            row = contract.kind(kind)
            if any(blueprint.has(kind, layer) for layer in (layers if row.layered else (None,))):
                kept.append(kind)
            elif kind in named:
                raise UsageError(
                    f"activations must be kinds that the model has, its layers {','.join(map(str, layers))} have no "
                    f"{kind}: there is one {row.exists}. Leave it out."
                )
        return Selection(
            layers=layers,
            activations=tuple(kept),
            logits=self.logits,
            cache=self.cache,
            interventions=self.interventions,
        )
