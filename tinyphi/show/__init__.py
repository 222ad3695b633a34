"""Views: look at tokens, probabilities, attention, the residual stream, weights, generation,
quantization and training.

Every view is a `View`: a text digest for comparing, a figure or a small table for looking. Views take traces
and plain tensors, never a model, and import matplotlib only when they draw.

    from tinyphi.show import show
    show(trace["layers.3.output"], "layer 3")       # one line of text
"""

from tinyphi.show.answers import answers
from tinyphi.show.attention import attention, attention_head
from tinyphi.show.benchmarks import benchmarks
from tinyphi.show.bit_microscope import bit_microscope
from tinyphi.show.cache import cache_filling
from tinyphi.show.digest import show
from tinyphi.show.document_browser import document_browser
from tinyphi.show.generation import generation
from tinyphi.show.layer_errors import layer_errors
from tinyphi.show.logit_lens import logit_lens
from tinyphi.show.longrope_search import longrope_search
from tinyphi.show.loss_curves import loss_curves
from tinyphi.show.margins import margins
from tinyphi.show.mask import mask_map
from tinyphi.show.mlp import mlp_gates
from tinyphi.show.needle_grid import needle_grid
from tinyphi.show.norms import norms
from tinyphi.show.perplexity import perplexity
from tinyphi.show.probabilities import probabilities
from tinyphi.show.reading_costs import reading_costs
from tinyphi.show.red_team_table import red_team_table
from tinyphi.show.residual import residual
from tinyphi.show.roc_explorer import roc_explorer
from tinyphi.show.roofline import roofline
from tinyphi.show.rope import rope_pairs
from tinyphi.show.sparse_mask import sparse_mask
from tinyphi.show.stale_cache import stale_cache
from tinyphi.show.token_mask import token_mask
from tinyphi.show.tokens import tokens
from tinyphi.show.view import View
from tinyphi.show.wavelengths import wavelengths
from tinyphi.show.weights import weight_map

__all__ = [
    "View",
    "answers",
    "attention",
    "attention_head",
    "benchmarks",
    "bit_microscope",
    "cache_filling",
    "document_browser",
    "generation",
    "layer_errors",
    "logit_lens",
    "longrope_search",
    "loss_curves",
    "margins",
    "mask_map",
    "mlp_gates",
    "needle_grid",
    "norms",
    "perplexity",
    "probabilities",
    "reading_costs",
    "red_team_table",
    "residual",
    "roc_explorer",
    "roofline",
    "rope_pairs",
    "show",
    "sparse_mask",
    "stale_cache",
    "token_mask",
    "tokens",
    "wavelengths",
    "weight_map",
]
