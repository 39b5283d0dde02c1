"""PyTorch -> ONNX with intermediate activations, through the framework's own seams.

The model is traced on fake tensors: no weight is allocated, and time and memory depend on the
graph alone. Attention is seen through transformers' `AttentionInterface` (a registered function is
given q, k and v), everything else through module hooks. No forward pass is copied.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import onnx_ir as ir
import torch
from huggingface_hub.errors import StrictDataclassError
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.modeling_utils import AttentionInterface
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from model_release.base.errors import ExportError
from model_release.base.text import first_lines
from model_release.contract.activations import load_contract, tensor_name
from model_release.contract.selection import Logits
from model_release.contract.shape import EMBEDDING, HEAD, ModelShape

_ATTENTION = "see_through"
_MODULE = "model."  # Where `_SeeThrough` keeps the model; parameter names start with it.


# What of a config.json changes a model's numbers besides its sizes; all else is left to its default.
_NUMERIC_OPTIONS = (
    "activation_function",
    "layer_norm_epsilon",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
)


def build_config(config: Mapping[str, Any], shape: ModelShape, *, attention: str) -> GPT2Config:
    """A transformers config of what decides the numbers: the sizes, and a few options of config.json.

    Args:
        config: The parsed config.json.
        shape: Its sizes, already judged.
        attention: Name of the attention implementation.

    Raises:
        ExportError: transformers refuses a value.
    """
    try:
        built = GPT2Config(
            n_layer=shape.layers,
            n_head=shape.heads,
            n_embd=shape.hidden,
            n_inner=shape.intermediate,
            n_positions=shape.positions,
            vocab_size=shape.vocab,
            tie_word_embeddings=shape.tied,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
            **{name: config[name] for name in _NUMERIC_OPTIONS if name in config},
        )
        built._attn_implementation = attention
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as failure:
        raise ExportError(
            f"config.json must be a GPT-2 config that transformers accepts: {first_lines(failure, 2)}. "
            "Correct the config."
        ) from failure
    return built


def build_model(config: GPT2Config) -> GPT2LMHeadModel:
    """The untrained module of a config, in evaluation mode.

    Raises:
        ExportError: transformers cannot build it, for instance for an unknown activation function.
    """
    try:
        model = GPT2LMHeadModel(config)
    except (KeyError, ValueError, TypeError) as failure:
        raise ExportError(
            f"config.json must describe a model that transformers can build: {first_lines(failure, 2)}. "
            f"Correct the config."
        ) from failure
    model.train(False)
    return model


def capture(config: Mapping[str, Any], shape: ModelShape, *, logits: Logits, opset: int) -> ir.Model:
    """Traces a model into an ONNX graph whose parameters carry names and shapes, but no values.

    Every output of the contract is traced; which of them a file returns is decided in `passes.tidy`.

    Args:
        config: The parsed config.json.
        shape: Its sizes; `shape.tied` decides whether the head is the embedding table.
        logits: Of `"all"` positions, or of the `"last"` one.
        opset: ONNX opset version.

    Returns:
        The graph. Initializers named as in `shape.parameters()` have no `const_value` yet; small
        constants have theirs. Inputs and outputs are the contract's, in its order.

    Raises:
        ExportError: The config cannot be built, or torch cannot export it.
    """
    names = load_contract().every_output(shape)
    AttentionInterface.register(_ATTENTION, _attention)
    built = build_config(config, shape, attention=_ATTENTION)
    fake = FakeTensorMode()
    with _quiet(), torch.no_grad():
        with fake:
            model = build_model(built)
            for module in model.modules():
                if isinstance(module, Conv1D):
                    module.__class__ = _MatMulProjection
            example = torch.zeros(2, 7, dtype=torch.int64)
        dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}
        try:
            with fake:
                program = torch.export.export(
                    _SeeThrough(model, logits, names),
                    (example,),
                    dynamic_shapes={"input_ids": dynamic},
                    strict=False,
                )
            exported = torch.onnx.export(
                program,
                input_names=[load_contract().input_name],
                output_names=names,
                opset_version=opset,
                optimize=False,  # Folding needs values; `passes.fold` folds what can be folded without.
                verbose=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as failure:
            raise ExportError(
                f"torch could not export this model at opset {opset}: {first_lines(failure, 2)}. Try another --opset."
            ) from failure
    if exported is None:
        raise ExportError(f"torch returned no ONNX program at opset {opset}. Try another --opset.")
    return _name_parameters(exported.model, shape)


class _MatMulProjection(Conv1D):
    """transformers' Conv1D as matrix product and sum: MatMul and Add, with no Reshape around them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        return torch.matmul(x, self.weight) + self.bias


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - None for a causal run; ours is in `seen`.
    *,
    scaling: float,
    seen: dict[str, torch.Tensor],
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention in the open: [batch, heads, seq, head_dim] -> [batch, seq, heads, head_dim]."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling  # [batch, heads, seq, seq]
    probs = torch.softmax(torch.where(seen["causal"], scores, torch.finfo(scores.dtype).min), dim=-1)
    z = torch.matmul(probs, value)
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    for kind, tensor in (
        ("q", query),
        ("k", key),
        ("v", value),
        ("attn_scores", scores),
        ("attn_probs", probs),
        ("attn_z", z),
    ):
        seen[tensor_name(kind, layer)] = tensor
    return z.transpose(1, 2), None


class _SeeThrough(torch.nn.Module):
    """A language model that returns the contract's outputs as a tuple."""

    def __init__(self, model: GPT2LMHeadModel, logits: Logits, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.logits = logits
        self.names = names

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[batch, seq] int64 -> the outputs, in the contract's order."""
        positions = torch.arange(input_ids.shape[1])
        # One mask for all layers: [seq, seq], true where a query may see a key.
        seen = {"causal": positions[None, :] <= positions[:, None]}
        with watch(self.model, seen):
            # Embeddings looked up here spare the graph two Reshapes around input_ids.
            output = self.model(
                inputs_embeds=self.model.transformer.wte(input_ids),
                position_ids=positions[None, :],
                use_cache=False,
                logits_to_keep=1 if self.logits == "last" else 0,
                seen=seen,
            )
        seen["logits"] = output.logits
        # Two names may mean one tensor (what leaves a layer enters the next); ONNX wants two values.
        tensors = [seen[name] for name in self.names]
        return tuple(
            tensor.clone() if any(tensor is other for other in tensors[:index]) else tensor
            for index, tensor in enumerate(tensors)
        )


class Hooks(contextlib.ExitStack):
    """Module hooks that are removed when the block ends."""

    def on_output(self, module: torch.nn.Module, see: Callable[[torch.Tensor], None]) -> None:
        """Calls `see` with what the module returns; with the first part, where that is a tuple."""

        def hook(_module: object, _inputs: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            see(output[0] if isinstance(output, tuple) else output)

        self.callback(module.register_forward_hook(hook).remove)

    def on_input(self, module: torch.nn.Module, see: Callable[[torch.Tensor], None]) -> None:
        """Calls `see` with the module's first argument."""

        def hook(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
            see(inputs[0])

        self.callback(module.register_forward_pre_hook(hook).remove)


def blocks_of(model: GPT2LMHeadModel) -> list[GPT2Block]:
    """The transformer blocks, in order."""
    return [cast(GPT2Block, block) for block in model.transformer.h]


def watch(model: GPT2LMHeadModel, seen: dict[str, torch.Tensor]) -> Hooks:
    """Hooks that put modules' inputs and outputs into `seen`, under the contract's names."""
    hooks, body = Hooks(), model.transformer

    def put(name: str) -> Callable[[torch.Tensor], None]:
        return lambda tensor: seen.__setitem__(name, tensor)

    hooks.on_output(body.wte, put("token_embedding"))
    hooks.on_output(body.wpe, put("position_embedding"))
    hooks.on_input(body.drop, put("embedding_sum"))
    hooks.on_output(body.ln_f, put("final_ln"))
    for layer, block in enumerate(blocks_of(model)):
        hooks.on_input(block, put(tensor_name("resid_pre", layer)))
        hooks.on_output(block.ln_1, put(tensor_name("ln_1", layer)))
        hooks.on_output(block.attn, put(tensor_name("attn_output", layer)))
        hooks.on_input(block.ln_2, put(tensor_name("resid_mid", layer)))
        hooks.on_output(block.ln_2, put(tensor_name("ln_2", layer)))
        hooks.on_output(block.mlp.c_fc, put(tensor_name("mlp_fc1", layer)))
        hooks.on_output(block.mlp.act, put(tensor_name("mlp_gelu", layer)))
        hooks.on_output(block.mlp, put(tensor_name("mlp_output", layer)))
        hooks.on_output(block, put(tensor_name("resid_post", layer)))
    return hooks


def _name_parameters(model: ir.Model, shape: ModelShape) -> ir.Model:
    """Gives initializers the checkpoint's names and takes the fake values off them."""
    graph = model.graph
    for value in list(graph.initializers.values()):
        if not str(value.name).startswith(_MODULE):
            continue
        name = str(value.name).removeprefix(_MODULE)
        if shape.tied and name == HEAD:
            name = EMBEDDING
        del graph.initializers[str(value.name)]
        value.name = name
        value.const_value = None
        graph.initializers[name] = value
    missing = shape.parameters().keys() - graph.initializers.keys()
    if missing:
        raise ExportError(
            f"the traced graph must use every parameter, {sorted(missing)[0]} is not in it. Report this as a defect."
        )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' chatter off the terminal; failures still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "transformers", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
