"""GPTQ rounding: each rounding error is compensated in the weights not yet rounded.

Input by input, the error that rounding leaves in a product `x @ w` is spread over the inputs not yet
rounded, in proportion to how much they tell of this one on calibration text. This is GPTQ
(https://arxiv.org/abs/2210.17323, algorithm 1), with the inputs that weigh most first.
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from model_release.contract.output_checks import Array
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.codebook import divisors

_DAMPING = 0.01  # Of the mean square of the inputs: keeps rarely used inputs from absorbing everything.
_PANEL_STEPS = 48  # Errors are gathered over this many steps before they are applied to later steps.
_LOOKUP_SHARE = 0.5  # Weight of a tied table's plain errors against those in the head's product.
_TABLE_ROWS = 8192  # Rows of a table are independent of each other; these are rounded at a time.


class Compensation:
    """Rounds matrices that are multiplied by the same inputs.

    Args:
        gram: [in, in], the inputs' mean products with each other.
        together: Inputs that are rounded in one step: consecutive ones, as many as a code stands for.
    """

    def __init__(self, gram: Array, together: int) -> None:
        size = len(gram)
        gram = gram.astype(np.float64)
        mean_square = float(np.trace(gram)) / size
        self._gram = gram + np.eye(size) * (_DAMPING * mean_square if mean_square > 0 else 1.0)
        steps = [np.arange(start, min(start + together, size)) for start in range(0, size, together)]
        steps.sort(key=lambda step: -float(self._gram[step, step].sum()))  # Stable: equal weights keep their order.
        self._steps: Sequence[Array] = steps

    @cached_property
    def _factor(self) -> Array:
        """Upper Cholesky factor of the inverse, in the order of the steps."""
        order = np.concatenate(self._steps)
        inverse = np.linalg.inv(self._gram[np.ix_(order, order)])
        factor: Array = np.linalg.cholesky((inverse + inverse.T) / 2).T
        return factor

    def round(self, weights: Array, round_inputs: Callable[[Array, Array], Array]) -> None:
        """Rounds a matrix.

        Args:
            weights: [in, out], float32.
            round_inputs: Numbers of inputs [n] and their weights [n, out], earlier errors compensated -> the
                weights as they are after rounding, [n, out].
        """
        rest, factor = weights[np.concatenate(self._steps)], self._factor.astype(np.float32)
        errors = np.empty_like(rest)
        end = 0
        for first in range(0, len(self._steps), _PANEL_STEPS):
            panel, panel_start = self._steps[first : first + _PANEL_STEPS], end
            panel_end = panel_start + sum(map(len, panel))
            for step in panel:
                start, end = end, end + len(step)
                lost = rest[start:end] - round_inputs(step, rest[start:end])
                errors[start:end] = np.linalg.solve(factor[start:end, start:end].T, lost)
                rest[end:panel_end] -= factor[start:end, end:panel_end].T @ errors[start:end]
            rest[end:] -= factor[panel_start:end, end:].T @ errors[panel_start:end]


def encode_columns(values: Array, blocks: Blocks, gram: Array) -> tuple[Array, Array]:
    """Codes and scales of a matrix [in, out]; the scales of an input are chosen when its turn comes.

    Args:
        values: The matrix.
        blocks: Encodes its rows.
        gram: Of its inputs, [in, in].
    """
    codes = np.empty(blocks.shape, dtype=np.uint8)
    scales = np.empty((len(values), blocks.count, 1), dtype=np.float16)

    def round_inputs(step: Array, rows: Array) -> Array:
        codes[step], scales[step] = blocks.encode(rows)
        return blocks.decode(codes[step], scales[step])

    Compensation(gram, together=1).round(values, round_inputs)
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
    codes, scales = blocks.encode(values)
    compensation = Compensation(gram, together=blocks.together)
    for start in range(0, len(values), _TABLE_ROWS):
        rows = slice(start, start + _TABLE_ROWS)

        def round_inputs(step: Array, weights: Array, rows: slice = rows) -> Array:
            block, place = divmod(int(step[0]), blocks.size)
            padded = np.zeros((weights.shape[1], blocks.together), dtype=np.float32)
            padded[:, : len(step)] = weights.T
            scale = scales[rows, block]
            code = blocks.codes.nearest(padded / divisors(scale))  # [rows, 1]
            codes[rows, block, place // blocks.together] = code[:, 0]
            rounded: Array = (blocks.codes.values(code) * scale.astype(np.float32))[:, : len(step)].T
            return rounded

        compensation.round(np.ascontiguousarray(values[rows].T), round_inputs)
    return codes, scales
