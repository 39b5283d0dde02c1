"""A trained llama: SmolLM2-135M-Instruct equals PyTorch in every kind of output, and knows the capital of France.

`python tests/benchmarks/make_smollm2.py FOLDER` makes it; SMOLLM2=FOLDER runs these tests, which takes some minutes.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_release.contract.request import SelectionRequest
from model_release.model.onnx_files.session import Session
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import quantize_file
from model_release.model.weights.source import SourceRequest

FOLDER = Path(os.environ.get("SMOLLM2", "/nonexistent"))
SOURCE = SourceRequest(folder=FOLDER, context=128)

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="SMOLLM2 names no folder of make_smollm2.py")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("smollm2") / "model.onnx"
    export_model(SOURCE, SelectionRequest(), path)
    return path


def test_every_kind_of_output_is_pytorchs(tmp_path: Path) -> None:
    seen = SelectionRequest(layers="0,29", activations="all,head_output,logit_lens")
    result = export_model(SOURCE, seen, tmp_path / "model.onnx", verify=True)
    assert result is not None
    assert {"q_rot", "k_rot", "mlp_up", "head_output", "logit_lens"} <= {row.kind for row in result.deviations}
    assert max(row.relative for row in result.deviations) <= 2e-4
    assert set(result.clauses) >= {"SUM01", "ATTN01", "LENS01", "NUM01", "KL01"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-compute", "int8", "int8-dynamic", "int4"])
def test_the_capital_of_france_is_paris(exported: Path, precision: str, tmp_path: Path) -> None:
    model = exported
    if precision != "fp32":
        model = tmp_path / "model.onnx"
        quantize_file(exported, model, precision)
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    ids = tokenizer.encode("The capital of France is", add_special_tokens=False).ids
    logits = Session(model).run(np.array([ids]), ["logits"])["logits"]  # [1, seq, vocab]
    assert tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
