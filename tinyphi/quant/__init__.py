"""Quantization: weights in four or eight bits, every format from scratch, and layers that compute with them."""
