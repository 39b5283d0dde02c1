"""Weights stored in 4 bits and multiplied so, by operators that onnxruntime has beside the standard ones.

Nothing is decoded when a session is created, so a session takes little more memory than the file. In a browser that
is what lets models past some 350M parameters run at all; on WebGPU and on CPUs products are fast. In WASM they are
slow for short texts, since each token decodes all weights again.
"""

import numpy as np
import onnx_ir as ir

from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Parameter
from model_release.contract.measures import Array
from model_release.contract.metadata import ModelMetadata
from model_release.model.precision.block_codes import store_decoded
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.graph_edits import Builder, BuilderAtStart, replace_readers, store

DOMAIN = "com.microsoft"
_INTEGERS = 4  # `accuracy_level`: activations are rounded to int8 in blocks, on CPUs.


def store_int4_compute(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored in 4 bits, [channels, blocks, 16 bytes], and multiplied without being decoded.

    A tied head reads the table that embeddings are looked up in. Experts are stored as int4 and decoded.

    Before: `x @ w`. After: `MatMulNBits(x, w.nibbles, Cast(w.scales))`.
    Before: `Gather(table, ids)`. After: `Reshape(GatherBlockQuantized(table.nibbles, ids, Cast(table.scales)))`; rows
    whose last block is padded end in a Slice.
    """
    precision = load_contract().precision(metadata.precision)
    parameters = metadata.blueprint.parameters.values()
    if experts := [parameter for parameter in parameters if parameter.is_of_experts]:
        store_decoded(model, precision, experts)
    build = BuilderAtStart(model)
    for parameter in parameters:
        if not (parameter.is_vector or parameter.is_of_experts):
            dims = (parameter.channels, parameter.inputs)
            _Packed(
                model, build, parameter, Blocks(precision.storage(parameter), dims, parameter.name)
            ).replace_readers()
    model.graph.opset_imports[DOMAIN] = 1


class _Packed:
    """One parameter, stored and put before its readers."""

    def __init__(self, model: ir.Model, build: Builder, parameter: Parameter, blocks: Blocks) -> None:
        self._model, self._build, self._parameter, self._blocks = model, build, parameter, blocks
        self._weight = model.graph.initializers[parameter.name]
        rows, count, size = blocks.shape
        parts = {
            "nibbles": (ir.DataType.UINT8, (rows, count, size // 2)),
            "scales": (ir.DataType.FLOAT16, (rows, count, 1)),
        }
        self._nibbles, scales = store(model, self._weight, parts, self._encode)
        self._scales = build("Cast", scales, to=ir.DataType.FLOAT)

    def _encode(self, values: Array, _name: str) -> dict[str, Array]:
        rows = values if self._parameter.input_axis == -1 else np.ascontiguousarray(values.T)
        codes, scales = self._blocks.encode(rows)
        return {"nibbles": codes[..., 0::2] | codes[..., 1::2] << 4, "scales": scales}

    def replace_readers(self) -> None:
        """Products and lookups take what is stored; for any other reader it is decoded."""
        replace_readers(self._model, self._weight, look_up=self._look_up, multiply=self._multiply)
        if self._weight.uses():
            self._decode()

    def _multiply(self, product: ir.Node, _transpose: ir.Node | None) -> None:
        build, storage = Builder(self._model, product), self._blocks.storage
        scales = build("Reshape", self._scales, build.constant("one_axis", [-1], np.int64))
        made = build(
            "MatMulNBits",
            *(product.inputs[0], self._nibbles, scales),
            domain=DOMAIN,
            K=self._parameter.inputs,
            N=self._parameter.channels,
            bits=storage.bits,
            block_size=storage.block,
            accuracy_level=_INTEGERS,
        )
        build.replace(made)

    def _look_up(self, gather: ir.Node) -> None:
        build, ids = Builder(self._model, gather), gather.inputs[1]
        if ids is None or ids.shape is None:
            return
        build.replace(self._rows(build, ids, len(ids.shape)))

    def _rows(self, build: Builder, ids: ir.Value, axes: int) -> ir.Value:
        """The decoded rows of ids: [*ids, inputs]."""
        storage, columns = self._blocks.storage, self._blocks.columns
        blocks = build(
            "GatherBlockQuantized",
            *(self._nibbles, ids, self._scales),
            domain=DOMAIN,
            gather_axis=0,
            quantize_axis=2,
            bits=storage.bits,
            block_size=storage.block,
        )
        rows = build("Reshape", blocks, build.constant(f"join_after_{axes}", [*[0] * axes, -1], np.int64))
        if self._blocks.count * self._blocks.size == columns:
            return rows
        start, end = (build.constant(f"row_{at}", [at], np.int64) for at in (0, columns))
        return build("Slice", rows, start, end, build.constant("axes_last", [-1], np.int64))

    def _decode(self) -> None:
        """The whole parameter, for readers of other kinds: in each run, as this operator is not folded."""
        readers = {node for node, _ in self._weight.uses()}
        build = Builder(self._model, next(node for node in self._model.graph if node in readers))
        every = build.constant(f"rows_{self._parameter.channels}", list(range(self._parameter.channels)), np.int64)
        rows = self._rows(build, every, 1)
        if self._parameter.input_axis == -1:
            build("Identity", rows, output=self._weight)
        else:
            build("Transpose", rows, perm=[1, 0], output=self._weight)
