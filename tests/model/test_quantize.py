"""Stored precisions: sizes, numbers against PyTorch, and models that are hard to store in few bits."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from builders import gpt2_config, gpt2_folder, gpt2_state, save_weights
from commands import traced_once
from model_release.base.errors import QuantizeError, ReleaseError
from model_release.contract.activations import load_contract
from model_release.contract.file_checks import stored_bytes
from model_release.contract.metadata import metadata_from_props
from model_release.contract.request import SelectionRequest
from model_release.model.onnx_files.facts import read_facts
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import quantize_file
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import CachedReference, Verification, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

pytestmark = pytest.mark.slow

PRECISIONS = ["fp16", "fp16-compute", "int8", "int8-dynamic", "int8-static", "int4", "int4-compute", "small"]
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"layers": 1, "tied": False},
    "vocabulary of 3": {"layers": 1, "vocab": 3},
    "odd sizes": {"layers": 1, "hidden": 21, "heads": 3, "vocab": 257, "n_inner": 13},
}


@dataclass(frozen=True)
class Original:
    """A model exported once for all precisions, and PyTorch's answers on it."""

    folder: Path
    exported: Path
    reference: CachedReference

    def verified(self, precision: str, target: Path) -> Verification:
        """A precision of it, verified against PyTorch."""
        quantize_file(self.exported, target, precision)
        return verify_file(target, reference=self.reference)


@pytest.fixture(scope="module")
def original(export: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Original]:
    """Makes a model by its name: one of `SHAPES`, or the factor of its outliers."""

    @cache
    def make(name: str | int) -> Original:
        folder = tmp_path_factory.mktemp("original") / "model"
        if isinstance(name, int):
            outlier_folder(folder, name)
        else:
            gpt2_folder(folder, **SHAPES[name])
        return Original(folder, export(folder, all_layers=True), CachedReference(Reference(load_folder(folder))))

    return make


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_fulfils_the_contract(
    shape: str, precision: str, original: Callable[..., Original], tmp_path: Path
) -> None:
    result = original(shape).verified(precision, tmp_path / "q.onnx")
    assert list(map(str, result.findings)) == []
    assert result.metadata.precision == precision


@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.51), ("int8-dynamic", 0.27)])
def test_stored_tensors_take_the_bits_that_the_precision_names(
    precision: str, share: float, tiny_onnx: Path, tmp_path: Path
) -> None:
    quantize_file(tiny_onnx, tmp_path / "q.onnx", precision)
    size, full = (
        sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)
        for path in (tmp_path / "q.onnx", tiny_onnx)
    )
    shape = metadata_from_props(read_facts(tiny_onnx).props).blueprint
    assert abs(size / stored_bytes(shape, load_contract().precision(precision)) - 1) < 0.05
    assert size < full * (share + 0.12)  # Scales and vectors weigh more in a model this small.


@pytest.mark.parametrize("precision", PRECISIONS)
def test_quantizing_twice_gives_identical_bytes(precision: str, tiny_onnx: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantize_file(tiny_onnx, tmp_path / name, precision)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_made_straight_from_the_weights_is_the_same_file(
    precision: str, original: Callable[..., Original], tmp_path: Path
) -> None:
    model = original("tied")
    quantize_file(model.exported, tmp_path / "q.onnx", precision)
    source, selection = SourceRequest(folder=model.folder), SelectionRequest(all_layers=True, activations="all")
    with traced_once():
        export_model(source, selection, tmp_path / "straight.onnx", precision=precision)
    assert (tmp_path / "straight.onnx").read_bytes() == (tmp_path / "q.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q.onnx", "straight.onnx"]


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4", "small"])
@pytest.mark.parametrize("shape", ["tied", "untied", "odd sizes"])
def test_decoding_is_folded_when_a_session_is_created(
    shape: str, precision: str, original: Callable[..., Original], tmp_path: Path
) -> None:
    """What runs is the fp32 graph, and every weight of it is float32."""
    source = original(shape).exported
    quantize_file(source, tmp_path / "q.onnx", precision)
    graphs = []
    for path in (source, tmp_path / "q.onnx"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graphs.append(onnx.load(tmp_path / "optimized.onnx").graph)
    full, decoded = (sorted(node.op_type for node in graph.node) for graph in graphs)
    assert decoded == full
    kinds = {tensor.data_type for tensor in graphs[1].initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


def test_products_of_4_bits_need_operators_of_onnxruntime_which_no_other_precision_may_have(
    original: Callable[..., Original], tmp_path: Path
) -> None:
    precisions = load_contract().precisions
    assert {name for name, precision in precisions.items() if precision.domains} == {"int4-compute"}
    quantize_file(original("untied").exported, tmp_path / "q.onnx", "int4-compute")
    model = onnx.load(tmp_path / "q.onnx")
    assert {node.op_type for node in model.graph.node if node.domain} == {"MatMulNBits", "GatherBlockQuantized"}
    changed = metadata_from_props(read_facts(tmp_path / "q.onnx").props)
    onnx.helper.set_model_props(model, replace(changed, precision="int8").to_props())
    onnx.save(model, tmp_path / "claims.onnx")
    says = [str(finding) for finding in verify_file(tmp_path / "claims.onnx", reference=None).findings]
    assert any("operators must be of the standard ONNX domain, got com.microsoft" in line for line in says)


@pytest.mark.parametrize(("shape", "tables"), [("tied", 2), ("untied", 3)])
def test_a_tied_head_multiplies_with_the_table_that_embeddings_are_looked_up_in(
    shape: str, tables: int, original: Callable[..., Original], tmp_path: Path
) -> None:
    quantize_file(original(shape).exported, tmp_path / "q.onnx", "int4-compute")
    graph = onnx.load(tmp_path / "q.onnx").graph
    readers = [node.input[1] if node.op_type == "MatMulNBits" else node.input[0] for node in graph.node if node.domain]
    of_layers = {name for name in readers if ".h." in name}
    assert len(set(readers) - of_layers) == tables  # Tokens, positions, and a head of its own.


def test_4_bit_products_need_scales_that_the_optimizer_has_made_constants(tiny_onnx: Path, tmp_path: Path) -> None:
    """Zeros without an error, in onnxruntime 1.32: once this fails, the contract's warning can go."""
    quantize_file(tiny_onnx, tmp_path / "q.onnx", "int4-compute")
    logits = []
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(tmp_path / "q.onnx", options, providers=["CPUExecutionProvider"])
        logits.append(session.run(["logits"], {"input_ids": np.arange(8)[None]})[0])
    none, basic, every = logits
    np.testing.assert_allclose(basic, every, atol=1e-5)
    assert np.abs(every).max() > 0
    assert np.abs(none).max() == 0


FLOAT_PRODUCTS = ["fp32", "fp16", "int8", "int4", "small"]


@pytest.mark.parametrize("precision", [*FLOAT_PRODUCTS, "fp16-compute", "int8-dynamic", "int8-static"])
@pytest.mark.parametrize("shape", ["tied", "untied", "odd sizes"])
def test_the_standards_own_evaluator_returns_what_onnxruntime_returns(
    shape: str, precision: str, original: Callable[..., Original], tmp_path: Path
) -> None:
    """A file of ours is plain ONNX: whoever follows the standard runs it, and nothing rests on one runtime's habits.

    int4-compute is the exception that its contract names.
    """
    path = original(shape).exported
    if precision != "fp32":
        quantize_file(path, tmp_path / "q.onnx", precision)
        path = tmp_path / "q.onnx"
    ids = np.array([[0, 2, 1, 1, 2, 0, 1, 2]])  # Every vocabulary has three tokens.
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    got = ReferenceEvaluator(str(path)).run(names, {"input_ids": ids})
    for name, array, expected in zip(names, got, session.run(names, {"input_ids": ids}), strict=True):
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape), name
        # Halves and levels may be rounded to either side of where two sums differ in their last digit.
        limit = 2e-6 if precision in FLOAT_PRODUCTS else load_contract().precision(precision).max_relative_error
        assert np.abs(array - expected).max() <= limit * max(1, np.abs(expected).max()), name


def test_int8_products_run_in_integers_with_the_table_stored_once(tiny_onnx: Path, tmp_path: Path) -> None:
    quantize_file(tiny_onnx, tmp_path / "q.onnx", "int8-dynamic")
    model = onnx.load(tmp_path / "q.onnx")
    types = [node.op_type for node in model.graph.node]
    assert types.count("MatMulInteger") == 3 * 4 + 1  # four projections a layer, and the head
    assert [tensor.name for tensor in model.graph.initializer if "wte" in tensor.name] == [
        "transformer.wte.weight.int8",
        "transformer.wte.weight.scale",
    ]


def test_static_products_run_in_integers_as_qdq_is_fused(tiny_onnx: Path, tmp_path: Path) -> None:
    quantize_file(tiny_onnx, tmp_path / "q.onnx", "int8-static")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4  # It warns that an optimized file is for this machine.
    onnxruntime.InferenceSession(tmp_path / "q.onnx", options, providers=["CPUExecutionProvider"])
    types = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert types.count("MatMulIntegerToFloat") == 3 * 4 + 1
    assert "DequantizeLinear" not in types


def test_int8_weights_leave_room_for_pairs_of_products_in_16_bits(tiny_onnx: Path, tmp_path: Path) -> None:
    """x64 without VNNI adds two u8 x s8 products in 16 bits: 2 x 255 x 64 fits, 2 x 255 x 127 would saturate."""
    quantize_file(tiny_onnx, tmp_path / "q.onnx", "int8-dynamic")
    for tensor in onnx.load(tmp_path / "q.onnx").graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() == 64
    assert 2 * 255 * 64 < 2**15


def test_the_runtimes_own_dynamic_quantization_would_break_causality(
    tiny: Path, export: Callable[..., Path], tmp_path: Path
) -> None:
    """Why ours takes a scale for each token: one scale for all lets later tokens into earlier ones."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = export(tiny, activations=None, all_layers=True)  # Theirs names its scales as our ln_1_scale outputs.
    quantize_dynamic(plain, tmp_path / "theirs.onnx", weight_type=QuantType.QInt8)
    quantize_file(plain, tmp_path / "ours.onnx", "int8-dynamic")
    ids = np.arange(12)[None]
    changed = ids.copy()
    changed[:, 6:] = 30 - ids[:, 6:]

    def leak(path: Path) -> float:
        session = onnxruntime.InferenceSession(path)
        before, after = (session.run(["logits"], {"input_ids": each})[0][:, :6] for each in (ids, changed))
        return float(np.abs(before - after).max())

    assert leak(tmp_path / "ours.onnx") == 0
    assert leak(tmp_path / "theirs.onnx") > 1e-3


def outlier_folder(path: Path, factor: float) -> Path:
    """A GPT-2 with channels like real GPT-2's: a few are `factor` times larger at the first position."""
    config = gpt2_config(layers=3, hidden=32, heads=4, vocab=101, positions=24)
    state = gpt2_state(config)
    state["transformer.wpe.weight"][0, [3, 17, 29]] *= factor
    state["transformer.h.0.mlp.c_proj.bias"][[3, 17]] += torch.tensor([2.0, -3.0])
    save_weights(path, state)
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.long_cases(*(f"{precision}-{factor}" for precision in PRECISIONS for factor in (1, 1000)))
@pytest.mark.parametrize("factor", [1, 30, 1000, 30_000])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_outliers_pass_with_right_numbers_or_fail_with_a_finding(
    factor: int, precision: str, original: Callable[..., Original], tmp_path: Path
) -> None:
    result = original(factor).verified(precision, tmp_path / "q.onnx")
    if result.passed:
        ids = np.arange(24)[None]
        outputs = load_contract().expected_outputs(result.metadata.blueprint, result.metadata.selection)
        expected = original(factor).reference.run(ids, outputs, last_logits=False)
        session = onnxruntime.InferenceSession(tmp_path / "q.onnx")
        for name, array in zip(expected, session.run(list(expected), {"input_ids": ids}), strict=True):
            error = np.linalg.norm(array - expected[name]) / np.linalg.norm(expected[name])
            assert error <= load_contract().precision(precision).max_relative_error, name
    else:
        with pytest.raises(ReleaseError, match="must fulfil the contract"):
            result.require()


def test_a_weight_that_fp16_cannot_hold_is_named(export: Callable[..., Path], tmp_path: Path) -> None:
    config = gpt2_config()
    state = gpt2_state(config)
    state["transformer.h.1.mlp.c_fc.weight"][0, 0] = 1e6
    save_weights(tmp_path / "model", state)
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    model = export(tmp_path / "model")
    with pytest.raises(QuantizeError, match=r"transformer\.h\.1\.mlp\.c_fc\.weight must lie within ±65504"):
        quantize_file(model, tmp_path / "q.onnx", "fp16")
    assert not (tmp_path / "q.onnx").exists()


def test_only_the_fp32_model_can_be_quantized(tiny_onnx: Path, tmp_path: Path) -> None:
    quantize_file(tiny_onnx, tmp_path / "q.onnx", "fp16")
    with pytest.raises(QuantizeError, match="must be an fp32 model, got fp16"):
        quantize_file(tmp_path / "q.onnx", tmp_path / "again.onnx", "int8-dynamic")
