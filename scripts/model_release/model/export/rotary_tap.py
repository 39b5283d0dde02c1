"""Sees queries and keys before and after they are turned by their positions."""

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from model_release.contract.families import family_of


class RotaryTap:
    """Watches the function of a model's own code that turns queries and keys.

    Args:
        model: Whose code it is; code without such a function is left alone.
        is_inside: Whether an attention is running; other calls are not looked at.

    Attributes:
        turned: Queries and keys before, then both after; empty where none were turned.
    """

    def __init__(self, model: PreTrainedModel, is_inside: Callable[[], bool]) -> None:
        self._source: Any = sys.modules[type(model).__module__]
        self._real: Callable[..., object] | None = getattr(self._source, "apply_rotary_pos_emb", None)
        self._family, self._is_inside = family_of(model.config.model_type), is_inside
        self.turned: list[torch.Tensor] = []
        self._halves: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __enter__(self) -> "RotaryTap":
        if self._real is not None:
            self._source.apply_rotary_pos_emb = partial(self._tapped, self._real)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._real is not None:
            self._source.apply_rotary_pos_emb = self._real

    def _tapped(self, real: Callable[..., object], *args: torch.Tensor, **options: torch.Tensor) -> object:
        turned = real(*args, **options)
        if not self._is_inside():
            return turned
        if isinstance(turned, tuple):
            given = [*args, *options.values()][:2]
            self.turned = [*given, *turned]
        else:  # One tensor a call, [batch, seq, heads, head_dim].
            self._one_by_one(args[0], cast(torch.Tensor, turned))
        return turned

    def _one_by_one(self, given: torch.Tensor, turned: torch.Tensor) -> None:
        self._halves.append((given.transpose(1, 2), turned.transpose(1, 2)))
        order = self._family["rotary_order"]
        if len(self._halves) == len(order):
            by_kind = dict(zip(order, self._halves, strict=True))
            self.turned = [by_kind["q"][0], by_kind["k"][0], by_kind["q"][1], by_kind["k"][1]]
            self._halves = []
