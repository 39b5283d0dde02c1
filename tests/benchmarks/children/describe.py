"""What an ONNX file is made of, as JSON: `describe.py MODEL`."""

import json
import sys

import onnx

model = onnx.load(sys.argv[1], load_external_data=False)
opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
print(json.dumps({"nodes": len(model.graph.node), "opset": opset}))
