"""PyTorch weights -> ONNX files that equal them."""
