"""Olive's 4-bit rounding in blocks of 32: `convert_olive.py MODEL OUTPUT`."""

import logging
import sys

from olive.model import ONNXModelHandler
from olive.passes.olive_pass import create_pass_from_dict
from olive.passes.onnx.rtn_quantization import OnnxBlockWiseRtnQuantization

source, target = sys.argv[1:]
logging.disable(logging.WARNING)
settings = {"bits": 4, "block_size": 32}
create_pass_from_dict(OnnxBlockWiseRtnQuantization, settings, disable_search=True).run(ONNXModelHandler(source), target)
