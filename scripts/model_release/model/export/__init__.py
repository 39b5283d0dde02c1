"""PyTorch -> a graph with activations as outputs."""
