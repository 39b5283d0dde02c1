"""Attention of a model that runs: scores, probabilities and what heads give, layer after layer.

Two routes see it. `registered` gives the model a function that computes it in the open; this is what is
exported. `tapped` leaves the model's own eager attention as it is, and sees the product before and after its
softmax; this is what exports are compared with, and how families whose attention is not a function are exported.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from model_release.contract.families import family_of
from model_release.model.export.module_kinds import is_attention
from model_release.model.export.network import NAME, Network
from model_release.model.export.past import Past, once
from model_release.model.export.rotary_tap import RotaryTap
from model_release.model.export.seen import Attention
from model_release.model.export.softmax_tap import SoftmaxTap
from model_release.model.export.touch import Touch

Route = Literal["registered", "tapped"]


def route_of(network: Network) -> Route:
    """How attention of a network can be seen in an export."""
    written_out = "written_out" in family_of(network.model.config.model_type)
    return "registered" if network.has_interface or written_out else "tapped"


class AttentionWatch(contextlib.ExitStack):
    """Sees the attention of a network's layers while the context is open.

    Args:
        network: The model.
        route: See the module.
    """

    def __init__(self, network: Network, route: Route) -> None:
        super().__init__()
        self._network, self._model = network, network.model
        self._layer_of = {module: number for number, block in enumerate(network.blocks) for module in block.modules()}
        self._found: Attention | None = None
        self._inside: torch.nn.Module | None = None
        self._masks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._positions = self._keys = self._causal = torch.empty(0)
        self._past: Past | None = None
        self._touches: Sequence[Touch] = ()
        for module in filter(is_attention, self._layer_of):
            self.callback(module.register_forward_pre_hook(self._enter).remove)
            self.callback(module.register_forward_hook(self._leave).remove)
        self._rotary = self.enter_context(RotaryTap(self._model, lambda: self._inside is not None))
        if route == "tapped":
            self.enter_context(SoftmaxTap(self._saw))
        else:
            self._replace_written_out()
        _open.append(self)
        self.callback(_open.remove, self)

    def start(self, seq: int, past: Past | None, touches: Sequence[Touch]) -> torch.Tensor:
        """A run begins.

        Args:
            seq: How many tokens it has.
            past: Those before.
            touches: What each layer is touched with; without, none is.

        Returns:
            The positions of its tokens, [seq].
        """
        self._past, self._touches = past, touches
        self._positions = self._keys = torch.arange(seq)
        if past is not None:
            self._positions = past.length + self._positions
            self._keys = torch.arange(past.length + seq)
        # One mask for all layers: [seq, total], true where a query may see a key.
        self._causal = self._keys[None, :] <= self._positions[:, None]
        return self._positions

    def take(self) -> Attention | None:
        """What the layer that has just ended computed; None if it has no attention."""
        found, self._found = self._found, None
        return found

    def _enter(self, module: torch.nn.Module, _inputs: object) -> None:
        self._inside = module
        self._rotary.turned = []

    def _leave(self, module: torch.nn.Module, _inputs: object, _returned: object) -> None:
        if module is self._inside:
            self._inside = None

    def _scaled(self, module: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
        """What an attention's heads give, [batch, heads, seq, head_dim], each times its gain."""
        return self._touches[self._layer_of[module]].scaled(z) if self._touches else z

    def attend(  # noqa: PLR0913 - the parameters are those that transformers passes
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        scaling: float | None = None,
        softcap: float | None = None,
        s_aux: torch.Tensor | None = None,
        sliding_window: int | None = None,
        **_: object,
    ) -> tuple[torch.Tensor, None]:
        """Attention in the open: [batch, heads, seq, head_dim] -> [batch, seq, heads, head_dim].

        With a past, keys and values are of all tokens, [batch, kv_heads, total, head_dim].
        """
        batch, heads, seq, _width = query.shape
        kv_heads = key.shape[1]
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling

        def grouped(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.reshape(batch, kv_heads, heads // kv_heads, *tensor.shape[2:])

        def joined(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.reshape(batch, heads, *tensor.shape[3:])

        # Products spread over the heads that share a kv head: nothing is repeated.
        turned_key = key.transpose(-1, -2)
        if heads == kv_heads:
            scores = torch.matmul(query, turned_key) * scaling
        else:
            scores = joined(torch.matmul(grouped(query), turned_key[:, :, None])) * scaling
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        mask = self._causal if attention_mask is None else self._masks.get(id(attention_mask), (attention_mask,) * 2)[1]
        masked = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        if s_aux is not None:  # A column that takes attention and gives nothing.
            sinks = s_aux.reshape(1, -1, 1, 1).expand(batch, -1, seq, 1)
            probs = torch.softmax(torch.cat([masked, sinks], dim=-1), dim=-1)[..., :-1]
        else:
            probs = torch.softmax(masked, dim=-1)
        z = torch.matmul(probs, value) if heads == kv_heads else joined(torch.matmul(grouped(probs), value[:, :, None]))
        z = self._scaled(module, z)
        own_key, own_value = (key, value) if self._past is None else self._past.given
        self._found = Attention(
            module=module,
            q=query,
            k=own_key,
            v=own_value,
            keys=key,
            values=value,
            scores=scores,
            probs=probs,
            z=z,
            turned=self._rotary.turned,
            sinks=s_aux is not None,
            window=sliding_window or 0,
        )
        return z.transpose(1, 2), None

    def mask(self, *, mask_function: Callable[..., torch.Tensor], **_: object) -> torch.Tensor:
        """[1, 1, seq, total], as transformers wants it; attention takes [seq, total]."""
        keys, queries = self._keys[None, :], self._positions[:, None]
        flat = mask_function(0, 0, queries, keys)
        mask = flat[None, None]
        self._masks[id(mask)] = (mask, flat)
        return mask

    def _saw(
        self,
        *,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scores: torch.Tensor,
        probs: torch.Tensor,
        z: torch.Tensor,
    ) -> torch.Tensor:
        """The softmax tap has seen an attention; keys and values are repeated where heads share them.

        Returns:
            What the model's own code goes on with in place of z.
        """
        if self._inside is None:
            return z
        z = self._scaled(self._inside, z)
        kv_heads = self._kv_heads(q.shape[1])
        turned = [once(tensor, kv_heads) if place % 2 else tensor for place, tensor in enumerate(self._rotary.turned)]
        own_key, own_value = (k, v) if self._past is None else self._past.given
        self._found = Attention(
            module=self._inside,
            q=q,
            k=once(own_key, kv_heads),
            v=once(own_value, kv_heads),
            keys=once(k, kv_heads),
            values=once(v, kv_heads),
            turned=turned,
            scores=scores,
            probs=probs,
            z=z,
        )
        return z

    def _kv_heads(self, heads: int) -> int:
        config = self._model.config
        count = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None) or heads
        if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
            return 1
        return min(int(count), heads)

    def _replace_written_out(self) -> None:
        """Gives attention that is a method of its module, handed q, k and v, the function that is registered."""
        facts = family_of(self._model.config.model_type).get("written_out")
        if facts is None or self._network.has_interface:
            return
        for module in self._network.blocks.modules():
            if not hasattr(type(module), facts["method"]):
                continue
            row = facts.get("window")
            windowed = row is not None and getattr(module, row["attribute"]) == row["is"]
            window = int(getattr(self._model.config, row["size"])) if windowed else 0

            def seen(
                query: torch.Tensor,
                key: torch.Tensor,
                value: torch.Tensor,
                _attention_mask: object = None,
                module: torch.nn.Module = module,
                window: int = window,
            ) -> tuple[torch.Tensor, None]:
                scaling = 1.0 if facts["scaling"] == "none" else query.shape[-1] ** -0.5
                z, _ = self.attend(module, query, key, value, self._windowed(window), scaling, sliding_window=window)
                return z.transpose(1, 2), None

            setattr(module, facts["method"], seen)
            self.callback(delattr, module, facts["method"])

    def _windowed(self, window: int) -> torch.Tensor | None:
        if not window:
            return None
        return self._causal & (self._keys[None, :] > self._positions[:, None] - window)


_open: list[AttentionWatch] = []
"""Those that are watching; registered functions have no other way to know."""


def _attend(*args: torch.Tensor, **options: torch.Tensor) -> tuple[torch.Tensor, None]:
    attend: Callable[..., tuple[torch.Tensor, None]] = _open[-1].attend
    return attend(*args, **options)


def _mask(**options: object) -> torch.Tensor:
    mask: Callable[..., torch.Tensor] = _open[-1].mask
    return mask(**options)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)
