"""What tensors of a model file are called: outputs, and keys and values in and out.

Names come from `tensor_name` alone, and `parse_tensor_name` is its inverse.
"""

import re

_LAYERED = re.compile(r"layer_(0|[1-9][0-9]*)_([a-z][a-z0-9_]*)")
# What transformers.js and optimum call keys and values, in and out.
_CACHED = {
    f"{kind}_{part}": (f"{prefix}.", f".{part}")
    for kind, prefix in (("past", "past_key_values"), ("present", "present"))
    for part in ("key", "value")
}
_CACHED_NAME = re.compile(r"(past_key_values|present)\.(0|[1-9][0-9]*)\.(key|value)")


def tensor_name(kind: str, layer: int | None = None) -> str:
    """The name of an output, or of an input of `--cache`.

    >>> tensor_name("logits"), tensor_name("attn_probs", 11), tensor_name("present_key", 11)
    ('logits', 'layer_11_attn_probs', 'present.11.key')
    """
    if layer is None:
        return kind
    before, after = _CACHED.get(kind, ("layer_", f"_{kind}"))
    return f"{before}{layer}{after}"


def parse_tensor_name(name: str) -> tuple[str, int | None]:
    """The kind and layer of an output or input: the inverse of `tensor_name`.

    >>> parse_tensor_name("layer_11_attn_probs"), parse_tensor_name("embedding_sum")
    (('attn_probs', 11), ('embedding_sum', None))
    """
    if match := _LAYERED.fullmatch(name):
        return match[2], int(match[1])
    if match := _CACHED_NAME.fullmatch(name):
        return f"{match[1].removesuffix('_key_values')}_{match[3]}", int(match[2])
    return name, None
