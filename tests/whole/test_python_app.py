"""The README's lines for Python read a released model."""

import contextlib
import runpy
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from model_release.contract import manifest
from model_release.contract.metadata import metadata_from_props
from model_release.model.onnx_files.session import Session

READER = Path(__file__).parents[1] / "python_app" / "read.py"


def test_the_reader_gets_the_release_s_arrays_and_metadata(
    tmp_path: Path, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out" / "releases" / "model-v1.0.0"
    place.parent.mkdir(parents=True)
    place.symlink_to(released)
    with contextlib.chdir(tmp_path):
        read = runpy.run_path(str(READER))
    ids = Tokenizer.from_file(str(released / "tokenizer.json")).encode("And the LORD said").ids
    expected = Session(released / "model_fp16.onnx").run(np.array([ids]))
    assert read["outputs"].keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(read["outputs"][name], array, atol=1e-5)
    metadata = metadata_from_props(read["session"].get_modelmeta().custom_metadata_map)
    assert metadata.selection.layers == manifest.read(released).selection.layers
    assert str(metadata.contract_version) in capsys.readouterr().out
