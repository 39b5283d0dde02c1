"""A safetensors file: views of it, of every alignment, without PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import EMBEDDING, gpt2_config, gpt2_folder, gpt2_state
from gpt2_weights import with_weights
from model_release.base.errors import WeightsError
from model_release.model.weights.folder import load_folder


def test_an_unaligned_file_is_read_right(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    expected = load_folder(folder).tensor(EMBEDDING).copy()
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].rstrip() + b" " * 3
    header += b" " * (1 - len(header) % 2)  # An odd length puts every float32 off its boundary.
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    array = load_folder(folder).tensor(EMBEDDING)
    assert array.flags.aligned
    assert np.array_equal(array, expected)


def test_float32_tensors_are_read_only_views_of_the_file(tmp_path: Path) -> None:
    array = load_folder(gpt2_folder(tmp_path)).tensor(EMBEDDING)
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_a_float64_too_large_for_float32_becomes_infinite_and_is_not_judged_here(tmp_path: Path) -> None:
    config = gpt2_config()
    state = {name: value.double() for name, value in gpt2_state(config).items()}
    state["transformer.ln_f.bias"][:2] = torch.tensor([1e300, float("nan")])
    array = load_folder(with_weights(tmp_path, state)).tensor("transformer.ln_f.bias")
    assert np.isposinf(array[0])
    assert np.isnan(array[1])


def test_a_file_cut_short_after_it_was_checked_is_a_clear_error(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    weights = load_folder(folder)
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(WeightsError, match="must stay as it is while it is read"):
        weights.tensor(EMBEDDING)


def test_safetensors_need_no_torch(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from model_release.model.weights.safetensors_file import SafetensorsFile\n"
        f"SafetensorsFile(Path({str(folder / 'model.safetensors')!r})).read({EMBEDDING!r});"
        "print('torch' in sys.modules)"
    )
    scripts = Path(__file__).parents[2] / "scripts"
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(scripts)}, capture_output=True, check=True
    )
    assert result.stdout.strip() == b"False"
