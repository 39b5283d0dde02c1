"""PyTorch's own answer: transformers' eager model with module hooks, independent of what is exported.

`capture.py` sees attention through a registered function; here nothing is registered. Queries, keys
and values are cut from the projection's output and scores computed from them, so that a mistake in
the capture cannot hide in both.
"""

from collections.abc import Iterable

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from model_release.capture import build_config, build_model, watch
from model_release.contract import Output, tensor_name
from model_release.weights import Weights

Array = np.ndarray


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
        config = build_config({**weights.config, "tie_word_embeddings": shape.tied}, attention="eager")
        config.reorder_and_upcast_attn = False  # The same numbers by another route; hooks would miss it.
        with torch.device("meta"):
            model = build_model(config)
        state = {name: torch.from_numpy(np.array(weights.tensor(name))) for name in shape.parameters()}
        model.load_state_dict(state, strict=False, assign=True)
        model.tie_weights()
        self._model: GPT2LMHeadModel = model.eval()

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


class _watch_attention:  # noqa: N801 - a context manager, used like a function.
    """Adds q, k, v, scores, probabilities and z of every layer to `seen`."""

    def __init__(self, model: GPT2LMHeadModel, seen: _Only) -> None:
        self._model, self._seen = model, seen
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        for layer, block in enumerate(self._model.transformer.h):
            self._hooks += [
                block.attn.c_attn.register_forward_hook(self._on_projection(layer, block.attn)),
                block.attn.c_proj.register_forward_pre_hook(self._on_z(layer, block.attn)),
                block.attn.register_forward_hook(self._on_attention(layer)),
            ]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _on_projection(self, layer: int, attention: torch.nn.Module):  # type: ignore[no-untyped-def]
        def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
            batch, seq, _ = output.shape  # [batch, seq, 3 * hidden]: q, k and v side by side
            heads = output.reshape(batch, seq, 3, attention.num_heads, attention.head_dim).permute(2, 0, 3, 1, 4)
            q, k, v = heads
            for kind, tensor in (("q", q), ("k", k), ("v", v)):
                self._seen[tensor_name(kind, layer)] = tensor
            name = tensor_name("attn_scores", layer)
            if name in self._seen.names:
                self._seen[name] = torch.einsum("bhid,bhjd->bhij", q, k) * attention.scaling

        return hook

    def _on_z(self, layer: int, attention: torch.nn.Module):  # type: ignore[no-untyped-def]
        def hook(_module: object, inputs: tuple[torch.Tensor]) -> None:
            batch, seq, _ = inputs[0].shape
            self._seen[tensor_name("attn_z", layer)] = inputs[0].reshape(batch, seq, attention.num_heads, -1).transpose(1, 2)

        return hook

    def _on_attention(self, layer: int):  # type: ignore[no-untyped-def]
        def hook(_module: object, _inputs: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
            self._seen[tensor_name("attn_probs", layer)] = output[1]

        return hook
