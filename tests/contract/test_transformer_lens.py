"""The names that the contract gives to TransformerLens' hook points hold what ours do.

TransformerLens needs an environment of its own: `pip install transformer-lens==4.3.0`, and its interpreter in
TRANSFORMER_LENS_PYTHON. Without that the test is skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from model_release.contract.activations import load_contract
from model_release.contract.tensor_names import tensor_name
from model_release.model.onnx_files.session import Session

IDS = [3, 14, 15, 9, 2, 6]
CHILD = Path(__file__).parents[1] / "support" / "transformer_lens_cache.py"
PYTHON = os.environ.get("TRANSFORMER_LENS_PYTHON", "")


@pytest.mark.skipif(not PYTHON, reason="TRANSFORMER_LENS_PYTHON names no interpreter")
def test_every_output_is_what_transformer_lens_has_under_that_name(tmp_path: Path, tiny: Path, tiny_onnx: Path) -> None:
    subprocess.run([PYTHON, CHILD, tiny, json.dumps(IDS), tmp_path / "cache.npz"], check=True, capture_output=True)
    theirs = np.load(tmp_path / "cache.npz")
    released = Session(tiny_onnx).run(np.array([IDS]))
    seen = np.tri(len(IDS), dtype=bool)  # TransformerLens' scores are masked already.
    compared = set()
    for output in load_contract().outputs:
        for layer in range(3) if output.layered else (None,):
            name = tensor_name(output.kind, layer)
            ours, hook = released[name], theirs[output.transformer_lens.format(L=layer)]
            if output.kind in ("q", "k", "v", "attn_z"):
                hook = hook.swapaxes(1, 2)
            if output.kind == "attn_scores":
                ours, hook = ours[..., seen], hook[..., seen]
            np.testing.assert_allclose(ours, hook, atol=1e-5, rtol=1e-5, err_msg=name)
            compared.add(name)
    assert compared == set(released)
