"""Tiny models of every family: configs with odd sizes and shared kv heads, and seeded weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.measures import Array
from model_release.contract.selection import Selection
from model_release.model.export.network import Network, build_network, give_parameters
from model_release.model.export.survey import draw_blueprint

_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 10}
_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.5, 2.0, 3.0, 4.0],
    "original_max_position_embeddings": 16,
    "factor": 2.5,
}


def config(family: str, *, layers: int = 2, **entries: Any) -> dict[str, Any]:
    """A config.json of a family that names its sizes as most do."""
    return {
        "model_type": family,
        "vocab_size": 97,
        "hidden_size": 48,
        "intermediate_size": 88,
        "num_hidden_layers": layers,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 40,
    } | entries


def older(family: str, **entries: Any) -> dict[str, Any]:
    """A config.json of a family with names of its own."""
    return {"model_type": family, "vocab_size": 97} | entries


_PATTERN = {"layers": 4, "sliding_window": 5}
_NEOX: dict[str, Any] = {"num_key_value_heads": None}
_FALCON = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6, "max_position_embeddings": 40}
_GPT2 = {"n_layer": 2, "n_head": 3, "n_embd": 48, "n_inner": 88, "n_positions": 40}
_MOE = {"num_experts": 5, "num_experts_per_tok": 2}

FIRST_WAVE: dict[str, dict[str, Any]] = {
    "gpt2": older("gpt2", **_GPT2),
    "llama, llama3 rope": config("llama", rope_parameters=_LLAMA3, head_dim=8),
    "llama, yarn rope, biases": config("llama", rope_parameters=_YARN, attention_bias=True, mlp_bias=True),
    "llama, tied": config("llama", tie_word_embeddings=True),
    "mistral": config("mistral", sliding_window=5, head_dim=10),
    "qwen2": config("qwen2", tie_word_embeddings=True),
    "qwen2, window": config("qwen2", layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": config("qwen3", head_dim=10, tie_word_embeddings=True),
    "gpt_neox, parallel": config("gpt_neox", **_NEOX),
    "gpt_neox, serial": config("gpt_neox", use_parallel_residual=False, **_NEOX),
    "gpt_neo": older(
        "gpt_neo",
        hidden_size=48,
        num_layers=4,
        attention_types=[[["global", "local"], 2]],
        num_heads=3,
        intermediate_size=88,
        max_position_embeddings=40,
        window_size=5,
    ),
    "opt": older(
        "opt",
        hidden_size=48,
        num_hidden_layers=2,
        ffn_dim=88,
        num_attention_heads=3,
        max_position_embeddings=40,
        word_embed_proj_dim=48,
    ),
    "gemma3_text": config(
        "gemma3_text",
        **_PATTERN,
        head_dim=10,
        query_pre_attn_scalar=12,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "smollm3": config("smollm3", layers=4, no_rope_layer_interval=4),
}

LATER_WAVES: dict[str, dict[str, Any]] = {
    "gemma": config("gemma", head_dim=10, num_key_value_heads=1),
    "gemma2": config(
        "gemma2",
        **_PATTERN,
        head_dim=10,
        query_pre_attn_scalar=12,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
    ),
    "phi": config("phi", num_key_value_heads=6, partial_rotary_factor=0.5),
    "phi3": config("phi3", sliding_window=5),
    "phi3, longrope": config("phi3", rope_parameters=_LONG, original_max_position_embeddings=16),
    "olmo": config("olmo"),
    "olmo2": config("olmo2"),
    "olmo3": config("olmo3", **_PATTERN),
    "granite": config(
        "granite", embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.4, attention_multiplier=0.2
    ),
    "starcoder2": config("starcoder2", sliding_window=5),
    "stablelm": config("stablelm", partial_rotary_factor=0.5),
    "stablelm, parallel": config("stablelm", partial_rotary_factor=0.5, use_parallel_residual=True, qk_layernorm=True),
    "cohere": config("cohere", logit_scale=0.3, use_qk_norm=True),
    "cohere2": config("cohere2", **_PATTERN, logit_scale=0.3),
    "falcon": older(
        "falcon", **_FALCON, multi_query=True, parallel_attn=True, bias=False, alibi=False, ffn_hidden_size=88
    ),
    "falcon, new": older(
        "falcon",
        **_FALCON,
        num_kv_heads=2,
        multi_query=False,
        bias=False,
        alibi=False,
        new_decoder_architecture=True,
        ffn_hidden_size=88,
    ),
    "bloom": older("bloom", hidden_size=48, n_layer=2, n_head=6),
    "gptj": older("gptj", **_GPT2, rotary_dim=6),
    "gpt_bigcode": older("gpt_bigcode", **_GPT2, multi_query=True),
    "exaone4": config("exaone4", **_PATTERN, sliding_window_pattern=4, head_dim=8),
    "exaone4, one kv head": config("exaone4", **_PATTERN, sliding_window_pattern=4, head_dim=8, num_key_value_heads=1),
    "glm4": config("glm4", head_dim=8),
    "nemotron": config("nemotron"),
    "hunyuan_v1_dense": config("hunyuan_v1_dense", head_dim=8),
    "ernie4_5": config("ernie4_5", head_dim=8),
    "helium": config("helium", head_dim=8),
    "seed_oss": config("seed_oss", head_dim=8),
    "apertus": config("apertus"),
    "arcee": config("arcee"),
    "mixtral": config("mixtral", num_local_experts=5, num_experts_per_tok=2, sliding_window=5),
    "qwen3_moe": config("qwen3_moe", **_MOE, moe_intermediate_size=20, head_dim=10, decoder_sparse_step=2),
    "olmoe": config("olmoe", **_MOE),
    "granitemoe": config("granitemoe", num_local_experts=5, num_experts_per_tok=2, residual_multiplier=0.4),
    "gpt_oss": config(
        "gpt_oss", **_PATTERN, num_local_experts=5, num_experts_per_tok=2, head_dim=8, rope_parameters=_YARN
    ),
}

EVERY = FIRST_WAVE | LATER_WAVES

RELATIVE = 2e-4
"""How far an output may be from the family's own code, root mean squares by root mean squares."""


def family_state(blueprint: Blueprint, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random parameters of a blueprint, wide enough for attention to be far from uniform; a tied head has none."""
    random = torch.Generator().manual_seed(seed)
    # Gemma's norms multiply by 1 + weight.
    norm = 0.0 if blueprint.family.startswith("gemma") else 1.0
    state = {}
    for name, parameter in blueprint.parameters.items():
        values = torch.randn(parameter.dims, generator=random)
        if parameter.is_vector:
            state[name] = values * 0.2 + (norm if name.endswith("weight") else 0.0)
        else:
            state[name] = values * (0.3 if parameter.is_table else parameter.inputs**-0.5)
    return state


def family_folder(path: Path, entries: dict[str, Any]) -> Path:
    """Writes a model folder: config.json and weights, under the model's own names."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(entries))
    save_file(family_state(draw_blueprint(entries)), path / "model.safetensors", metadata={"format": "pt"})
    return path


@cache
def network(name: str, *, in_the_open: bool) -> tuple[Network, Blueprint]:
    """A tiny model of a family with its weights."""
    blueprint = draw_blueprint(EVERY[name])
    made = build_network(EVERY[name], in_the_open=in_the_open, tied=blueprint.tied)
    state = family_state(blueprint)
    give_parameters(made, lambda parameter, _: state[parameter])
    return made, blueprint


def token_ids(blueprint: Blueprint, batch: int, seq: int) -> Array:
    """Random ids, [batch, seq]."""
    return np.random.default_rng(1).integers(0, blueprint.vocab, size=(batch, seq), dtype=np.int64)


def every_output(blueprint: Blueprint, *leave_out: str) -> tuple[Output, ...]:
    """Every output that a model can have, but for some kinds."""
    kinds = tuple(kind for kind in load_contract().all_activations if kind not in leave_out)
    return load_contract().expected_outputs(
        blueprint, Selection(layers=tuple(range(blueprint.layers)), activations=kinds)
    )
