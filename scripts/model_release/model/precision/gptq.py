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
_PANEL_STEPS = 12  # Errors are gathered over this many steps before they are applied to later steps, and scales chosen.
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
    def _shares(self) -> Array:
        """What inputs take over of the errors of those before them, [in, in], in the order of the steps; float32.

        GPTQ spreads errors by the Cholesky factor of the Gram matrix's inverse. With the Gram matrix as `R R^T`, R
        upper triangular, that factor is R's inverse; what it adds to the inputs B of a step is
        `R[before, B] R[B, B]^-1`, transposed, times the errors `weights - rounded` before. Nothing large is inverted.
        """
        order = np.concatenate(self._steps)
        turned = order[::-1]
        factor: Array = np.linalg.cholesky(self._gram[np.ix_(turned, turned)])[::-1, ::-1]
        shares = np.zeros(factor.shape, dtype=np.float32)
        end = 0
        for step in self._steps:
            start, end = end, end + len(step)
            above, own = factor[:start, start:end], factor[start:end, start:end]
            shares[:start, start:end] = above / own if len(step) == 1 else above @ np.linalg.inv(own)
        return shares

    def round(
        self,
        weights: Array,
        round_inputs: Callable[[Array, Array], Array],
        begin_panel: Callable[[Array, Array], None] | None = None,
    ) -> None:
        """Rounds a matrix.

        Args:
            weights: [in, out], float32.
            round_inputs: Numbers of inputs [n] and their weights [n, out], earlier errors compensated -> the
                weights as they are after rounding, [n, out].
            begin_panel: Told the numbers of the inputs of the next steps, and their weights with the errors of all
                panels before compensated.
        """
        weights, shares = weights[np.concatenate(self._steps)], self._shares
        rest, errors = weights.copy(), np.empty_like(weights)
        end = 0
        for first in range(0, len(self._steps), _PANEL_STEPS):
            panel, panel_start = self._steps[first : first + _PANEL_STEPS], end
            panel_end = panel_start + sum(map(len, panel))
            if begin_panel is not None:
                begin_panel(np.concatenate(panel), rest[panel_start:panel_end])
            for step in panel:
                start, end = end, end + len(step)
                here = rest[start:end] + shares[panel_start:start, start:end].T @ errors[panel_start:start]
                np.subtract(weights[start:end], round_inputs(step, here), out=errors[start:end])
            rest[end:] += shares[panel_start:end, end:].T @ errors[panel_start:end]


def encode_columns(values: Array, blocks: Blocks, gram: Array) -> tuple[Array, Array]:
    """Codes and scales of a matrix [in, out]; the scales of an input are chosen when its panel comes.

    Args:
        values: The matrix.
        blocks: Encodes its rows.
        gram: Of its inputs, [in, in].
    """
    codes = np.empty(blocks.shape, dtype=np.uint8)
    scales = np.empty((len(values), blocks.count, 1), dtype=np.float16)

    def choose_scales(inputs: Array, rows: Array) -> None:
        _, scales[inputs] = blocks.encode(rows)

    def round_inputs(step: Array, rows: Array) -> Array:
        codes[step] = blocks.nearest(rows, scales[step])
        return blocks.decode(codes[step], scales[step])

    Compensation(gram, together=1).round(values, round_inputs, choose_scales)
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
