"""PyTorch's own answer: transformers' eager model, independent of what is exported.

An export's attention and experts are functions of ours that the model calls; here nothing is registered. The
model's own code computes attention, and a tap sees the products around its softmax (see `export/seams.py`), so
that a mistake in our functions cannot hide in both. What both share, the roles of modules, is guarded by the
clauses between outputs.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import torch

from model_release.contract.activations import Output
from model_release.contract.measures import Array
from model_release.model.export.module_kinds import is_attention, is_linear
from model_release.model.export.network import build_network, give_parameters
from model_release.model.export.seams import Seams
from model_release.model.weights.folder import Weights


class Reference:
    """A PyTorch model that returns the contract's outputs.

    Args:
        weights: Verified weights. They are held in memory, in float32.

    Raises:
        WeightsError: A tensor cannot be read.
        ExportError: transformers refuses the config.
    """

    def __init__(self, weights: Weights) -> None:
        blueprint = weights.blueprint
        self._heads = [blueprint.layer(number).heads for number in range(blueprint.layers)]
        self._network = build_network(weights.config, in_the_open=False, tied=weights.blueprint.tied)
        give_parameters(self._network, lambda name, _: torch.tensor(weights.tensor(name)))

    def run(
        self,
        input_ids: Array,
        outputs: Iterable[Output],
        *,
        last_logits: bool = False,
        touch: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Runs `[batch, seq]` int64 ids; returns the outputs by name, as float32 arrays.

        Args:
            input_ids: `[batch, seq]`.
            outputs: What to return.
            last_logits: Whether only those of the last position are computed.
            touch: `head_gain` `[layers, heads]` and `steering` `[layers, hidden]`, as far as there are any.
        """
        outputs = list(outputs)
        wanted = [output.name for output in outputs]
        with contextlib.ExitStack() as hooks:
            # Hooks run in order: seams see what these have made.
            for handle in self._hooks(touch or {}):
                hooks.callback(handle.remove)
            hooks.enter_context(torch.no_grad())
            seams = hooks.enter_context(Seams(self._network, route="tapped", wanted=frozenset(wanted)))
            seen = seams.run(torch.from_numpy(input_ids), last_logits=last_logits)
        found = {name: seen[name].numpy() for name in wanted}
        for output in outputs if "head_gain" in (touch or {}) else ():
            if output.kind in ("attn_z", "head_output"):  # Seen before the hook on what reads them.
                gain = (touch or {})["head_gain"][output.layer, : found[output.name].shape[1]]
                found[output.name] = found[output.name] * gain[:, None, None]
        return found

    def _hooks(self, touch: Mapping[str, Array]) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Hooks on the model's own modules: gains on what output projections are given, vectors behind layers."""
        if "head_gain" in touch:
            for projection, heads, gain in zip(*self._projections, touch["head_gain"], strict=True):
                hook = partial(_scale, torch.from_numpy(gain[:heads]))
                yield projection.register_forward_pre_hook(hook)
        if "steering" in touch:
            for block, vector in zip(self._network.blocks, touch["steering"], strict=True):
                yield block.register_forward_hook(partial(_add, torch.from_numpy(vector)))

    @cached_property
    def _projections(self) -> tuple[list[torch.nn.Module], list[int]]:
        """Of each layer, the last projection that its attention calls, and the number of its heads."""
        last: dict[int, torch.nn.Module] = {}

        def note(number: int, module: torch.nn.Module, *_: object) -> None:
            last[number] = module

        with contextlib.ExitStack() as hooks, torch.no_grad():
            for number, block in enumerate(self._network.blocks):
                for attention in filter(is_attention, block.modules()):
                    for module in filter(is_linear, attention.modules()):
                        hooks.callback(module.register_forward_hook(partial(note, number)).remove)
            self._network.model(torch.zeros(1, 1, dtype=torch.int64), use_cache=False)
        return [last[number] for number in range(len(self._network.blocks))], self._heads


def _scale(gain: torch.Tensor, _module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Heads side by side, [..., heads x head_dim], each times its gain, [heads]."""
    (given, *rest) = inputs
    heads = given.reshape(*given.shape[:-1], len(gain), -1)
    return ((heads * gain[:, None]).reshape(given.shape), *rest)


def _add(vector: torch.Tensor, _module: object, _inputs: object, returned: Any) -> Any:  # noqa: ANN401
    """What a layer returned, with a vector added to its stream."""
    if isinstance(returned, tuple):
        return (returned[0] + vector, *returned[1:])
    return returned + vector
