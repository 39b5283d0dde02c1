"""Codes: the numbers a byte can stand for, and the nearest of them.

int8 codes are the whole numbers. Narrower ones index a codebook whose entries are pairs, triples or fours of
weights: 256 points placed together lie closer to what they stand for than the product of 16 or 6 levels
for each weight alone. The points are those of a normal distribution, which the weights of a block,
divided by their scale, come close to; so one codebook serves every matrix of every model. A few points far
out on the axes are for blocks that are all outlier: one weight many times larger than the rest.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import DTypeLike

from model_release.contract.measures import Array
from model_release.contract.storage import Storage

_INT8_MAX = 127
_REACH = 4.0  # Standard deviations that points and the search grids cover; beyond, the edge is the nearest.
_CELLS = {2: 512, 3: 96, 4: 44}  # A dimension, by weights a code: a few million cells at most in all.
_COARSE_CELLS = {2: 256, 3: 64, 4: 20}  # To compare scales by.
_TILE_CELLS = {2: 16, 3: 8, 4: 4}  # A dimension of the tiles whose cells are searched together.
_TINY = 1e-30
_FLOAT16_END = 65520.0  # What is smaller is rounded to a finite number.
_TOGETHER = 1 << 17  # Weights whose candidates are compared in one step, if there are few.


class Codes(Protocol):
    """What the codes of a `Storage` stand for."""

    dtype: ClassVar[DTypeLike]

    def nearest(self, values: Array) -> Array:
        """[..., n] values divided by their scale -> codes [..., n / weights]."""

    def values(self, codes: Array) -> Array:
        """The inverse: codes -> values, float32."""

    def encode(self, blocks: Array) -> tuple[Array, Array]:
        """Blocks [n, size] -> codes [n, size / weights] and scales [n], float16; see `scales`."""

    def scales(self, blocks: Array) -> Array:
        """The best scales, of a few, of blocks [n, size]: [n], float16.

        Everything is computed element by element, and added up in one order: they are the same on every machine.

        Raises:
            OverflowError: A block is too large for a float16 scale.
        """


class Nibbles:
    """Whole numbers from -8 to 7, stored as 0 to 15; the scale may be negative, so that the largest value can be -8."""

    dtype: ClassVar[DTypeLike] = np.uint8
    _SHARES = np.linspace(0.8, 1.1, 7, dtype=np.float32)

    def nearest(self, values: Array) -> Array:
        """See `Codes`."""
        codes: Array = (np.clip(np.rint(values), -8, 7) + 8).astype(np.uint8)
        return codes

    def values(self, codes: Array) -> Array:
        """See `Codes`."""
        return codes.astype(np.float32) - np.float32(8)

    def encode(self, blocks: Array) -> tuple[Array, Array]:
        """See `Codes`."""
        scales = self.scales(blocks)
        return self.nearest(blocks / divisors(scales)[:, None]), scales

    def scales(self, blocks: Array) -> Array:
        """See `Codes`. Like that of Codebook, the best scale is then fitted to its codes."""
        high, low = blocks.max(axis=-1), blocks.min(axis=-1)
        extreme = np.where(-low > high, low, high) / np.float32(-8)
        if not (np.abs(extreme) * self._SHARES.max() < _FLOAT16_END).all():
            raise OverflowError
        scales = np.multiply.outer(self._SHARES, extreme).astype(np.float16)
        best = _least(scales, _rounding_losses(blocks, scales, -8, 7))
        levels = self.values(self.nearest(blocks / divisors(best)[:, None]))
        fitted = (levels * blocks).sum(axis=-1) / np.maximum(np.square(levels).sum(axis=-1), np.float32(_TINY))
        fitted = np.where(np.abs(fitted) < _FLOAT16_END, fitted, best).astype(np.float16)
        both = np.stack([best, fitted])
        return _least(both, _rounding_losses(blocks, both, -8, 7))


class Integers:
    """Whole numbers from -127 to 127; the scale follows a block's largest value."""

    dtype: ClassVar[DTypeLike] = np.int8
    _SHARES = np.linspace(0.94, 1.0, 4, dtype=np.float32)  # Clipping a little may cost less than coarser steps.

    def nearest(self, values: Array) -> Array:
        """See `Codes`."""
        codes: Array = np.clip(np.rint(values), -_INT8_MAX, _INT8_MAX).astype(np.int8)
        return codes

    def values(self, codes: Array) -> Array:
        """See `Codes`."""
        return codes.astype(np.float32)

    def encode(self, blocks: Array) -> tuple[Array, Array]:
        """See `Codes`. What a scale clips off a block's largest value may be more than the full scale loses of all."""
        work = np.abs(blocks)
        largest = work.max(axis=-1)
        *clipping, full = scales = _halved(np.multiply.outer(self._SHARES, largest / np.float32(_INT8_MAX)))
        codes = _whole_numbers(blocks, full, -_INT8_MAX, _INT8_MAX, work).astype(np.int8)
        losses = np.full(scales.shape, np.inf, dtype=np.float32)
        losses[-1] = _loss(work, full, blocks)
        for candidate, loss in zip(clipping, losses, strict=False):
            clipped = np.square(largest - candidate.astype(np.float32) * _INT8_MAX)
            left = np.flatnonzero(clipped <= losses[-1] * np.float32(1.001))  # Somewhat more than float32 is off.
            loss[left] = _rounding_losses(blocks[left], candidate[None, left], -_INT8_MAX, _INT8_MAX)[0]
        best = _least(scales, losses)
        changed = np.flatnonzero(best != full)
        codes[changed] = self.nearest(blocks[changed] / divisors(best[changed])[:, None])
        return codes, best

    def scales(self, blocks: Array) -> Array:
        """See `Codes`."""
        return self.encode(blocks)[1]


@dataclass(frozen=True, eq=False)
class Codebook:
    """256 points of a few weights each; the scale follows a block's root mean square, or its outlier.

    Attributes:
        points: [256, weights], float32.
        grid: The nearest point of each cell of a cube around the origin, [cells ** weights], uint8.
        coarse: The point nearest to each of larger cells, in cells, [cells ** weights, weights]; the first axis
            changes fastest.
    """

    points: Array
    grid: Array
    coarse: Array

    dtype: ClassVar[DTypeLike] = np.uint8
    _FACTORS = np.linspace(0.7, 1.3, 5, dtype=np.float32)

    def nearest(self, values: Array) -> Array:
        """See `Codes`. Off by less than a cell, where two points are equally near."""
        weights = self.points.shape[1]
        return self._nearest(values.reshape(*values.shape[:-1], -1, weights))

    def values(self, codes: Array) -> Array:
        """See `Codes`."""
        values: Array = self.points.take(codes, axis=0, mode="clip").reshape(*codes.shape[:-1], -1)
        return values

    def encode(self, blocks: Array) -> tuple[Array, Array]:
        """See `Codes`."""
        values = self._by_code(blocks)
        scales = self._best(values)
        codes = self._nearest(values / _each(divisors(scales), self.points.shape[1]))
        return np.ascontiguousarray(codes.T), scales

    def scales(self, blocks: Array) -> Array:
        """See `Codes`. Candidates are compared on the coarse grid; the best one is then fitted to its codes.

        The last candidate stays as it is: it meets an outlier exactly.
        """
        return self._best(self._by_code(blocks))

    def _by_code(self, blocks: Array) -> Array:
        """Blocks [n, size] as [codes of a block, n, weights]: a code of each beside the next one's, for long rows."""
        weights = self.points.shape[1]
        points = blocks.view(_point(weights))
        values: Array = np.ascontiguousarray(points.T).view(np.float32).reshape(-1, len(blocks), weights)
        return values

    def _best(self, values: Array) -> Array:
        """`scales` of values [codes of a block, n, weights]."""
        scales = self._candidates(values)
        best = _least(scales, self._errors(values, scales))
        codes = self._nearest(values / _each(divisors(best), values.shape[-1]))
        fitted: Array = np.where(best == scales[-1], best, self._fitted(values, codes, best))
        return fitted

    def _candidates(self, values: Array) -> Array:
        """Scales worth trying for values [codes of a block, n, weights]: [candidates, n], float16."""
        with np.errstate(over="ignore"):  # What is infinite then is too large anyway.
            squares = _sum_last(np.square(values).sum(axis=0))
        rms = np.sqrt(squares / np.float32(values.shape[0] * values.shape[2]))
        largest = np.maximum(values.max(axis=0), -values.min(axis=0)).max(axis=-1) / np.float32(_REACH)
        return _halved(np.concatenate([np.multiply.outer(self._FACTORS, rms), largest[None]]))

    def _nearest(self, values: Array) -> Array:
        """[..., weights] values divided by their scale -> codes [...]."""
        cells = _CELLS[values.shape[-1]]
        places = values + np.float32(_REACH)
        places *= np.float32(cells / (2 * _REACH))
        np.clip(places, 0, cells - 1, out=places)
        numbers = _cell_numbers(places.astype(np.int32)[..., ::-1], cells)  # The grid's last axis changes fastest.
        codes: Array = self.grid.take(numbers, mode="clip")
        return codes

    def _errors(self, values: Array, scales: Array) -> Array:
        """How much candidates [candidates, n] lose of values [codes of a block, n, weights]: [candidates, n]."""
        count, blocks, weights = values.shape
        cells = _COARSE_CELLS[weights]
        row = values.reshape(count, 1, blocks * weights)
        cells_each = np.float32(cells / (2 * _REACH))  # In a standard deviation.
        factors = np.repeat(cells_each / divisors(scales), weights, axis=1)
        step = len(scales) if values.size * len(scales) <= _TOGETHER else 1
        shape = (count, step, blocks * weights)
        # Memory that is asked for anew at each step would take longer to get than to fill.
        places, near, whole = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint8)
        point = _point(weights)
        errors = np.empty((len(scales), blocks * weights), np.float32)
        for first in range(0, len(scales), step):
            np.multiply(row, factors[first : first + step], out=places)
            places += np.float32(cells / 2)
            np.clip(places, 0, cells - 1, out=near)
            np.copyto(whole, near, casting="unsafe")
            numbers = _cell_numbers(whole.reshape(count, step, blocks, weights), cells)
            self.coarse.view(point)[:, 0].take(numbers, mode="clip", out=near.view(point))
            near -= places
            near *= near
            near.sum(axis=0, out=errors[first : first + step])
        lost: Array = _sum_last(errors.reshape(-1, blocks, weights)) * np.square(scales.astype(np.float32))
        return lost

    def _fitted(self, values: Array, codes: Array, scales: Array) -> Array:
        """The scales by which codes come closest to values; those that were, where there is none."""
        points = self.points.take(codes, axis=0, mode="clip")
        numerator, denominator = (_sum_last((points * other).sum(axis=0)) for other in (values, points))
        with np.errstate(over="ignore"):
            fitted = (numerator / np.maximum(denominator, np.float32(_TINY))).astype(np.float16)
        return np.where(np.isfinite(fitted) & (fitted > 0) & (scales > 0), fitted, scales)


def _point(weights: int) -> np.dtype[np.void]:
    """The weights of one code, as one thing to move."""
    return np.dtype((np.void, 4 * weights))


def _each(values: Array, weights: int) -> Array:
    """Values [n] as [n, weights]: rows that are written out are divided by faster than rows of one."""
    return np.repeat(values, weights).reshape(-1, weights)


def _sum_last(values: Array) -> Array:
    """The sum over a last axis of two or three."""
    total: Array = values[..., 0] + values[..., 1]
    for axis in range(2, values.shape[-1]):
        total += values[..., axis]
    return total


def _rounding_losses(blocks: Array, scales: Array, low: int, high: int) -> Array:
    """How much scales [candidates, n] lose of blocks [n, size] in whole numbers from low to high: [candidates, n]."""
    work, losses = np.empty_like(blocks), np.empty(scales.shape, dtype=np.float32)
    for candidate, loss in zip(scales, losses, strict=True):
        loss[:] = _loss(_whole_numbers(blocks, candidate, low, high, work), candidate, blocks)
    return losses


def _loss(numbers: Array, scales: Array, blocks: Array) -> Array:
    """How much whole numbers under scales [n] lose of blocks [n, size]: [n]. Overwrites the numbers."""
    numbers *= scales.astype(np.float32)[:, None]
    numbers -= blocks
    np.square(numbers, out=numbers)
    lost: Array = numbers.sum(axis=-1)
    return lost


def _whole_numbers(blocks: Array, scales: Array, low: int, high: int, out: Array) -> Array:
    """Blocks [n, size], divided by their scales, as the nearest whole numbers from low to high: float32, in `out`."""
    np.divide(blocks, divisors(scales)[:, None], out=out)
    np.rint(out, out=out)
    np.clip(out, low, high, out=out)
    return out


def _halved(scales: Array) -> Array:
    """Scales as float16.

    Raises:
        OverflowError: One is too large.
    """
    if not (scales < _FLOAT16_END).all():
        raise OverflowError
    halved: Array = scales.astype(np.float16)
    return halved


def _least(scales: Array, errors: Array) -> Array:
    """Of candidates [candidates, n], those of least error; of equal ones the first: [n]."""
    best: Array = np.take_along_axis(scales, errors.argmin(axis=0)[None], axis=0)[0]
    return best


def divisors(scales: Array) -> Array:
    """Scales to divide by: a block of zeros has scale 0, and its weights are 0 whatever they are divided by."""
    divisor: Array = np.where(scales == 0, np.float32(1), scales.astype(np.float32))
    return divisor


def codes_of(storage: Storage) -> Codes:
    """The codes of a storage."""
    if storage.is_packed:
        return Nibbles()
    return _normal_codebook(storage.weights) if storage.is_codebook else Integers()


@cache
def _normal_codebook(weights: int) -> Codebook:
    """The points that stand for normally distributed weights with the least error.

    They took seconds to find, so they are stored beside this module.
    """
    points: Array = np.load(Path(__file__).with_name(f"codebook_{weights}.npy"), allow_pickle=False)
    cells, coarse_cells = _CELLS[weights], _COARSE_CELLS[weights]
    grid = _nearest_points(points, cells)
    middles = (2 * np.arange(coarse_cells) + 1) * cells // (2 * coarse_cells)
    coarse = points[grid.reshape((cells,) * weights)[np.ix_(*[middles] * weights)].T.ravel()] + np.float32(_REACH)
    return Codebook(points=points, grid=grid, coarse=coarse * np.float32(coarse_cells / (2 * _REACH)))


def _cell_numbers(places: Array, cells: int) -> Array:
    """Places [..., weights], whole numbers -> numbers of cells [...], the first axis changing fastest."""
    weights = places.shape[-1]
    if weights == 2 and cells == 256:
        return places.view("<u2")[..., 0]
    numbers: Array = places[..., weights - 1].astype(np.int32)
    for axis in reversed(range(weights - 1)):
        numbers *= cells
        numbers += places[..., axis]
    return numbers


def _nearest_points(points: Array, cells: int) -> Array:
    """The point nearest to the middle of each cell of a cube around the origin, [cells ** weights], uint8.

    Tile by tile, among the points that can be nearest to anything in it. Element by element in float64: a matrix
    product adds in another order on each kind of processor, and the codebook must be one everywhere.
    """
    weights = points.shape[1]
    tile_cells = _TILE_CELLS[weights]
    middles = ((np.arange(cells, dtype=np.float32) + 0.5) * (2 * _REACH / cells) - _REACH).astype(np.float32)
    axes = points.astype(np.float64).T
    half_norms = sum(np.square(axis) for axis in axes) / 2
    nearest = np.empty((cells,) * weights, dtype=np.uint8)
    reach = np.sqrt(weights) * tile_cells * _REACH / cells  # From a tile's middle to its corners.
    for tile in product(range(0, cells, tile_cells), repeat=weights):
        parts = [slice(start, start + tile_cells) for start in tile]
        cube = np.meshgrid(*(middles[part] for part in parts), indexing="ij")
        distances = np.sqrt(sum(np.square(axis - column.mean()) for axis, column in zip(axes, cube, strict=True)))
        near = np.flatnonzero(distances <= distances.min() + 2 * reach * 1.001)
        products = sum(np.multiply.outer(column, axis[near]) for column, axis in zip(cube, axes, strict=True))
        nearest[tuple(parts)] = near[(half_norms[near] - products).argmin(axis=-1)]
    return nearest.ravel()
