"""What passes over a traced graph make of its operators."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from model_release.model.export.passes import spell_out_gelus

GELU = """
<ir_version: 9, opset_import: ["": 20]>
model ({type}[n] x) => ({type}[n] y) {{ y = Gelu <approximate = "{approximate}"> (x) }}
"""
X = np.concatenate([np.linspace(-30, 30, 601), [0.0, -0.0, 1e-6, 1e4, -1e4]])


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


@pytest.mark.parametrize(("kind", "dtype", "atol"), [("float", np.float32, 1e-6), ("float16", np.float16, 5e-3)])
def test_gelus_by_tanh_are_written_in_steps_of_the_same_values(kind: str, dtype: type, atol: float) -> None:
    model = ir.from_onnx_text(GELU.format(type=kind, approximate="tanh"))
    whole = run(model, X.astype(dtype))
    assert spell_out_gelus(model)
    assert not spell_out_gelus(model), "a second time there is nothing to do"
    assert "Gelu" not in {node.op_type for node in model.graph}
    np.testing.assert_allclose(
        run(model, X.astype(dtype)), whole, rtol=2e-3 if dtype is np.float16 else 1e-6, atol=atol
    )


def test_exact_gelus_stay_as_they_are() -> None:
    model = ir.from_onnx_text(GELU.format(type="float", approximate="none"))
    assert not spell_out_gelus(model)
    assert [node.op_type for node in model.graph] == ["Gelu"]
