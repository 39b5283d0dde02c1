"""Small GPT-2 weights that a test changes before they are written, and what they must be read as."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from builders import Format, gpt2_config, save_weights
from model_release.model.weights.folder import Weights


def with_weights(
    folder: Path, state: dict[str, torch.Tensor], *, format: Format = "safetensors", **config: Any
) -> Path:
    save_weights(folder, state, format=format)
    (folder / "config.json").write_text(json.dumps(gpt2_config(**config)))
    return folder


def put_before(beginning: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {beginning + name: value for name, value in state.items()}


def assert_equals_transformers(weights: Weights) -> None:
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = GPT2LMHeadModel.from_pretrained(weights.folder, dtype=torch.float32, use_safetensors=None)
    expected = model.state_dict()
    for name, parameter in weights.blueprint.parameters.items():
        array = weights.tensor(name)
        assert array.dtype == np.float32
        assert array.shape == parameter.dims
        assert array.flags.c_contiguous
        assert np.array_equal(array, expected[name].numpy()), name
    shares_the_table = model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    assert weights.blueprint.tied == shares_the_table
