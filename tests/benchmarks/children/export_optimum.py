"""The export of optimum-onnx: `export_optimum.py FOLDER OUTPUT_FOLDER [accelerate] [past]`.

Its comparison with PyTorch is left out, as ours is by default. A plain installation of optimum-onnx has
no accelerate, and then stores a tied table twice. Here accelerate is installed, and hidden unless asked
for, so that one environment shows both. With `past`, the file takes keys and values and returns them.
"""

import sys

import transformers.utils

source, target, *extras = sys.argv[1:]
if "accelerate" not in extras:
    setattr(transformers.utils, "is_accelerate_available", lambda: False)  # noqa: B010 - not among its exports

from optimum.exporters.onnx import main_export  # noqa: E402 - It looks for accelerate while it is imported.

task = "text-generation-with-past" if "past" in extras else "text-generation"
main_export(source, output=target, task=task, do_validation=False)
