"""Pickles: tensors and nothing else come out of them, whatever they ask for."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import gpt2_config, gpt2_folder, gpt2_state
from gpt2_weights import put_before, with_weights
from model_release.base.errors import WeightsError
from model_release.model.weights.folder import load_folder
from model_release.model.weights.pickle_file import PickledFile
from workroom import at_most


class _RunsCode:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"echo ran > {self.marker}",))


@pytest.mark.parametrize("wrapping", ["archive", "legacy", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, wrapping: str) -> None:
    marker = tmp_path / "marker"
    folder = gpt2_folder(tmp_path / "model", format="bin")
    state = gpt2_state(gpt2_config()) | {"transformer.ln_f.bias": _RunsCode(marker)}
    path = folder / "pytorch_model.bin"
    if wrapping == "plain pickle":
        path.write_bytes(pickle.dumps(_RunsCode(marker)))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=wrapping == "archive")
    with pytest.raises(WeightsError, match=r"must be a pickle of nothing but tensors.*nothing in it was run"):
        load_folder(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [[torch.ones(2)], {1: torch.ones(2)}, {"weights": {"a": torch.ones(2)}}, {"a": torch.ones(2).to_sparse()}],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    folder = gpt2_folder(tmp_path, format="bin")
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"must hold (named tensors|dense tensors|the tensors of one model)"):
        load_folder(folder)


class _Asks:
    """A pickle that calls something which PyTorch lets through, and which takes five gigabytes."""

    def __init__(self, what: Callable[..., Any]) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what, (5 * 10**9,)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("what", [bytearray, torch.Tensor, torch.FloatStorage], ids=lambda what: what.__name__)
def test_a_pickle_that_asks_for_memory_is_refused_before_it_gets_any(
    tmp_path: Path, what: Callable[..., Any], is_archive: bool
) -> None:
    torch.save({"a": _Asks(what)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=is_archive)
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match="must be a"):
        PickledFile(tmp_path / "pytorch_model.bin")


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("model/data.pkl", "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match="compressed"):
        PickledFile(path)


PICKLES = {
    "a memo of 2^31 places": (b"\x80\x02}r\xff\xff\xff\x7f.", "more parts than bytes"),
    "bytes that are not there": (b"\x80\x05\x96" + (5 * 10**9).to_bytes(8, "little") + b".", "must be a"),
    "tuples that overflow the stack": (b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.", "tensors"),
    "a storage of more than the file": (b"\x80\x02(J\xff\xff\xff\x7ftQ.", "more elements"),
}


@pytest.mark.parametrize(("content", "says"), PICKLES.values(), ids=PICKLES)
def test_a_pickle_of_lies_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with at_most(seconds=60, memory_bytes=2**30), pytest.raises(WeightsError, match=says):
        PickledFile(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
def test_a_negative_view_is_read_as_its_values(tmp_path: Path, is_archive: bool) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch._neg_view(torch.ones(3))}, path, _use_new_zipfile_serialization=is_archive)
    assert PickledFile(path).read("a").tolist() == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "module"])
def test_the_model_of_a_training_checkpoint_is_read(tmp_path: Path, key: str) -> None:
    state = gpt2_state(gpt2_config())
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 1e-4}]}
    checkpoint = {key: put_before("_orig_mod.", state), "optimizer": optimizer, "iter_num": 7, "best_val_loss": 1.5}
    folder = with_weights(tmp_path, state)
    (folder / "model.safetensors").unlink()
    torch.save(checkpoint, folder / "pytorch_model.bin")
    weights = load_folder(folder)
    assert all(np.array_equal(weights.tensor(name), state[name].numpy()) for name in weights.blueprint.parameters)


@pytest.mark.parametrize("keys", [["ema"], ["ema", "teacher"], ["model", "state_dict"]])
def test_a_checkpoint_of_unclear_models_names_what_is_in_it(tmp_path: Path, keys: list[str]) -> None:
    state = gpt2_state(gpt2_config())
    folder = with_weights(tmp_path, state)
    (folder / "model.safetensors").unlink()
    torch.save({"epoch": 3, **dict.fromkeys(keys, state)}, folder / "pytorch_model.bin")
    with pytest.raises(
        WeightsError, match=f"got a checkpoint with tensors at '{', '.join(keys)}'. Save the model's alone"
    ):
        load_folder(folder)
