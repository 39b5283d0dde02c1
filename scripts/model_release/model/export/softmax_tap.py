"""Sees attention that is written out in PyTorch: what goes into its softmax, and what comes out."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

F = torch.nn.functional


class SoftmaxTap(TorchFunctionMode):
    """Sees attention written out in PyTorch: product, scale, mask, softmax, product."""

    _SOFTMAX = frozenset({F.softmax, torch.softmax, torch.Tensor.softmax})
    _PRODUCT = frozenset({torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.bmm})
    _SUM_AND_PRODUCT = frozenset({torch.baddbmm, torch.Tensor.baddbmm})
    # What keeps scores scores, and probabilities probabilities, if all else that is given is a number.
    _SAME = frozenset(
        {
            *(torch.Tensor.to, torch.Tensor.view, torch.Tensor.reshape, torch.Tensor.type, torch.Tensor.float),
            *(torch.Tensor.contiguous, torch.Tensor.expand, torch.Tensor.squeeze, torch.Tensor.type_as),
            *(torch.Tensor.mul, torch.Tensor.div, torch.Tensor.__mul__, torch.Tensor.__truediv__, torch.div, torch.mul),
            *(torch.Tensor.__itruediv__, torch.Tensor.div_, torch.tanh, torch.Tensor.tanh, torch.Tensor.__getitem__),
            *(F.dropout, torch.dropout),
        }
    )

    def __init__(self, saw: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self._saw = saw
        self._forget()

    def _forget(self) -> None:
        self._known: dict[int, tuple[str, torch.Tensor]] = {}
        self._scores: torch.Tensor | None = None
        self._probs: torch.Tensor | None = None
        self._factors: tuple[torch.Tensor, torch.Tensor] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in self._SOFTMAX and self._scores is not None:
            self._know("probs", result)
        elif func in self._SUM_AND_PRODUCT:
            self._start(*_batches(*args, **kwargs), result)
        elif func in self._PRODUCT:
            if self._kind(args[0]) == "probs":
                result = self._end(args[1], result)
            else:
                self._start(args[0], args[1], result)
        elif func in self._SAME and args and not any(_has_axes(other) for other in args[1:]):
            kind = self._kind(args[0])
            if kind is not None:
                self._know(kind, result)
        return result

    def _kind(self, tensor: object) -> str | None:
        return self._known.get(id(tensor), (None, None))[0]

    def _know(self, kind: str, tensor: torch.Tensor) -> None:
        self._known[id(tensor)] = (kind, tensor)
        if kind == "scores":
            self._scores = tensor
        elif tensor.dim() == 4:
            self._probs = tensor

    def _start(self, q: torch.Tensor, k: torch.Tensor, scores: torch.Tensor) -> None:
        self._forget()
        if q.dim() >= 3 and k.dim() >= 3:
            self._factors = (q, k)
            self._know("scores", scores)

    def _end(self, v: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Tells of an attention; returns what the model goes on with: z, or what it was made of it."""
        if self._factors is None or self._probs is None or self._scores is None:
            return z
        probs, scores = self._probs, self._scores

        def unfold(tensor: torch.Tensor) -> torch.Tensor:
            return tensor if tensor.dim() == 4 else tensor.reshape(probs.shape[0], -1, *tensor.shape[-2:])

        q, k = self._factors
        scores = unfold(scores)
        seen = unfold(z)
        given = self._saw(
            q=unfold(q),
            k=unfold(k).transpose(-1, -2),
            v=unfold(v),
            scores=scores,
            probs=probs,
            z=seen,
        )
        self._forget()
        return z if given is seen else given.reshape(z.shape)


def _batches(
    _sum: object, batch1: torch.Tensor, batch2: torch.Tensor, **_: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors among `baddbmm`'s arguments."""
    return batch1, batch2


def _has_axes(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0
