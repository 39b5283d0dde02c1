"""Small random GPT-2 folders in every layout that is met in the wild, for tests."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

from model_release.contract.blueprint import gpt2_blueprint

EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
"""A GPT-2's tables."""

Format = Literal["safetensors", "sharded", "bin", "legacy-bin"]


def gpt2_config(
    *,
    layers: int = 2,
    hidden: int = 16,
    heads: int = 2,
    vocab: int = 31,
    positions: int = 12,
    tied: bool = True,
    **config: Any,
) -> dict[str, Any]:
    """A config.json as transformers writes it; further entries override or extend it."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_layer": layers,
        "n_head": heads,
        "n_embd": hidden,
        "n_inner": None,
        "n_positions": positions,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": vocab - 1,
        "eos_token_id": vocab - 1,
    } | config


def gpt2_state(config: dict[str, Any], *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random parameters for a config, named as `GPT2LMHeadModel` names them; a tied head has none.

    The values are wide enough for attention to be far from uniform.
    """
    hidden = config["n_embd"]
    blueprint = gpt2_blueprint(
        layers=config["n_layer"],
        heads=config["n_head"],
        hidden=hidden,
        intermediate=config.get("n_inner") or 4 * hidden,
        vocab=config["vocab_size"],
        positions=config["n_positions"],
        tied=config["tie_word_embeddings"],
    )
    random = torch.Generator().manual_seed(seed)
    state = {}
    for name, parameter in blueprint.parameters.items():
        size = parameter.dims
        scale = 0.3 if parameter.is_table or parameter.is_vector else 1 / math.sqrt(size[0])
        norm = ".ln_" in name and name.endswith("weight")
        state[name] = torch.randn(size, generator=random) * scale + (1.0 if norm else 0.0)
    return state


def causal_buffers(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The causal masks that older checkpoints carry, openai-community/gpt2 among them."""
    positions = config["n_positions"]
    mask = torch.tril(torch.ones(positions, positions)).view(1, 1, positions, positions)
    return {
        f"transformer.h.{layer}.attn.{name}": value.clone()
        for layer in range(config["n_layer"])
        for name, value in (("bias", mask), ("masked_bias", torch.tensor(-1e4)))
    }


def without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of the bare `GPT2Model`."""
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def save_weights(folder: Path, state: dict[str, torch.Tensor], *, format: Format = "safetensors") -> None:
    """Writes weights into a folder, as one file or as two shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in state.items()}
    if format == "safetensors":
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    elif format == "sharded":
        names = list(state)
        shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for shard, kept in shards.items():
            save_file({name: state[name] for name in kept}, folder / shard, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {name: shard for shard, kept in shards.items() for name in kept}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=format == "bin")


def gpt2_folder(
    path: Path,
    *,
    layers: int = 2,
    hidden: int = 16,
    heads: int = 2,
    vocab: int = 31,
    positions: int = 12,
    tied: bool = True,
    seed: int = 0,
    prefix: bool = True,
    buffers: bool = False,
    format: Format = "safetensors",
    dtype: str = "float32",
    **config: Any,
) -> Path:
    """Writes a small random GPT-2: config.json and weights.

    Args:
        path: The folder, made if missing.
        layers: Number of blocks.
        hidden: Width of the residual stream.
        heads: Attention heads a layer.
        vocab: Rows of the embedding table.
        positions: The longest sequence.
        tied: Whether the head is the embedding table; if not, the weights hold a head of its own.
        seed: Other seeds, other weights.
        prefix: Whether names start with `transformer.`.
        buffers: Whether the old causal-mask buffers are stored too.
        format: How the weights are stored.
        dtype: What they are stored in, as torch names it.
        **config: Further entries of config.json.

    Returns:
        `path`.
    """
    entries = gpt2_config(
        layers=layers, hidden=hidden, heads=heads, vocab=vocab, positions=positions, tied=tied, **config
    )
    state = {name: value.to(getattr(torch, dtype)) for name, value in gpt2_state(entries, seed=seed).items()}
    if buffers:
        state |= causal_buffers(entries)
    save_weights(path, state if prefix else without_prefix(state), format=format)
    (path / "config.json").write_text(json.dumps(entries, indent=2))
    return path
