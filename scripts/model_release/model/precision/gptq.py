"""GPTQ rounding: each rounding error is compensated in the weights not yet rounded.

Input by input, the error that rounding leaves in a product `x @ w` is spread over the inputs not yet
rounded, in proportion to how much they tell of this one on calibration text. This is GPTQ
(https://arxiv.org/abs/2210.17323, algorithm 1), with the inputs that weigh most first.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from model_release.contract.measures import Array
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.codebook import divisors

_DAMPING = 0.01  # Of the mean square of the inputs: keeps rarely used inputs from absorbing everything.
_PANEL_STEPS = 12  # Scales are chosen for so many at a time.
_GROUP_STEPS = 8 * _PANEL_STEPS  # Errors before are applied to so many at a time: products of a few rows are slow.
_FACTOR_ROWS = 128  # Of a Cholesky factor, computed at a time.
_LOOKUP_SHARE = 0.5  # Weight of a tied table's plain errors against those in the head's product.
_TABLE_ROWS = 8192  # Rows of a table are independent of each other; these are rounded at a time.

RoundInputs = Callable[[slice, Array], Array]
"""Places of inputs in a panel, and their weights [n, out], earlier errors compensated -> the weights as they are after
rounding, [n, out]."""


class Compensation:
    """Rounds matrices that are multiplied by the same inputs.

    Args:
        gram: [in, in], the inputs' mean products with each other.
        together: Inputs that are rounded in one step: consecutive ones, as many as a code stands for.
    """

    def __init__(self, gram: Array, together: int) -> None:
        self._gram, size = gram, len(gram)
        steps = [np.arange(start, min(start + together, size)) for start in range(0, size, together)]
        steps.sort(key=lambda step: -float(self._gram[step, step].sum()))  # Stable: equal weights keep their order.
        self._steps: Sequence[Array] = steps

    @cached_property
    def _shares(self) -> Array:
        """What inputs take over of the errors of those before them, [in, in], in the order of the steps; float32.

        GPTQ spreads errors by the Cholesky factor of the Gram matrix's inverse. With the Gram matrix as `R R^T`, R
        upper triangular, that factor is R's inverse; what it adds to the inputs B of a step is
        `R[before, B] R[B, B]^-1`, transposed, times the errors `weights - rounded` before. Nothing large is inverted.
        """
        turned = np.concatenate(self._steps)[::-1]
        gram = self._gram.take(turned, axis=0).take(turned, axis=1).astype(np.float64)
        mean_square = float(np.trace(gram)) / len(gram)
        gram.flat[:: len(gram) + 1] += _DAMPING * mean_square if mean_square > 0 else 1.0
        _factorize(gram)
        factor = gram[::-1, ::-1]  # R^T
        shares = np.zeros(factor.shape, dtype=np.float32)
        end = 0
        for step in self._steps:
            start, end = end, end + len(step)
            before, own = factor[start:end, :start], factor[start:end, start:end]
            shares[start:end, :start] = before / own if len(step) == 1 else np.linalg.solve(own, before)
        return shares

    def round(self, weights: Array, begin_panel: Callable[[Array, Array], RoundInputs]) -> None:
        """Rounds a matrix.

        Args:
            weights: [in, out], float32.
            begin_panel: Told the numbers of the inputs of the next steps, and their weights with the errors of all
                panels before compensated; returns how to round these inputs.
        """
        order, shares, count = np.concatenate(self._steps), self._shares, len(self._steps)
        weights = weights.take(order, axis=0)
        errors = np.empty_like(weights)
        bounds = np.cumsum([0, *map(len, self._steps)]).tolist()

        def places(first: int, steps: int) -> slice:
            return slice(bounds[first], bounds[min(first + steps, count)])

        def owed(to: slice, since: int) -> Array:
            """What inputs take over of the errors of those before them, from one on."""
            taken: Array = shares[to, since : to.start] @ errors[since : to.start]
            return taken

        for group_first in range(0, count, _GROUP_STEPS):
            group = places(group_first, _GROUP_STEPS)
            group_rows = weights[group] + owed(group, 0)
            for panel_first in range(group_first, min(group_first + _GROUP_STEPS, count), _PANEL_STEPS):
                panel = places(panel_first, _PANEL_STEPS)
                rows = group_rows[_within(group, panel)] + owed(panel, group.start)
                round_inputs = begin_panel(order[panel], rows)
                for number in range(panel_first, min(panel_first + _PANEL_STEPS, count)):
                    step = places(number, 1)
                    own = _within(panel, step)
                    rows[own] += owed(step, panel.start)
                    np.subtract(weights[step], round_inputs(own, rows[own]), out=errors[step])


def _within(whole: slice, part: slice) -> slice:
    """A part's places, counted from where the whole begins."""
    return slice(part.start - whole.start, part.stop - whole.start)


def _factorize(gram: Array) -> None:
    """Makes `U.T @ U` its Cholesky factor U, upper triangular, in place.

    A few rows at a time: numpy's own function moves a large matrix about for longer than it computes.
    """
    for start in range(0, len(gram), _FACTOR_ROWS):
        end = min(start + _FACTOR_ROWS, len(gram))
        own, after = slice(start, end), slice(end, None)
        gram[own, start:] -= gram[:start, own].T @ gram[:start, start:]
        lower = np.linalg.cholesky(gram[own, own])
        gram[own, own] = lower.T
        gram[own, after] = np.linalg.inv(lower) @ gram[own, after]
        gram[after, own] = 0


def encode_columns(values: Array, blocks: Blocks, gram: Array) -> tuple[Array, Array]:
    """Codes and scales of a matrix [in, out]; the scales of an input are chosen when its panel comes.

    Args:
        values: The matrix.
        blocks: Encodes its rows.
        gram: Of its inputs, [in, in].
    """
    codes = np.empty(blocks.shape, dtype=blocks.codes.dtype)
    scales = np.empty((len(values), blocks.count, 1), dtype=np.float16)

    def begin_panel(inputs: Array, rows: Array) -> RoundInputs:
        scales[inputs] = blocks.scales(rows)
        round_rows = blocks.rounding(scales[inputs])

        def round_inputs(places: slice, weights: Array) -> Array:
            codes[inputs[places]], rounded = round_rows(places, weights)
            return rounded

        return round_inputs

    Compensation(gram, together=1).round(values, begin_panel)
    return codes, scales


def encode_rows(values: Array, blocks: Blocks, gram: Array, *, looked_up: bool) -> tuple[Array, Array]:
    """Codes and scales of a matrix [out, in], or a table [rows, hidden] that is multiplied as a head.

    Args:
        values: The matrix.
        blocks: Encodes its rows; their scales are those of rounding each weight for itself.
        gram: Of its inputs, [in, in].
        looked_up: Whether rows are read as embeddings as well; what is compensated in a product is not
            compensated there, so then plain errors count too.
    """
    if looked_up:
        gram = gram + np.eye(len(gram), dtype=np.float32) * (_LOOKUP_SHARE * np.trace(gram) / len(gram))
    scales = blocks.scales(values)
    nothing = blocks.codes.nearest(np.zeros(blocks.together, dtype=np.float32))
    codes = np.full(blocks.shape, nothing, dtype=blocks.codes.dtype)
    compensation = Compensation(gram, together=blocks.together)
    for start in range(0, len(values), _TABLE_ROWS):
        rows = slice(start, start + _TABLE_ROWS)
        compensation.round(values[rows].T, _rounding_of_rows(blocks, scales[rows], codes[rows]))
    return codes, scales


def _rounding_of_rows(blocks: Blocks, scales: Array, codes: Array) -> Callable[[Array, Array], RoundInputs]:
    """What begins a panel of rows [out, in] whose scales [out, count, 1] are known; fills their codes."""
    by_block = np.ascontiguousarray(scales[:, :, 0].T)  # [count, out]
    factors, divided_by = by_block.astype(np.float32), divisors(by_block)

    def begin_panel(inputs: Array, _: Array) -> RoundInputs:
        def round_inputs(places: slice, weights: Array) -> Array:
            block, place = divmod(int(inputs[places.start]), blocks.size)
            padded = np.zeros((blocks.together, weights.shape[1]), dtype=np.float32)
            np.divide(weights, divided_by[block], out=padded[: len(weights)])
            code = blocks.codes.nearest(padded.T)  # [out, 1]
            codes[:, block, place // blocks.together] = code[:, 0]
            rounded: Array = np.ascontiguousarray(blocks.codes.values(code)[:, : len(weights)].T)
            rounded *= factors[block]
            return rounded

        return round_inputs

    return begin_panel
