"""What is seen of a run: calls of modules, what attention computed, and which tensors are the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Lazy = Callable[[], torch.Tensor]
"""A tensor that is computed if it is wanted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """A call of a module.

    Attributes:
        path: Its name within the layer; empty for the layer itself.
        module: What was called.
        inputs: The tensors it was given.
        output: What it returned; the first part, where that is a tuple.
        returned: The whole of what it returned.
    """

    path: str
    module: torch.nn.Module
    inputs: Sequence[torch.Tensor]
    output: Any
    returned: Any

    @property
    def input(self) -> torch.Tensor | None:
        """The first tensor it was given."""
        return self.inputs[0] if self.inputs else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Attention:
    """What one attention computed, [batch, heads or kv_heads, seq, ...]. Maps are [seq, total].

    Attributes:
        module: Whose attention it is.
        q: As multiplied with keys.
        k: As multiplied with queries.
        v: Values.
        keys: Those of the tokens before and of these, [batch, kv_heads, total, head_dim].
        values: Likewise.
        scores: Before the mask.
        probs: After softmax.
        z: probs x v.
        turned: By rotary positions: q and k before, q and k after; empty where there are none. Only a part of
            each head may be turned.
        sinks: Whether a part of the attention goes to no token.
        window: Keys a query sees; 0 if it sees all before it.
    """

    module: torch.nn.Module
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scores: torch.Tensor
    probs: torch.Tensor
    z: torch.Tensor
    turned: Sequence[torch.Tensor] = ()
    sinks: bool = False
    window: int = 0


def is_same(one: object, other: object) -> bool:
    """Whether two tensors are one, or the same numbers under another shape."""
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return False
    if one is other:
        return True
    return is_part(one, other) and one.numel() == other.numel()


def is_part(one: torch.Tensor, other: object) -> bool:
    """Whether a tensor is a view of another, or of what that is a view of."""
    if not isinstance(other, torch.Tensor):
        return False
    if one is other:
        return True
    base = one._base
    return (base is not None and (base is other or base is other._base)) or other._base is one
