"""onnxruntime's own converters: `convert_ort.py float16|quantize_dynamic|matmul_nbits|fold MODEL OUTPUT`.

They get a tied head as a product with the turned table: of a Gemm they would make a second copy, or pass it over.
`fold` is no quantizer: it stores that turned table as a constant, which the 4-bit quantizers need, for they pass over a
product whose factor is computed.
"""

import logging
import sys

import onnx
import onnxruntime
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16


def with_turned_table(source: str) -> onnx.ModelProto:
    """Our file with `MatMul(x, Transpose(table))` in place of each `Gemm(x, table, transB=1)`."""
    model = onnx.load(source)
    for index, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == "Gemm":
            turned = f"{node.name}_turned"
            product = onnx.helper.make_node("MatMul", [node.input[0], turned], list(node.output))
            node.CopyFrom(onnx.helper.make_node("Transpose", [node.input[1]], [turned], perm=[1, 0]))
            model.graph.node.insert(index + 1, product)
    return model


converter, source, target = sys.argv[1:]
logging.disable(logging.WARNING)
if converter == "float16":
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
elif converter == "quantize_dynamic":
    quantize_dynamic(with_turned_table(source), target)
elif converter == "matmul_nbits":
    quantizer = MatMulNBitsQuantizer(
        onnx.load(source),
        bits=4,
        block_size=32,
        is_symmetric=True,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer.process()
    quantizer.model.save_model_to_file(target)
else:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = target
    options.log_severity_level = 4
    model = with_turned_table(source).SerializeToString()
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
