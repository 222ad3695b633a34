"""Quantization: weights in four or eight bits, every format from scratch, and layers that compute with them.

`quantize` rounds a model in place and reports the damage; `Recipe` says how, also to `tinyphi.load_model`.
"""

from tinyphi.quant.quantize import Change, LayerReport, Report, quantize
from tinyphi.quant.recipe import Recipe

__all__ = ["Change", "LayerReport", "Recipe", "Report", "quantize"]
