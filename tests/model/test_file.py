"""Streaming reader and writer: the same models as the onnx package's, and no other file accepted."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_release.base.errors import ContractError, ExportError
from model_release.model.onnx_files import file
from model_release.model.onnx_files.file import checker_problem, read_model, write_model


def test_a_written_file_is_what_the_onnx_package_reads(tiny_onnx: Path, tmp_path: Path) -> None:
    model = read_model(tiny_onnx)
    write_model(model, tmp_path / "copy.onnx", error=ExportError)
    theirs, ours = onnx.load(tiny_onnx), onnx.load(tmp_path / "copy.onnx")
    assert ours == theirs
    assert (tmp_path / "copy.onnx").read_bytes() == tiny_onnx.read_bytes()
    onnx.checker.check_model(ours, full_check=True)


def test_a_file_written_by_the_onnx_package_is_read_the_same(tiny_onnx: Path, tmp_path: Path) -> None:
    onnx.save(onnx.load(tiny_onnx), tmp_path / "theirs.onnx")  # canonical field order, unlike ours
    theirs, ours = read_model(tmp_path / "theirs.onnx"), read_model(tiny_onnx)
    assert ir.to_proto(theirs) == ir.to_proto(ours)


def test_large_tensors_are_left_on_disk_until_asked_for(tiny_onnx: Path) -> None:
    table = read_model(tiny_onnx).graph.initializers["transformer.wte.weight"].const_value
    assert isinstance(table, ir.LazyTensor)
    expected = onnx.numpy_helper.to_array(
        next(tensor for tensor in onnx.load(tiny_onnx).graph.initializer if tensor.name == "transformer.wte.weight")
    )
    np.testing.assert_array_equal(table.numpy(), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool", "float64"])
def test_every_element_type_survives(dtype: str, tmp_path: Path) -> None:
    values = (np.arange(4096) % 2).astype(dtype).reshape(64, 64)
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    output = onnx.helper.make_tensor_value_info("y", kind, [64, 64])
    graph = onnx.helper.make_graph([node], "g", [], [output], [onnx.numpy_helper.from_array(values, "x")])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    model = read_model(tmp_path / "a.onnx")
    write_model(model, tmp_path / "b.onnx", error=ExportError)
    (tensor,) = onnx.load(tmp_path / "b.onnx").graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), values)


def test_a_file_past_the_limit_is_refused_before_it_is_written(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ExportError, match="smaller than 2 GiB"):
        write_model(read_model(tiny_onnx), tmp_path / "model.onnx", error=ExportError)
    assert list(tmp_path.iterdir()) == []


def test_tensors_in_other_files_are_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_onnx)
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ContractError, match="points at another file"):
        read_model(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "content", [b"", b"not onnx", b"\x00" * 100, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"{}"]
)
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ContractError, match="must be an ONNX file"):
        read_model(tmp_path / "model.onnx")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ContractError, match=r"must be an ONNX file|must exist, got no such file"):
            read_model(path)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_a_model_or_a_clear_refusal(
    data: st.DataObject, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(tiny_onnx.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        # Damage where the structure is: the first kilobytes hold metadata, nodes and headers.
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, min(20_000, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "model.onnx"
    path.write_bytes(content)
    try:
        model = read_model(path)
        for value in model.graph.initializers.values():
            assert value.const_value is not None
            value.const_value.numpy()
        checker_problem(path)
    except ContractError as refusal:
        assert str(path) in str(refusal)
