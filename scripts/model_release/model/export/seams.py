"""A model that is run in the open: what its attention, masks, experts and modules compute, by the contract's names.

transformers lets one register functions for attention, masks and experts; PyTorch tells of every module that is
called. Nothing here copies a forward pass, and nothing knows a family, but for what `contract/families.json` says.

Two routes see attention. `registered` gives the model a function that computes it in the open; this is what is
exported. `tapped` leaves the model's own eager attention as it is, and sees the product before and after its
softmax; this is what exports are compared with, and how families whose attention is not a function are exported.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from transformers.integrations.moe import ExpertsInterface
from transformers.masking_utils import AttentionMaskInterface, create_masks_for_generate
from transformers.modeling_utils import AttentionInterface

from model_release.base.errors import ExportError
from model_release.contract.families import family_of
from model_release.contract.tensor_names import tensor_name
from model_release.model.export.network import NAME, Network
from model_release.model.export.past import KeyValue, Past, once
from model_release.model.export.roles import (
    Attention,
    Event,
    Lazy,
    expert_weights,
    is_attention,
    is_linear,
    is_norm,
    is_same,
    layer_outputs,
    norm_scale,
)
from model_release.model.export.softmax_tap import SoftmaxTap
from model_release.model.export.touch import Touch

Route = Literal["registered", "tapped"]


def route_of(network: Network) -> Route:
    """How attention of a network can be seen in an export."""
    written_out = "written_out" in family_of(network.model.config.model_type)
    return "registered" if network.has_interface or written_out else "tapped"


class Seams(contextlib.ExitStack):
    """Watches a network while the context is open.

    Args:
        network: The model.
        wanted: Names of outputs; others are not computed or kept. None keeps all.
        route: See the module.

    Attributes:
        seen: Outputs by name, filled by a run.
        sinks: Of each layer, whether a part of its attention goes to no token. Known by `registered` alone.
        windows: Of each layer, how many keys a query sees; 0 if it sees all before it. Likewise.
    """

    def __init__(self, network: Network, *, route: Route, wanted: Collection[str] | None = None) -> None:
        super().__init__()
        self.network, self.route = network, route
        self.model = network.model
        self.seen: dict[str, torch.Tensor] = {}
        self.sinks: dict[int, bool] = {}
        self.windows: dict[int, int] = {}
        self._wanted = wanted
        self._family: Mapping[str, Any] = family_of(self.model.config.model_type)
        self._layer_of = {
            module: (number, path)
            for number, block in enumerate(network.blocks)
            for path, module in block.named_modules()
        }
        self._events: list[Event] = []
        self._before: list[Event] = []
        self._attention: Attention | None = None
        self._inside: torch.nn.Module | None = None
        self._turned: list[torch.Tensor] = []
        self._masks: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._streams: dict[str, torch.Tensor] = {}
        self._halves: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._last: Any = None
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._positions = self._keys = self._causal = torch.empty(0)
        self._past: Past | None = None
        self._touches: Sequence[Touch] = ()
        for number, block in enumerate(network.blocks):
            self.callback(block.register_forward_hook(partial(self._steer, number)).remove)
        for name, module in self.model.named_modules():
            if module is self.model or isinstance(module, torch.nn.ModuleList):
                continue
            if module in self._layer_of and is_attention(module):
                self.callback(module.register_forward_pre_hook(self._enter).remove)
            self.callback(module.register_forward_hook(self._leave(name), with_kwargs=True).remove)
        self._tap_rotary()
        if route == "tapped":
            self.enter_context(SoftmaxTap(self._saw))
        else:
            self._replace_written_out()
        _open.append(self)
        self.callback(_open.remove, self)

    def run(
        self,
        input_ids: torch.Tensor,
        *,
        last_logits: bool = False,
        past: Sequence[KeyValue] | None = None,
        touches: Sequence[Touch] = (),
    ) -> dict[str, torch.Tensor]:
        """Runs a model.

        Args:
            input_ids: [batch, seq].
            last_logits: Whether only those of the last position are computed.
            past: Keys and values of the tokens before, a pair a layer; without, there are no such tokens.
            touches: What each layer is touched with; without, none is.

        Returns:
            The outputs that are wanted, by name.
        """
        model = self.model
        options: dict[str, Any] = {"use_cache": False}
        self._touches = touches
        self._positions = self._keys = torch.arange(input_ids.shape[1])
        if past is not None:
            self._past = options["past_key_values"] = Past(past, self.network.numbers)
            self._positions = self._past.length + self._positions
            self._keys = torch.arange(self._past.length + input_ids.shape[1])
        # One mask for all layers: [seq, total], true where a query may see a key.
        self._causal = self._keys[None, :] <= self._positions[:, None]
        if self.route == "registered" and self.network.has_interface:
            options["attention_mask"] = create_masks_for_generate(model.config, input_ids, None, None)
        # Embeddings looked up here spare the graph two Reshapes around input_ids.
        embeddings = model.get_input_embeddings()(input_ids)
        if self.route == "registered" and "position_ids" in inspect.signature(type(model).forward).parameters:
            options["position_ids"] = self._positions[None, :]
        head: torch.nn.Module = cast(Any, model).get_output_embeddings()
        with contextlib.ExitStack() as for_now:
            if last_logits:
                handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -1:, :],))
                for_now.callback(handle.remove)
            output = model(inputs_embeds=embeddings, **options)
        self._put("logits", lambda: output.logits)
        self._finish(input_ids, last_logits=last_logits)
        return self.seen

    # What is seen

    def _put(self, name: str, tensor: Lazy) -> None:
        if self._wanted is None or name in self._wanted:
            found = tensor()
            self.seen[name] = self._kept.get(id(found), (found, found))[1]

    def _steer(self, number: int, _module: object, _inputs: object, returned: object) -> object:
        """A layer has ended: its stream is moved before anyone sees it."""
        return self._touches[number].steered(returned) if self._touches else returned

    def _scaled(self, module: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
        """What an attention's heads give, [batch, heads, seq, head_dim], each times its gain."""
        return self._touches[self._layer_of[module][0]].scaled(z) if self._touches else z

    def _enter(self, module: torch.nn.Module, _inputs: object) -> None:
        self._inside = module
        self._turned = []

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], returned: object) -> None:
            inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            output: Any = returned[0] if isinstance(returned, tuple) else returned
            number, path = self._layer_of.get(module, (None, name))
            event = Event(path=path, module=module, inputs=inputs, output=output, returned=returned)
            if number is None:
                self._before.append(event)
                return
            if self._family.get("in_place") and is_linear(module):
                self._kept[id(output)] = (output, output.clone())
            self._events.append(event)
            if path == "":
                self._close(number)
            elif module is self._inside:
                self._inside = None

        return hook

    def _close(self, number: int) -> None:
        """A layer has ended: its outputs are named."""
        multiplier = float(getattr(self.model.config, "residual_multiplier", 1.0) or 1.0)
        outputs = layer_outputs(
            self._events,
            self._attention,
            multiplier=multiplier,
            fused_gate_up=bool(self._family.get("fused_gate_up")),
        )
        if self._attention is not None:
            self.sinks[number] = self._attention.sinks
            self.windows[number] = self._attention.window
        if number == 0:
            self._put("embedding_sum", outputs["resid_pre"])
        for kind, tensor in outputs.items():
            self._put(tensor_name(kind, number), tensor)
        if self._attention is not None:
            self._put(tensor_name("present_key", number), _give(self._attention.keys))
            self._put(tensor_name("present_value", number), _give(self._attention.values))
        name = tensor_name("logit_lens", number)
        if self._wanted is not None and name in self._wanted:
            self._streams[name] = outputs["resid_post"]()
        self._last = self._events[-1].output
        self._events, self._attention, self._kept = [], None, {}

    def _finish(self, input_ids: torch.Tensor, *, last_logits: bool) -> None:
        """What stands before and behind the layers."""
        embeddings = self.model.get_input_embeddings()
        final: Event | None = None
        body: Event | None = None
        for event in self._before:
            if event.module is embeddings:
                self._put("token_embedding", _give(event.output))
            elif isinstance(event.module, torch.nn.Embedding):
                # Left to themselves some models look positions up for each sequence; they are the same.
                rows = event.output[:1] if self.route == "tapped" else event.output
                self._put("position_embedding", _give(rows))
            elif is_norm(event.module) and is_same(event.input, self._last):
                final = event
            elif getattr(event.returned, "last_hidden_state", None) is not None:
                body = event
        if final is None or body is None:
            raise ExportError("a model must end in a norm and a head. This architecture is not supported yet.")
        norm, given = final.module, final.inputs[0]
        self._put("final_ln_scale", lambda: norm_scale(norm, given))
        self._put("final_ln", _give(final.output))
        for name, stream in self._streams.items():
            self._put(name, partial(self._lens, norm, body, stream, input_ids, last_logits=last_logits))

    def _lens(
        self,
        norm: torch.nn.Module,
        body: Event,
        stream: torch.Tensor,
        input_ids: torch.Tensor,
        *,
        last_logits: bool,
    ) -> torch.Tensor:
        """The last norm, the head, and what the model does to logits, applied to a layer's stream."""
        normed = norm(stream)[:, -1:] if last_logits else norm(stream)
        body.module.forward = lambda *_, **__: type(body.returned)(last_hidden_state=normed)
        try:
            logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        finally:
            del body.module.forward
        return logits

    # Attention, masks

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
        self._attention = Attention(
            module=module,
            q=query,
            k=own_key,
            v=own_value,
            keys=key,
            values=value,
            scores=scores,
            probs=probs,
            z=z,
            turned=self._turned,
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
        turned = [once(tensor, kv_heads) if place % 2 else tensor for place, tensor in enumerate(self._turned)]
        own_key, own_value = (k, v) if self._past is None else self._past.given
        self._attention = Attention(
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
        config = self.model.config
        count = getattr(config, "num_key_value_heads", None) or getattr(config, "num_kv_heads", None) or heads
        if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
            return 1
        return min(int(count), heads)

    def _replace_written_out(self) -> None:
        """Gives attention that is a method of its module, handed q, k and v, the function that is registered."""
        facts = self._family.get("written_out")
        if facts is None or self.network.has_interface:
            return
        for module in self.network.blocks.modules():
            if not hasattr(type(module), facts["method"]):
                continue
            row = facts.get("window")
            windowed = row is not None and getattr(module, row["attribute"]) == row["is"]
            window = int(getattr(self.model.config, row["size"])) if windowed else 0

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

    def _tap_rotary(self) -> None:
        """Sees queries and keys before and after they are turned by their positions."""
        source: Any = sys.modules[type(self.model).__module__]
        real = getattr(source, "apply_rotary_pos_emb", None)
        if real is None:
            return

        def tap(*args: torch.Tensor, **options: torch.Tensor) -> object:
            turned = real(*args, **options)
            if self._inside is None:
                return turned
            if isinstance(turned, tuple):
                given = [*args, *options.values()][:2]
                self._turned = [*given, *turned]
            else:  # One tensor a call, [batch, seq, heads, head_dim].
                self._one_by_one(args[0], turned)
            return turned

        source.apply_rotary_pos_emb = tap
        self.callback(setattr, source, "apply_rotary_pos_emb", real)

    def _one_by_one(self, given: torch.Tensor, turned: torch.Tensor) -> None:
        self._halves.append((given.transpose(1, 2), turned.transpose(1, 2)))
        order = self._family["rotary_order"]
        if len(self._halves) == len(order):
            by_kind = dict(zip(order, self._halves, strict=True))
            self._turned = [by_kind["q"][0], by_kind["k"][0], by_kind["q"][1], by_kind["k"][1]]
            self._halves = []


def _dense_experts(
    module: torch.nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Every expert on every token, weighted: [tokens, hidden] -> [tokens, hidden]. Static, of standard operators."""
    facts: Any = module
    transposed, biased = getattr(module, "is_transposed", False), getattr(module, "has_bias", False)

    def product(x: torch.Tensor, name: str) -> torch.Tensor:
        weight: torch.Tensor = getattr(module, name)  # [experts, out, in], or transposed
        result = torch.matmul(x, weight if transposed else weight.transpose(1, 2))
        return result + getattr(module, f"{name}_bias")[:, None] if biased else result

    if getattr(module, "has_gate", True):
        hidden = facts._apply_gate(product(hidden_states[None], "gate_up_proj"))
    else:
        hidden = facts.act_fn(product(hidden_states[None], "up_proj"))
    weights = expert_weights(top_k_index, top_k_weights, int(facts.num_experts))  # [tokens, experts]
    return (product(hidden, "down_proj") * weights.transpose(0, 1)[..., None]).sum(0)


_open: list[Seams] = []
"""The seams that are watching; registered functions have no other way to know."""


def _attend(*args: torch.Tensor, **options: torch.Tensor) -> tuple[torch.Tensor, None]:
    attend: Callable[..., tuple[torch.Tensor, None]] = _open[-1].attend
    return attend(*args, **options)


def _mask(**options: object) -> torch.Tensor:
    mask: Callable[..., torch.Tensor] = _open[-1].mask
    return mask(**options)


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, _mask)
ExpertsInterface.register(NAME, _dense_experts)


def _give(tensor: torch.Tensor) -> Lazy:
    return lambda: tensor
