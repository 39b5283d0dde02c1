"""A model that is run in the open: what its attention, masks, experts and modules compute, by the contract's names.

transformers lets one register functions for attention, masks and experts (`attention`, `experts`); PyTorch tells of
every module that is called. Nothing here copies a forward pass, and nothing knows a family, but for what
`contract/families.json` says.
"""

import contextlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from transformers.masking_utils import create_masks_for_generate

from model_release.base.errors import ExportError
from model_release.contract.families import family_of
from model_release.contract.tensor_names import tensor_name
from model_release.model.export.attention import AttentionWatch, Route
from model_release.model.export.module_kinds import is_linear, is_norm, norm_scale
from model_release.model.export.network import Network
from model_release.model.export.past import KeyValue, Past
from model_release.model.export.roles import layer_outputs
from model_release.model.export.seen import Event, Lazy, is_same
from model_release.model.export.touch import Touch


class Seams(contextlib.ExitStack):
    """Watches a network while the context is open.

    Args:
        network: The model.
        wanted: Names of outputs; others are not computed or kept. None keeps all.
        route: How attention is seen; see `attention`.

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
        self._streams: dict[str, torch.Tensor] = {}
        self._last: Any = None
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._touches: Sequence[Touch] = ()
        for number, block in enumerate(network.blocks):
            self.callback(block.register_forward_hook(partial(self._steer, number)).remove)
        for name, module in self.model.named_modules():
            if module is self.model or isinstance(module, torch.nn.ModuleList):
                continue
            self.callback(module.register_forward_hook(self._leave(name), with_kwargs=True).remove)
        self._attention = self.enter_context(AttentionWatch(network, route))

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
        if past is not None:
            options["past_key_values"] = Past(past, self.network.numbers)
        self._touches = touches
        positions = self._attention.start(input_ids.shape[1], options.get("past_key_values"), touches)
        if self.route == "registered" and self.network.has_interface:
            options["attention_mask"] = create_masks_for_generate(model.config, input_ids, None, None)
        # Embeddings looked up here spare the graph two Reshapes around input_ids.
        embeddings = model.get_input_embeddings()(input_ids)
        if self.route == "registered" and "position_ids" in inspect.signature(type(model).forward).parameters:
            options["position_ids"] = positions[None, :]
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

        return hook

    def _close(self, number: int) -> None:
        """A layer has ended: its outputs are named."""
        multiplier = float(getattr(self.model.config, "residual_multiplier", 1.0) or 1.0)
        attention = self._attention.take()
        outputs = layer_outputs(
            self._events,
            attention,
            multiplier=multiplier,
            fused_gate_up=bool(self._family.get("fused_gate_up")),
        )
        if attention is not None:
            self.sinks[number] = attention.sinks
            self.windows[number] = attention.window
        if number == 0:
            self._put("embedding_sum", outputs["resid_pre"])
        for kind, tensor in outputs.items():
            self._put(tensor_name(kind, number), tensor)
        if attention is not None:
            self._put(tensor_name("present_key", number), _give(attention.keys))
            self._put(tensor_name("present_value", number), _give(attention.values))
        name = tensor_name("logit_lens", number)
        if self._wanted is not None and name in self._wanted:
            self._streams[name] = outputs["resid_post"]()
        self._last = self._events[-1].output
        self._events, self._kept = [], {}

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


def _give(tensor: torch.Tensor) -> Lazy:
    return lambda: tensor
