"""Experts in the open: every one on every token, weighted, so that a graph of them is static."""

from typing import Any

import torch
from transformers.integrations.moe import ExpertsInterface

from model_release.model.export.network import NAME


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


def expert_weights(index: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
    """[tokens, k] numbers and weights of experts -> [tokens, experts], 0 where an expert was not chosen."""
    chosen = torch.nn.functional.one_hot(index, count).to(weights.dtype)
    return (chosen * weights[..., None]).sum(1)


ExpertsInterface.register(NAME, _dense_experts)
