"""What a session takes to be created, where stored weights are decoded: little more than fp32 weights."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import gpt2_folder
from model_release.model.precision.fold_passes import number_passes
from model_release.model.precision.quantize import quantize_file

pytestmark = pytest.mark.slow

CHILD = """
import sys
from pathlib import Path
import onnxruntime

def peak_kib():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

before = peak_kib()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(peak_kib() - before)
"""


@pytest.fixture(scope="module")
def exported(export: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 19 million weights: large enough for its own memory to be more than the runtime's."""
    folder = tmp_path_factory.mktemp("weighty") / "model"
    return export(gpt2_folder(folder, layers=5, hidden=512, heads=8, vocab=6000), activations=None)


def created_bytes(path: Path) -> int:
    """The most memory that creating a session took, in a process of its own."""
    child = subprocess.run([sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True)
    return int(child.stdout) * 1024


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_weights_are_decoded_a_few_at_a_time(precision: str, exported: Path, tmp_path: Path) -> None:
    """That takes 1.9 times the fp32 weights, which onnxruntime packs for products; in a single pass 3.6 to 4 times."""
    quantize_file(exported, tmp_path / "q.onnx", precision)
    assert created_bytes(tmp_path / "q.onnx") < 2.7 * exported.stat().st_size


def test_large_weights_come_first_and_no_pass_is_empty() -> None:
    sizes = {f"matrix {number}": 3 for number in range(40)} | {"table": 100}
    numbers = number_passes(sizes)
    assert numbers["table"] == 0
    assert sorted(set(numbers.values())) == list(range(max(numbers.values()) + 1))
    assert max(numbers.values()) < 9, "the optimizer ends after ten passes"


def test_a_single_matrix_needs_no_second_pass() -> None:
    assert number_passes({"table": 7}) == {"table": 0}
