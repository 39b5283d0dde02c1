"""A model file is run, and its numbers are held against PyTorch's."""
