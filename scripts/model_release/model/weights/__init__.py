"""A source of weights -> verified files, and tensors read one at a time."""
