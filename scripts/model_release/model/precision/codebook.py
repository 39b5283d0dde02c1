"""Codes: the numbers a byte can stand for, and the nearest of them.

int8 codes are the whole numbers. Narrower ones index a codebook whose entries are pairs or triples of
weights: 256 points placed together lie closer to what they stand for than the product of 16 or 6 levels
for each weight alone. The points are those of a normal distribution, which the weights of a block,
divided by their scale, come close to; so one codebook serves every matrix of every model. A few points far
out on the axes are for blocks that are all outlier: one weight many times larger than the rest.
"""

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

from model_release.contract.output_checks import Array
from model_release.contract.storage import CODEBOOK_ENTRIES, Storage

_INT8_MAX = 127
_SAMPLES = 65_536
_ROUNDS = 30
_REACH = 4.0  # Standard deviations that points and the search grid cover; beyond, the edge is the nearest.
_CELLS = {2: 512, 3: 96}  # A dimension, by weights a code: some hundred thousand cells in all.


class Codes(Protocol):
    """What the codes of a `Storage` stand for."""

    def nearest(self, values: Array) -> Array:
        """[..., n] values divided by their scale -> codes [..., n / weights]."""

    def values(self, codes: Array) -> Array:
        """The inverse: codes -> values, float32."""

    def scales(self, blocks: Array) -> Array:
        """Scales worth trying for blocks [..., size]: [candidates, ..., 1]."""


class Integers:
    """Whole numbers from -127 to 127; the scale follows a block's largest value."""

    _SHARES = np.linspace(0.94, 1.0, 4, dtype=np.float32)  # Clipping a little may cost less than coarser steps.

    def nearest(self, values: Array) -> Array:
        """See `Codes`."""
        codes: Array = np.clip(np.rint(values), -_INT8_MAX, _INT8_MAX).astype(np.int8)
        return codes

    def values(self, codes: Array) -> Array:
        """See `Codes`."""
        return codes.astype(np.float32)

    def scales(self, blocks: Array) -> Array:
        """See `Codes`."""
        largest = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(_INT8_MAX)
        scales: Array = np.multiply.outer(self._SHARES, largest)
        return scales


@dataclass(frozen=True, eq=False)
class Codebook:
    """256 points of a few weights each; the scale follows a block's root mean square, or its outlier.

    Attributes:
        points: [256, weights], float32.
        grid: The nearest point of each cell of a cube around the origin, [cells ** weights], uint8.
    """

    points: Array
    grid: Array

    _FACTORS = np.linspace(0.7, 1.3, 7, dtype=np.float32)

    def nearest(self, values: Array) -> Array:
        """See `Codes`. Off by less than a cell, where two points are equally near."""
        weights = self.points.shape[1]
        cells = _CELLS[weights]
        places = np.clip((values + np.float32(_REACH)) * np.float32(cells / (2 * _REACH)), 0, cells - 1)
        places = places.astype(np.int32).reshape(*values.shape[:-1], -1, weights)
        flat = places[..., 0]
        for axis in range(1, weights):
            flat = flat * cells + places[..., axis]
        codes: Array = self.grid[flat]
        return codes

    def values(self, codes: Array) -> Array:
        """See `Codes`."""
        values: Array = self.points[codes].reshape(*codes.shape[:-1], -1)
        return values

    def scales(self, blocks: Array) -> Array:
        """See `Codes`."""
        rms = np.sqrt(np.square(blocks).mean(axis=-1, keepdims=True))
        largest = np.abs(blocks).max(axis=-1, keepdims=True)
        scales: Array = np.concatenate([np.multiply.outer(self._FACTORS, rms), largest[None] / np.float32(_REACH)])
        return scales


def codes_of(storage: Storage) -> Codes:
    """The codes of a storage."""
    return _normal_codebook(storage.weights) if storage.is_codebook else Integers()


@cache
def _normal_codebook(weights: int) -> Codebook:
    """The points that stand for normally distributed weights with the least error (Lloyd's algorithm).

    The last ones stay where they are, on the axes.
    """
    random = np.random.default_rng(0)
    samples = random.standard_normal((_SAMPLES, weights), dtype=np.float32)
    axes = np.concatenate([np.eye(weights), -np.eye(weights)]).astype(np.float32) * np.float32(_REACH)
    free = CODEBOOK_ENTRIES - len(axes)
    points = np.concatenate([samples[:free], axes])
    for _ in range(_ROUNDS):
        nearest = _nearest_point(samples, points)
        counts = np.bincount(nearest, minlength=CODEBOOK_ENTRIES)[:free, None]
        sums = np.stack([np.bincount(nearest, axis, CODEBOOK_ENTRIES) for axis in samples.T], axis=1)[:free]
        points[:free] = np.where(counts > 0, sums / np.maximum(counts, 1), points[:free])
    cells = _CELLS[weights]
    middles = ((np.arange(cells, dtype=np.float32) + 0.5) * (2 * _REACH / cells) - _REACH).astype(np.float32)
    cube = np.stack(np.meshgrid(*[middles] * weights, indexing="ij"), axis=-1).reshape(-1, weights)
    return Codebook(points=points, grid=_nearest_point(cube, points).astype(np.uint8))


def _nearest_point(values: Array, points: Array) -> Array:
    """The index of the point nearest to each of `values`, [n, weights].

    Element by element in float64: a matrix product adds in another order on each kind of processor, and the codebook
    must be one everywhere.
    """
    axes = points.astype(np.float64).T
    half_norms = sum(np.square(axis) for axis in axes) / 2
    nearest = np.empty(len(values), dtype=np.int64)
    for start in range(0, len(values), 512):
        part = slice(start, start + 512)
        products = sum(np.multiply.outer(column, axis) for column, axis in zip(values[part].T, axes, strict=True))
        nearest[part] = (half_norms - products).argmin(axis=1)
    return nearest
