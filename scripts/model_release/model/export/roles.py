"""What a layer's modules took and gave -> the contract's outputs.

Roles are found by which tensor is which object, not by what a family calls its modules: a norm that reads what
enters the layer stands before attention; one that reads what attention returned, behind it; `ln_2` is what reads
the stream between attention and MLP. A name like `post_attention_layernorm` means either, from family to family.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from model_release.base.errors import ExportError
from model_release.model.export.experts import expert_weights
from model_release.model.export.module_kinds import is_activation, is_linear, is_norm, norm_scale
from model_release.model.export.seen import Attention, Event, Lazy, is_part, is_same


def layer_outputs(
    events: Sequence[Event], attention: Attention | None, *, multiplier: float, fused_gate_up: bool
) -> dict[str, Lazy]:
    """The outputs of one layer by kind.

    Args:
        events: The calls of the layer's modules, in the order they ended; the last one is the layer's own.
        attention: What its attention computed.
        multiplier: What attention and MLP are multiplied with before they are added to the stream.
        fused_gate_up: Whether one projection gives gate and up part.

    Raises:
        ExportError: The layer has a part that no role fits.
    """
    if attention is None:
        raise ExportError("every layer must have attention, one has none. This architecture is not supported yet.")
    return _Layer(events, attention, multiplier, fused_gate_up).outputs()


class _Layer:
    """One layer's calls, sorted by what they are part of."""

    def __init__(self, events: Sequence[Event], attention: Attention, multiplier: float, fused: bool) -> None:
        self.events, self.attention, self.multiplier, self.fused = events, attention, multiplier, fused
        self.block = events[-1]
        own = next(event for event in events if event.module is attention.module)
        self.inside = [event for event in events if event.path.startswith(own.path + ".")]
        around = {own.path, *_parents(own.path)}
        outside = [event for event in events if event.path not in around and event not in self.inside]
        self.own = own
        bodies = {
            event.path
            for event in outside
            if "." not in event.path
            and not is_norm(event.module)
            and not is_linear(event.module)
            and any(True for _ in event.module.parameters())
        }
        self.mlp = next((event for event in outside if event.path in bodies), None)
        self.norms = [
            event for event in outside if is_norm(event.module) and not any(p in bodies for p in _parents(event.path))
        ]
        self.outside = outside

    def outputs(self) -> dict[str, Lazy]:
        """See `layer_outputs`."""
        found: dict[str, Lazy] = {}
        stream = _tensor(self.block.input)
        found["resid_pre"] = lambda: stream
        found |= self._heads()
        projection = next((event for event in reversed(self.inside) if is_linear(event.module)), None)
        if projection is None:
            raise ExportError("attention must end in a projection. This architecture is not supported yet.")
        attended = projection.output
        hidden, mlp_added, mlp_input = self._mlp()
        mid: torch.Tensor | None = None
        for norm in self.norms:
            given = _tensor(norm.input)
            if is_same(norm.output, self.own.input):
                self._put_norm(found, "ln_1", norm)
            elif is_same(given, stream) and not is_same(given, attended):
                self._put_norm(found, "ln_2", norm)
            elif is_same(given, attended):
                found["ln_1_post"] = _give(norm.output)
                attended = norm.output
            elif is_same(given, mlp_added):
                found["ln_2_post"] = _give(norm.output)
                mlp_added = norm.output
            elif is_same(norm.output, self.block.output):
                raise ExportError("a layer must add to the residual stream, one norms it. It is not supported.")
            else:
                self._put_norm(found, "ln_2", norm)
                mid = given
        if mid is None and mlp_input is not None and not self._reads_stream(mlp_input, stream):
            mid = mlp_input
        found["head_output"] = lambda: self._by_head(projection)
        found["attn_output"] = lambda: self._added(attended)
        if mid is not None:
            found["resid_mid"] = lambda: mid
        found |= hidden
        found["mlp_output"] = lambda: self._added(mlp_added)
        found["resid_post"] = _give(self.block.output)
        return {kind: _with_sequences(tensor, stream) for kind, tensor in found.items()}

    def _reads_stream(self, mlp_input: torch.Tensor, stream: torch.Tensor) -> bool:
        """Whether the MLP stands beside attention and not behind it."""
        return is_same(mlp_input, stream) or any(
            is_same(mlp_input, norm.output) and is_same(norm.input, stream) for norm in self.norms
        )

    def _put_norm(self, found: dict[str, Lazy], kind: str, norm: Event) -> None:
        given, module = _tensor(norm.input), norm.module
        found[f"{kind}_scale"] = lambda: norm_scale(module, given)
        found[kind] = _give(norm.output)

    def _added(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.multiplier if self.multiplier != 1 else tensor

    # Attention

    def _heads(self) -> dict[str, Lazy]:
        seen = self.attention
        found = self._turned("q", seen.q, seen.turned[0::2]) | self._turned("k", seen.k, seen.turned[1::2])
        if seen.q.shape[1] == seen.k.shape[1]:
            q, k = found["q"], found["k"]
            found["qkv"] = lambda: torch.cat([q(), k(), seen.v], dim=-1)
        for kind, tensor in (
            ("v", seen.v),
            ("attn_scores", seen.scores),
            ("attn_probs", seen.probs),
            ("attn_z", seen.z),
        ):
            found[kind] = _give(tensor)
        return found

    def _turned(self, kind: str, final: torch.Tensor, turned: Sequence[torch.Tensor]) -> dict[str, Lazy]:
        """Queries or keys as projected, normed and turned, in whichever order the model does this.

        Args:
            kind: `q` or `k`.
            final: As attention takes them.
            turned: Before and after they are turned by positions; empty if they are not.
        """
        before, after = turned or (None, None)
        norm = self._norm_of(kind, final, before, after)
        found = {kind: _give(final) if before is None else _whole(before, final)}
        if after is not None:
            found[f"{kind}_rot"] = _give(final)
        if norm is None:
            return found
        if after is not None and norm.input is after:  # Normed last.
            return found | {f"{kind}_rot": _whole(after, final), f"{kind}_normed": _give(final)}
        return found | {
            f"{kind}_normed": found[kind],
            kind: _as_heads(norm, final if before is None else before, final),
        }

    def _norm_of(
        self, kind: str, final: torch.Tensor, before: torch.Tensor | None, after: torch.Tensor | None
    ) -> Event | None:
        """The norm of queries or keys."""
        norms = [event for event in self.inside if is_norm(event.module)]
        norms = [event for event in norms if not any(other.path in _parents(event.path) for other in norms)]
        for event in norms:
            if before is not None and (is_part(before, event.output) or event.input is after):
                return event
            if before is None and is_same(event.output, final):
                return event
        if before is None and len(norms) == 2:  # Keys that heads share are copies by now: queries come first.
            return norms[("q", "k").index(kind)]
        return None

    def _by_head(self, projection: Event) -> torch.Tensor:
        """[batch, heads, seq, head_dim] x the projection's part for each head -> [batch, heads, seq, hidden]."""
        z, weight = self.attention.z, _tensor(projection.module.weight)
        weight = weight if isinstance(projection.module, Conv1D) else weight.transpose(0, 1)  # [in, hidden]
        result = torch.matmul(z, weight.reshape(z.shape[1], z.shape[-1], -1))
        return result * self.multiplier if self.multiplier != 1 else result

    # MLP

    def _mlp(self) -> tuple[dict[str, Lazy], Any, torch.Tensor | None]:
        """Outputs of the MLP's hidden layer, what the MLP returns, and what it is given."""
        hidden: dict[str, Lazy] = {}
        experts = next((event for event in self.outside if "xperts" in type(event.module).__name__), None)
        if experts is not None and self.mlp is not None:
            return self._experts(experts), self.mlp.output, self.mlp.input
        linears = [event for event in self.outside if is_linear(event.module)]
        if len(linears) < 2:
            raise ExportError("an MLP must have two projections. This architecture is not supported yet.")
        last, firsts = linears[-1], linears[:-1]
        acts = [event for event in self.outside if is_activation(event.module)]
        given = _tensor(acts[-1].input) if acts else _tensor(firsts[0].output)
        hidden["mlp_fc1"] = lambda: given
        if self.fused:
            both = _tensor(firsts[0].output)
            hidden["mlp_up"] = lambda: both[..., both.shape[-1] // 2 :]
        elif len(firsts) == 2:
            up = next(event.output for event in firsts if not is_same(event.output, given))
            hidden["mlp_up"] = lambda: up
        read = _tensor(last.input)
        hidden["mlp_gelu"] = lambda: read
        first_input = self.mlp.input if self.mlp is not None else firsts[0].input
        return hidden, last.output, first_input

    def _experts(self, experts: Event) -> dict[str, Lazy]:
        """Router and weights; `experts` was given tokens, numbers of experts and their weights, [tokens, ...]."""
        stream = _tensor(self.block.input)
        index, weights = (tensor for tensor in experts.inputs[1:3])
        if index.is_floating_point():
            index, weights = weights, index
        count = int(experts.module.num_experts)  # type: ignore[arg-type]
        shape = (*stream.shape[:2], count)

        def dense() -> torch.Tensor:
            return expert_weights(index, weights, count).reshape(shape)

        found: dict[str, Lazy] = {"expert_weights": dense}
        for event in self.outside:
            parts = event.returned if isinstance(event.returned, tuple) else (event.returned,)
            logits = [part for part in parts if isinstance(part, torch.Tensor) and _is_int(part.shape[-1], count)]
            if logits and event.module is not experts.module:
                found["router_logits"] = partial(torch.Tensor.reshape, logits[0], shape)
                break
        return found


def _whole(turned: torch.Tensor, final: torch.Tensor) -> Lazy:
    """Heads of which a part was turned, with the part that was not: [batch, heads, seq, head_dim]."""
    if turned.shape[-1] == final.shape[-1]:
        return lambda: turned
    return lambda: torch.cat([turned, final[..., turned.shape[-1] :]], dim=-1)


def _as_heads(norm: Event, turned: torch.Tensor, final: torch.Tensor) -> Lazy:
    """What a norm of queries or keys was given, heads first."""
    given, output = _tensor(norm.input), _tensor(norm.output)

    def turn() -> torch.Tensor:
        if given.dim() == 3:
            heads, width = final.shape[1], final.shape[-1]
            return given.reshape(*given.shape[:2], heads, width).transpose(1, 2)
        compared: list[tuple[Sequence[int], Sequence[int]]] = [(turned.shape, output.shape)]
        if is_part(turned, output) and _is_equal(*turned.shape[1:3]):  # Strides tell which axis is which.
            compared.append((turned.stride(), output.stride()))
        same = all(_is_equal(a, b) for sizes, others in compared for a, b in zip(sizes[1:3], others[1:3], strict=True))
        return given if same else given.transpose(1, 2)

    return turn


def _is_equal(one: int | torch.SymInt, other: int | torch.SymInt) -> bool:
    """Whether sizes are equal; a size known only when the model runs is never a fixed one."""
    return isinstance(one, int) == isinstance(other, int) and bool(one == other)


def _is_int(size: int | torch.SymInt, wanted: int) -> bool:
    return isinstance(size, int) and size == wanted


def _tensor(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ExportError("a module must be given and return tensors, one is not. It is not supported yet.")
    return value


def _with_sequences(tensor: Lazy, stream: torch.Tensor) -> Lazy:
    """[batch x seq, width] -> [batch, seq, width]: some layers lay tokens side by side."""

    def shaped() -> torch.Tensor:
        found = tensor()
        return found.reshape(*stream.shape[:2], found.shape[-1]) if found.dim() == 2 else found

    return shaped


def _give(tensor: object) -> Lazy:
    return lambda: _tensor(tensor)


def _parents(path: str) -> Iterable[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts))]
