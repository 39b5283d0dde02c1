"""What each head writes into the residual stream, and how much of it speaks for a next token."""

from collections.abc import Mapping, Sequence

import numpy as np

from model_release.contract.blueprint import Blueprint
from model_release.contract.measures import Array
from model_release.contract.tensor_names import tensor_name
from model_release.model.weights.folder import Weights

_FITS = 0.02
"""Of the largest value, how far what is computed here may be from what the file returns: few bits are not exact."""


def needed(blueprint: Blueprint) -> tuple[str, ...]:
    """Names of the outputs that contributions are computed of, besides every layer's `head_output`."""
    return ("final_ln_scale", "final_ln", tensor_name("resid_post", blueprint.layers - 1))


def head_norms(arrays: Mapping[str, Array], layers: Sequence[int]) -> Array:
    """The length of what each head writes, [layers, heads, seq]; NaN where a layer has fewer heads."""
    norms = [np.linalg.norm(arrays[tensor_name("head_output", layer)], axis=-1) for layer in layers]
    most = max(len(rows) for rows in norms)
    return np.stack([np.pad(rows, ((0, most - len(rows)), (0, 0)), constant_values=np.nan) for rows in norms])


def contributions(arrays: Mapping[str, Array], layers: Sequence[int], weights: Weights, tokens: Array) -> Array | None:
    """What each head adds to the score of a next token directly: through the last norm as it scaled here, and the head.

    Both are linear once the norm's scale is given, so a head's part is its output, scaled and multiplied with
    the token's row of the unembedding. What passes through later layers is not in it. The norm's gain is found from
    what goes in and comes out, and everything is checked against the file's own scores.

    Args:
        arrays: `logits`, `head_output` of the layers, and what `needed` names, without the batch axis.
        layers: Numbers.
        weights: For the unembedding.
        tokens: Ids [seq, k], of each position the tokens to explain.

    Returns:
        [seq, k, layers, heads]; None where the model does more than that, such as a norm behind attention or a cap of
        the scores.
    """
    blueprint = weights.blueprint
    if any(blueprint.has("ln_1_post", layer) for layer in layers) or len(arrays["logits"]) != len(tokens):
        return None
    scale, normed, stream = (arrays[name].astype(np.float64) for name in needed(blueprint))
    gain, centred = _gain(stream, normed, scale)
    if gain is None:
        return None
    rows = weights.tensor(blueprint.tokens.name if blueprint.tied else blueprint.head)[tokens].astype(np.float64)
    scores = np.einsum("sd,skd->sk", normed, rows)
    given = np.take_along_axis(arrays["logits"].astype(np.float64), tokens, axis=1)
    if np.abs((scores - given) - (scores - given).mean()).max() > _FITS * np.abs(given).max():
        return None
    directions = rows * gain / scale[:, None]  # [seq, k, hidden]
    if centred:
        directions -= directions.mean(axis=-1, keepdims=True)
    parts = []
    for layer in layers:
        written = arrays[tensor_name("head_output", layer)].astype(np.float64)  # [heads, seq, hidden]
        parts.append(np.einsum("hsd,skd->skh", written, directions))
    most = max(part.shape[-1] for part in parts)
    return np.stack(
        [np.pad(part, ((0, 0), (0, 0), (0, most - part.shape[-1])), constant_values=np.nan) for part in parts], axis=2
    )


def _gain(stream: Array, normed: Array, scale: Array) -> tuple[Array | None, bool]:
    """A norm's gain [hidden], and whether it takes the mean away first; no gain if it is no such norm."""
    for centred in (False, True):
        inputs = (stream - stream.mean(axis=-1, keepdims=True) if centred else stream) / scale
        apart, out = inputs - inputs.mean(axis=0), normed - normed.mean(axis=0)
        spread = (apart**2).sum(axis=0)
        gain = (apart * out).sum(axis=0) / np.where(spread > 0, spread, 1)
        if np.abs(apart * gain - out).max() <= _FITS * np.abs(out).max():
            return gain, centred
    return None, False
