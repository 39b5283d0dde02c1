"""A graph's weights in fewer bits."""
