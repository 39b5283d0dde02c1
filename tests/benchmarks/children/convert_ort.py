"""onnxruntime's own converters: `convert_ort.py float16|quantize_dynamic MODEL OUTPUT`."""

import sys

import onnx
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

converter, source, target = sys.argv[1:]
if converter == "float16":
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
else:
    quantize_dynamic(source, target)
