"""ONNX files, read, written and run without holding them in memory."""
