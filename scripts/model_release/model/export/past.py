"""Keys and values of the tokens before: what `--cache` hands a model, in the form in which transformers takes them."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

KeyValue = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of one layer, [batch, kv_heads, tokens, head_dim]."""


class Past(Cache):
    """What every family's own code asks for the tokens before, and tells of the new ones.

    Args:
        before: Of each layer of the model, in order.
        numbers: What these layers call themselves.

    Attributes:
        length: Tokens before.
        given: Keys and values of the new tokens in the layer that ran last, as its code handed them over.
    """

    def __init__(self, before: Sequence[KeyValue], numbers: Sequence[int]) -> None:
        self._of_number = {number: _Layer(pair) for number, pair in zip(numbers, before, strict=True)}
        super().__init__(layers=list(self._of_number.values()))
        self.length: Any = before[0][0].shape[2]
        self.given: KeyValue = before[0]

    def get_seq_length(self, layer_idx: int = 0) -> Any:  # noqa: ANN401, ARG002 - a whole number, or a symbol for one
        """Tokens before, also while the layers of a run hand over theirs."""
        return self.length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> KeyValue:
        """A layer's new keys and values -> all of them."""
        self.given = key_states, value_states
        return self._of_number[layer_idx].update(key_states, value_states)


class _Layer(DynamicLayer):
    """The part of one layer."""

    def __init__(self, past: KeyValue) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_initialized = True
        self._past = past

    def get_seq_length(self) -> Any:  # noqa: ANN401 - as above
        """Tokens before; never asks whether there are any, which is known only when the model runs."""
        return self._past[0].shape[2]

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object) -> KeyValue:
        """Appends new keys and values. Heads that a family has repeated for its queries are kept once."""
        kv_heads, heads = self._past[0].shape[1], key_states.shape[1]
        keys, values = (
            torch.cat([before, once(new, kv_heads)], dim=2)
            for before, new in zip(self._past, (key_states, value_states), strict=True)
        )
        return repeated(keys, heads), repeated(values, heads)


def once(tensor: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """[batch, heads, seq, head_dim] that repeats each kv head -> [batch, kv_heads, seq, head_dim]."""
    batch, heads, *rest = tensor.shape
    if heads == kv_heads:
        return tensor
    return tensor.reshape(batch, kv_heads, heads // kv_heads, *rest)[:, :, 0]


def repeated(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """The inverse of `once`."""
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], dim=1)
