"""Precisions: the tolerance that a model's layers ask for."""

import doctest
from dataclasses import replace

from model_release.contract import precision
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.precision import FULL_PRECISION

SIZES = {"layers": 12, "heads": 12, "hidden": 768, "intermediate": 3072, "vocab": 50257, "positions": 1024}
GPT2 = gpt2_blueprint(**SIZES, tied=True)


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(precision).failed == 0


def test_only_models_with_gates_get_the_looser_tolerance_of_fp32() -> None:
    """It stays tight for GPT-2, and no other precision's changes."""
    kinds_of_layers = {letter: replace(kind, outputs=(*kind.outputs, "mlp_up")) for letter, kind in GPT2.kinds.items()}
    gated = replace(GPT2, kinds=kinds_of_layers)
    for each in load_contract().precisions.values():
        assert each.in_model(GPT2) == each
        kinds = each.tolerances
        loosened = {kind for kind in kinds if each.in_model(gated).tolerances[kind] != kinds[kind]}
        assert loosened == (set(kinds) if each.name == FULL_PRECISION else set())
