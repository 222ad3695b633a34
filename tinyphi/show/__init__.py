"""Views: look at tokens, probabilities, attention, the residual stream, weights and generation.

Every view is a `View`: a text digest for comparing, a figure or a small table for looking. Views take traces
and plain tensors, never a model, and import matplotlib only when they draw.

    from tinyphi.show import show
    show(trace["layers.3.output"], "layer 3")       # one line of text
"""

from tinyphi.show.attention import attention_head, attention_heads
from tinyphi.show.digest import show
from tinyphi.show.generation import generation
from tinyphi.show.probabilities import probabilities
from tinyphi.show.residual import residual_norms
from tinyphi.show.tokens import tokens
from tinyphi.show.view import View
from tinyphi.show.weights import weight_map

__all__ = [
    "View",
    "attention_head",
    "attention_heads",
    "generation",
    "probabilities",
    "residual_norms",
    "show",
    "tokens",
    "weight_map",
]
