"""A precision of the contract: what it stores, and how far its numbers may be from PyTorch's."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from model_release.contract.blueprint import Blueprint, Parameter
from model_release.contract.storage import Storage

FULL_PRECISION = "fp32"
"""The precision of `model.onnx`, from which the others are made."""


def model_file_name(precision: str) -> str:
    """The file name of a precision.

    >>> model_file_name("fp32"), model_file_name("int8-dynamic")
    ('model.onnx', 'model_int8_dynamic.onnx')
    """
    return "model.onnx" if precision == FULL_PRECISION else f"model_{precision.replace('-', '_')}.onnx"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """|got - expected| <= atol + rtol x the largest |expected| of the row; see `comparison_checks.check_reference`."""

    atol: float
    rtol: float


@dataclass(frozen=True, kw_only=True)
class Precision:
    """What a precision stores, and how far its numbers may be from PyTorch's.

    Attributes:
        table: How the token and position tables and an untied head are stored.
        matrix: How the matrices of the layers are stored.
        experts: How experts are, where it is otherwise.
        vector_bits: Bits an element of a bias or a norm.
        max_mean_kl: Largest mean KL divergence of the next-token distribution, in nats.
        min_top1_agreement: Smallest share of positions with PyTorch's most likely next token.
        max_perplexity_ratio: Largest perplexity on text, in PyTorch's.
        max_relative_error: Largest root mean square error of any output, in PyTorch's root mean square.
        max_far_share: Share of an output's elements that may be further from PyTorch's than `tolerances`. Products of
            integers have steps as large as a token's largest number asks for, and weights of few bits are coarse; where
            a model doubts whether to make a number huge, or a head which token to attend to, a small error decides.
        calibrated: Whether its bytes follow activations on text, which differ a little from machine to machine.
        domains: Of operators besides the standard ones.
        advice: Where it is best and where it is not; empty where that is plain.
        misread_by: Backends of the browser gate that are known to return other numbers, and no error.
        gated_rtol: Relative tolerance where MLPs have gates, if it is larger. The product of gate and up projection
            makes some numbers thousands of times as large as the others of a token, and float32's error with them: two
            runtimes differ by 2e-4 of such rows (SmolLM2-135M).
        widths: Weights that a code stands for, by parameter, where a file was fitted to a budget; blocks and scales
            stay as they are.
    """

    name: str
    stored: str
    computed: str
    table: Storage
    matrix: Storage
    vector_bits: int
    tolerances: Mapping[str, Tolerance]
    max_mean_kl: float
    min_top1_agreement: float
    max_perplexity_ratio: float
    max_relative_error: float
    max_far_share: float = 0.0
    calibrated: bool = False
    experts: Storage | None = None
    domains: tuple[str, ...] = ()
    advice: str = ""
    misread_by: tuple[str, ...] = ()
    gated_rtol: float = 0.0
    widths: Mapping[str, int] = field(default_factory=dict)

    def in_model(self, blueprint: Blueprint) -> Self:
        """The precision with the tolerances that a model's kinds of layers ask for."""
        if not any(kind.is_gated for kind in blueprint.kinds.values()):
            return self
        tolerances = {
            kind: replace(limits, rtol=max(limits.rtol, self.gated_rtol)) for kind, limits in self.tolerances.items()
        }
        return replace(self, tolerances=tolerances)

    def fitted(self, widths: Mapping[str, int]) -> Self:
        """The precision as it is in a file that was fitted to a budget; with no widths, as it is."""
        if not widths:
            return self
        low, high = min(widths.values()), max(widths.values())
        stored = f"fitted to a size: bytes that stand for {low} to {high} weights, in blocks of {self.matrix.block}"
        return replace(self, widths=widths, stored=stored)

    def storage(self, parameter: Parameter) -> Storage:
        """How a parameter that is no vector is stored."""
        storage = self.table if parameter.is_table else self.matrix
        if self.experts is not None and parameter.is_of_experts:
            storage = self.experts
        return replace(storage, weights=self.widths.get(parameter.name, storage.weights))

    def tolerance(self, kind: str) -> Tolerance:
        """The tolerance for one kind of output."""
        return self.tolerances.get(kind, self.tolerances["default"])
