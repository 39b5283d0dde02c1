"""Widths for a budget: how many weights a code of each parameter stands for, so that a file fits and loses least."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from model_release.contract.blueprint import Blueprint, Parameter
from model_release.contract.file_checks import stored_bytes
from model_release.contract.precision import Precision
from model_release.contract.storage import CODEBOOK_ENTRIES, Storage

LOSSES = {4: 2.45, 3: 1.0, 2: 0.168, 1: 0.004}
"""Loss by weights a code, in that of three; coarsest first.

A codebook's errors differ little from matrix to matrix, and a divergence grows with their square. Medians of the
embedded model and SmolLM2-135M: 90 % of the matrices are within 10 %; single weights, whose loss is next to nothing,
within a factor of three.
"""


@dataclass(frozen=True, kw_only=True)
class _Step:
    """What one parameter's next finer width costs, and what it saves a byte."""

    parameter: str
    weights: int
    size_bytes: int
    rate: float


def least_bytes(blueprint: Blueprint, precision: Precision) -> int:
    """The fewest bytes that stored tensors can take, with the codebooks of all widths."""
    names = [name for name, parameter in blueprint.parameters.items() if not parameter.is_vector]
    other_books = sum(weights for weights in LOSSES if 1 < weights < max(LOSSES)) * CODEBOOK_ENTRIES * 4
    return stored_bytes(blueprint, precision.fitted(dict.fromkeys(names, max(LOSSES)))) + other_books


def fit_widths(
    blueprint: Blueprint, precision: Precision, losses: Mapping[str, float], budget_bytes: int
) -> dict[str, int]:
    """Chooses widths by marginal gains: of all steps to a finer width, those that save most a byte come first.

    Losses of several parameters add up, as far as they are small.

    Args:
        blueprint: The model.
        precision: Whose blocks and scales parameters have, whatever their width.
        losses: Of every parameter that is no vector: what the model loses with it alone as `precision` stores it.
        budget_bytes: For stored tensors; at least `least_bytes`.

    Returns:
        Weights a code, by parameter, in the order of `losses`.
    """
    chosen = dict.fromkeys(losses, max(LOSSES))
    left_bytes = budget_bytes - least_bytes(blueprint, precision)
    steps = [
        step
        for name, loss in losses.items()
        for step in _steps(blueprint.parameters[name], precision.storage(blueprint.parameters[name]), loss)
    ]
    full = set()
    for step in sorted(steps, key=lambda step: (-step.rate, step.parameter, -step.weights)):
        if step.parameter in full:
            continue
        if step.size_bytes > left_bytes:
            full.add(step.parameter)
            continue
        left_bytes -= step.size_bytes
        chosen[step.parameter] = step.weights
    return chosen


def expected_loss(
    blueprint: Blueprint, precision: Precision, losses: Mapping[str, float], widths: Mapping[str, int]
) -> float:
    """The sum of what parameters lose at these widths; see `fit_widths`."""
    return sum(
        loss * LOSSES[widths[name]] / LOSSES[precision.storage(blueprint.parameters[name]).weights]
        for name, loss in losses.items()
    )


def _steps(parameter: Parameter, storage: Storage, loss: float) -> Iterator[_Step]:
    """Steps of one parameter, each worth no more than the one before it, so that none comes before it."""
    rate = math.inf
    for coarser, finer in pairwise(LOSSES):
        more_bytes = _size_bytes(parameter, storage, finer) - _size_bytes(parameter, storage, coarser)
        if more_bytes > 0:
            saved = loss * (LOSSES[coarser] - LOSSES[finer]) / LOSSES[storage.weights]
            rate = min(rate, saved / more_bytes)
        yield _Step(parameter=parameter.name, weights=finer, size_bytes=more_bytes, rate=rate)


def _size_bytes(parameter: Parameter, storage: Storage, weights: int) -> int:
    return replace(storage, weights=weights).size_bytes(*parameter.matrix, parameter.channels)
