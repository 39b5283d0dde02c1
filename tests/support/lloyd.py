"""How the points of the codebooks were made, for the test that compares them."""

import numpy as np

_SAMPLES = 65_536
_ROUNDS = 30
_ENTRIES = 256
_REACH = 4.0


def normal_points(weights: int) -> np.ndarray:
    """256 points that stand for normally distributed weights with the least error (Lloyd's algorithm).

    The last ones stay where they are, on the axes: they are for blocks that are all outlier. So does, of four weights,
    the middle, for the rest of such blocks.
    """
    random = np.random.default_rng(0)
    samples = random.standard_normal((_SAMPLES, weights), dtype=np.float32)
    still = np.concatenate([np.eye(weights), -np.eye(weights)]).astype(np.float32) * np.float32(_REACH)
    if weights == 4:  # Of pairs and triples, some point comes to lie close enough to the middle by itself.
        still = np.concatenate([np.zeros((1, weights), dtype=np.float32), still])
    free = _ENTRIES - len(still)
    points = np.concatenate([samples[:free], still])
    for _ in range(_ROUNDS):
        nearest = _nearest_point(samples, points)
        counts = np.bincount(nearest, minlength=_ENTRIES)[:free, None]
        sums = np.stack([np.bincount(nearest, axis, _ENTRIES) for axis in samples.T], axis=1)[:free]
        points[:free] = np.where(counts > 0, sums / np.maximum(counts, 1), points[:free])
    return points


def _nearest_point(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The index of the point nearest to each of `values`, [n, weights]; element by element, not as a matrix product."""
    axes = points.astype(np.float64).T
    half_norms = sum(np.square(axis) for axis in axes) / 2
    nearest = np.empty(len(values), dtype=np.int64)
    for start in range(0, len(values), 512):
        part = slice(start, start + 512)
        products = sum(np.multiply.outer(column, axis) for column, axis in zip(values[part].T, axes, strict=True))
        nearest[part] = (half_norms - products).argmin(axis=1)
    return nearest
