"""Passes over the ONNX graph, and the facts of a graph that the contract judges.

A pass takes a model, changes it in place and says whether it did; running it twice changes nothing.
"""

from pathlib import Path

import onnx_ir as ir

from model_release.contract.file_checks import ModelFacts, TensorFacts, ValueFacts
from model_release.model.onnx_files.data_files import model_bytes
from model_release.model.onnx_files.file import checker_problem, read_model


def read_facts(path: Path) -> ModelFacts:
    """What the contract needs to know of a model file, without running it.

    Raises:
        ContractError: The file is no ONNX model, or the ONNX checker refuses it.
    """
    model = read_model(path)
    tensors = [
        TensorFacts(
            name=name,
            dtype=value.const_value.dtype.name,
            dims=tuple(value.const_value.shape.numpy()),
            size_bytes=value.const_value.nbytes,
        )
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    ]
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.TENSOR:
                tensor = attribute.as_tensor()
                tensors.append(
                    TensorFacts(
                        name=node.outputs[0].name or "",
                        dtype=tensor.dtype.name,
                        dims=tuple(tensor.shape.numpy()),
                        size_bytes=tensor.nbytes,
                    )
                )
    names = set(model.graph.initializers)
    return ModelFacts(
        props=dict(model.metadata_props),
        inputs=tuple(_value_facts(value) for value in model.graph.inputs if value.name not in names),
        outputs=tuple(_value_facts(value) for value in model.graph.outputs),
        tensors=tuple(tensors),
        opset=model.opset_imports.get("", 0),
        domains=tuple(sorted({node.domain for node in ir.traversal.RecursiveGraphIterator(model.graph)})),
        file_bytes=model_bytes(path),
        checker_problem=checker_problem(path),
    )


def _value_facts(value: ir.Value) -> ValueFacts:
    dims: tuple[int | str, ...] = ()
    if value.shape is not None:
        dims = tuple(dim if isinstance(dim, int) else str(dim) for dim in value.shape)
    return ValueFacts(
        name=value.name or "", dtype=value.dtype.name if value.dtype is not None else "UNKNOWN", dims=dims
    )
