"""What kind of module one is, whatever its family calls it: norm, product, attention, activation."""

import re

import torch
from transformers.pytorch_utils import Conv1D


def is_norm(module: torch.nn.Module) -> bool:
    """Whether a module is a norm."""
    return "norm" in type(module).__name__.lower()


def is_linear(module: torch.nn.Module) -> bool:
    """Whether a module is one product with a matrix."""
    return isinstance(module, torch.nn.Linear | Conv1D)


def is_attention(module: torch.nn.Module) -> bool:
    """Whether a module is attention, or holds it."""
    return "Attention" in type(module).__name__


def is_activation(module: torch.nn.Module) -> bool:
    """Whether a module is an activation function."""
    homes = ("transformers.activations", "torch.nn.modules.activation")
    return type(module).__module__ in homes or (
        re.search("gelu|silu|relu", type(module).__name__, re.I) is not None and not any(module.children())
    )


def norm_scale(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
    """What a norm divides by: [..., hidden] -> [..., 1]."""
    names = ("eps", "variance_epsilon", "epsilon")
    epsilon = next((float(getattr(module, name)) for name in names if hasattr(module, name)), 1e-5)
    if "RMS" not in type(module).__name__:
        given = given - given.mean(-1, keepdim=True)
    return (given.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()
