"""PyTorch's own answer: transformers' eager model with module hooks, independent of what is exported.

`capture.py` sees attention through a registered function; here nothing is registered. Queries, keys
and values are cut from the projection's output and scores computed from them, so that a mistake in
the capture cannot hide in both.
"""

from collections.abc import Iterable
from functools import partial

import torch
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from model_release.contract.activations import Output, tensor_name
from model_release.contract.output_checks import Array
from model_release.model.export.capture import (
    Hooks,
    blocks_of,
    build_config,
    build_model,
    watch,
)
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
        shape = weights.shape
        config = build_config(weights.config, shape, attention="eager")
        with torch.device("meta"):
            model = build_model(config)
        state = {name: torch.tensor(weights.tensor(name)) for name in shape.parameters()}
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        self._model = model

    def run(self, input_ids: Array, outputs: Iterable[Output], *, last_logits: bool = False) -> dict[str, Array]:
        """Runs `[batch, seq]` int64 ids; returns the outputs by name, as float32 arrays."""
        wanted = tuple(outputs)
        seen = _Only(output.name for output in wanted)
        model = self._model
        with torch.no_grad(), watch(model, seen), _watch_attention(model, seen):
            result = model(input_ids=torch.from_numpy(input_ids), use_cache=False)
        seen["logits"] = result.logits[:, -1:] if last_logits else result.logits
        return {output.name: seen[output.name].numpy() for output in wanted}


class _Only(dict[str, torch.Tensor]):
    """Keeps the tensors that are wanted; a long sequence's others would not fit in memory."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def __setitem__(self, name: str, tensor: torch.Tensor) -> None:
        if name in self.names:
            super().__setitem__(name, tensor)


def _watch_attention(model: GPT2LMHeadModel, seen: _Only) -> Hooks:
    """Hooks that add q, k, v, scores, probabilities and z of every layer to `seen`."""
    hooks = Hooks()
    for layer, block in enumerate(blocks_of(model)):
        attention = block.attn
        hooks.on_output(attention.c_attn, partial(_cut_projection, attention, layer, seen))
        hooks.on_input(attention.c_proj, partial(_cut_z, attention, layer, seen))

        def put_probs(_module: object, _inputs: object, output: tuple[torch.Tensor, ...], layer: int = layer) -> None:
            seen[tensor_name("attn_probs", layer)] = output[1]

        hooks.callback(attention.register_forward_hook(put_probs).remove)
    return hooks


def _cut_projection(attention: GPT2Attention, layer: int, seen: _Only, projected: torch.Tensor) -> None:
    """[batch, seq, 3 x hidden], q, k and v side by side -> three of [batch, heads, seq, head_dim]."""
    batch, seq, _ = projected.shape
    q, k, v = projected.reshape(batch, seq, 3, attention.num_heads, attention.head_dim).permute(2, 0, 3, 1, 4)
    for kind, tensor in (("q", q), ("k", k), ("v", v)):
        seen[tensor_name(kind, layer)] = tensor
    name = tensor_name("attn_scores", layer)
    if name in seen.names:
        seen[name] = torch.einsum("bhid,bhjd->bhij", q, k) * attention.scaling


def _cut_z(attention: GPT2Attention, layer: int, seen: _Only, joined: torch.Tensor) -> None:
    """[batch, seq, hidden], head after head -> [batch, heads, seq, head_dim]."""
    batch, seq, _ = joined.shape
    seen[tensor_name("attn_z", layer)] = joined.reshape(batch, seq, attention.num_heads, -1).transpose(1, 2)
