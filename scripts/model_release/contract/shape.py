"""What a config.json says a model is: its shape, and the name and shape of every parameter.

This is the registry of supported architectures. Everything here is plain data: hostile or broken
configs are refused before any weight is read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_release.base.errors import WeightsError

SUPPORTED = ("gpt2",)
"""The `model_type` values of transformers that can be exported."""

EMBEDDING = "transformer.wte.weight"
"""The token embedding table, `[vocab, hidden]`; a tied model's head is this very table."""

POSITIONS = "transformer.wpe.weight"
"""The position table, `[positions, hidden]`."""

HEAD = "lm_head.weight"
"""An untied head, `[vocab, hidden]`."""

# transformers' own limit is none; these keep a hostile config from asking for absurd graphs.
_LIMITS = {
    "layers": 512,
    "heads": 1024,
    "hidden": 65_536,
    "intermediate": 1_048_576,
    "vocab": 4_194_304,
    "positions": 1_048_576,
}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The sizes of a GPT-2 model.

    Attributes:
        layers: Number of transformer blocks.
        heads: Attention heads a layer.
        hidden: Width of the residual stream.
        intermediate: Width of the MLP's hidden layer (`n_inner`, by default 4 × hidden).
        vocab: Rows of the token embedding.
        positions: The longest sequence.
        tied: Whether the head is the token embedding table.
    """

    layers: int
    heads: int
    hidden: int
    intermediate: int
    vocab: int
    positions: int
    tied: bool

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the unique parameters, in transformers' `GPT2LMHeadModel` layout.

        Matrices of `Conv1D` are `[in, out]`, embeddings `[rows, hidden]`. A tied head has no entry.
        """
        hidden, inner = self.hidden, self.intermediate
        shapes: dict[str, tuple[int, ...]] = {
            EMBEDDING: (self.vocab, hidden),
            POSITIONS: (self.positions, hidden),
        }
        for layer in range(self.layers):
            block = f"transformer.h.{layer}"
            shapes |= {
                f"{block}.ln_1.weight": (hidden,),
                f"{block}.ln_1.bias": (hidden,),
                f"{block}.attn.c_attn.weight": (hidden, 3 * hidden),
                f"{block}.attn.c_attn.bias": (3 * hidden,),
                f"{block}.attn.c_proj.weight": (hidden, hidden),
                f"{block}.attn.c_proj.bias": (hidden,),
                f"{block}.ln_2.weight": (hidden,),
                f"{block}.ln_2.bias": (hidden,),
                f"{block}.mlp.c_fc.weight": (hidden, inner),
                f"{block}.mlp.c_fc.bias": (inner,),
                f"{block}.mlp.c_proj.weight": (inner, hidden),
                f"{block}.mlp.c_proj.bias": (hidden,),
            }
        shapes["transformer.ln_f.weight"] = (hidden,)
        shapes["transformer.ln_f.bias"] = (hidden,)
        if not self.tied:
            shapes[HEAD] = (self.vocab, hidden)
        return shapes

    @property
    def parameter_count(self) -> int:
        """Number of unique parameters; a tied table counts once."""
        return sum(math.prod(shape) for shape in self.parameters().values())


def is_table(name: str) -> bool:
    """Whether a parameter is a table, `[rows, hidden]`, and no matrix of `Conv1D`, `[in, out]`."""
    return name in (EMBEDDING, POSITIONS, HEAD)


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """Reads a model's shape from its config.json, with transformers' defaults for GPT-2.

    Args:
        config: The parsed config.json. Both spellings of a size (`n_layer`, `num_hidden_layers`)
            are read, as transformers does. `tied` is what the config asks for; the weights may
            overrule it (see `model.weights.folder`).

    Raises:
        WeightsError: The architecture is not supported, or a value is missing or absurd.
    """
    model_type = config.get("model_type")
    if model_type not in SUPPORTED:
        raise WeightsError(
            f"config.json's model_type must be one of: {', '.join(SUPPORTED)}; got {_short(model_type)}. "
            "Choose a model of a supported architecture."
        )
    architectures = config.get("architectures")
    if architectures is not None and (
        not isinstance(architectures, list)
        or not all(isinstance(name, str) and name in {"GPT2LMHeadModel", "GPT2Model"} for name in architectures)
    ):
        raise WeightsError(
            f"config.json's architectures must be GPT2LMHeadModel, got {_short(architectures)}. "
            "Choose a language model; other heads have no logits to release."
        )
    if config.get("add_cross_attention"):
        raise WeightsError(
            "config.json's add_cross_attention must be false. Cross attention needs a second input, "
            "which the contract has not."
        )
    tied = config.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise WeightsError(
            f"config.json's tie_word_embeddings must be true or false, got {_short(tied)}. Correct the config."
        )
    hidden = _size(config, "hidden", ("n_embd", "hidden_size"), 768)
    inner = config.get("n_inner")
    shape = ModelShape(
        layers=_size(config, "layers", ("n_layer", "num_hidden_layers"), 12),
        heads=_size(config, "heads", ("n_head", "num_attention_heads"), 12),
        hidden=hidden,
        intermediate=4 * hidden if inner is None else _size(config, "intermediate", ("n_inner",), None),
        vocab=_size(config, "vocab", ("vocab_size",), 50257),
        positions=_size(config, "positions", ("n_positions", "max_position_embeddings"), 1024),
        tied=tied,
    )
    if shape.hidden % shape.heads:
        raise WeightsError(
            f"config.json's n_embd must be a multiple of n_head, got {shape.hidden} and {shape.heads}. "
            f"Correct the config."
        )
    return shape


def has_sane_sizes(shape: ModelShape) -> bool:
    """Whether every size is a whole number within the limits a config is held to, and heads divide hidden."""
    sizes = {field: getattr(shape, field) for field in _LIMITS}
    whole = all(type(size) is int and 1 <= size <= _LIMITS[field] for field, size in sizes.items())
    return whole and type(shape.tied) is bool and shape.hidden % shape.heads == 0


def _size(config: Mapping[str, Any], field: str, keys: tuple[str, ...], default: int | None) -> int:
    """One whole number of the config, within sane limits."""
    given = {key: config[key] for key in keys if key in config}
    key, value = next(iter(given.items()), (keys[0], default))
    if len({repr(other) for other in given.values()}) > 1:
        raise WeightsError(f"config.json's {' and '.join(given)} must be equal, got {_short(given)}. Keep one of them.")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LIMITS[field]:
        raise WeightsError(
            f"config.json's {key} must be a whole number from 1 to {_LIMITS[field]}, got {_short(value)}. "
            f"Correct the config."
        )
    return value


def _short(value: object) -> str:
    """A value as text for a message, however long or odd it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
