"""Views: look at tokens, probabilities, attention, the residual stream, weights, generation and quantization.

Every view is a `View`: a text digest for comparing, a figure or a small table for looking. Views take traces
and plain tensors, never a model, and import matplotlib only when they draw.

    from tinyphi.show import show
    show(trace["layers.3.output"], "layer 3")       # one line of text
"""

from tinyphi.show.attention import attention, attention_head
from tinyphi.show.bit_microscope import bit_microscope
from tinyphi.show.cache import cache_filling
from tinyphi.show.digest import show
from tinyphi.show.generation import generation
from tinyphi.show.layer_errors import layer_errors
from tinyphi.show.logit_lens import logit_lens
from tinyphi.show.mask import mask_map
from tinyphi.show.mlp import mlp_gates
from tinyphi.show.norms import norms
from tinyphi.show.probabilities import probabilities
from tinyphi.show.residual import residual
from tinyphi.show.roofline import roofline
from tinyphi.show.rope import rope_pairs
from tinyphi.show.tokens import tokens
from tinyphi.show.view import View
from tinyphi.show.weights import weight_map

__all__ = [
    "View",
    "attention",
    "attention_head",
    "bit_microscope",
    "cache_filling",
    "generation",
    "layer_errors",
    "logit_lens",
    "mask_map",
    "mlp_gates",
    "norms",
    "probabilities",
    "residual",
    "roofline",
    "rope_pairs",
    "show",
    "tokens",
    "weight_map",
]
