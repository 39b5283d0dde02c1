"""onnxruntime's own converters: `convert_ort.py float16|quantize_dynamic|matmul_nbits|fold MODEL OUTPUT`.

`fold` is no quantizer: it stores the transposed table of a tied head as a constant, which the 4-bit
quantizers need, for they pass over a product whose factor is computed.
"""

import logging
import sys

import onnx
import onnxruntime
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

converter, source, target = sys.argv[1:]
logging.disable(logging.WARNING)
if converter == "float16":
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
elif converter == "quantize_dynamic":
    quantize_dynamic(source, target)
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
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
