"""The gated feed-forward network: a gate decides, channel by channel, how much passes.

SwiGLU in the whole family, but for Phi-3-small and its GEGLU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.config import PhiConfig
from tinyphi.model.linear import Linear
from tinyphi.model.trace import Trace


class MLP(nn.Module):
    """down(up(x) · silu(gate(x))), with gate and up fused into one matrix, gate rows first.

    Phi-3-small has `gegelu` in place of the product.

    Source: Shazeer 2020 (arXiv 2002.05202), eq. 6; `Phi3MLP` in transformers.
    """

    def __init__(self, config: PhiConfig) -> None:
        super().__init__()
        self.limit = config.gegelu_limit
        self.gate_up_proj = Linear(config.hidden_size, 2 * config.intermediate_size, config.linear_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, config.linear_bias)

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """(b t d) → (b t d)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        hidden = up * F.silu(gate) if self.limit is None else gegelu(gate, up, self.limit)
        output: Tensor = self.down_proj(hidden)
        if trace:
            trace.record("gate", gate, "b t f")
            trace.record("up", up, "b t f")
            trace.record("hidden", hidden, "b t f")
            trace.record("output", output, "b t d")
        return output


def gegelu(gate: Tensor, up: Tensor, limit: float) -> Tensor:
    """gelu(gate) · (up + 1), gelu by its sigmoid, of inputs held within ±limit: (… f), (… f) → (… f).

    The gate is held only from above: below, gelu is 0 already. Infinities pass, so that an overflow shows.
    The + 1 lets the gate through where up is 0.

    Source: `gegelu` in `modeling_phi3_small.py`; the sigmoid: Hendrycks and Gimpel 2016 (arXiv 1606.08415),
    sec. 2.
    """
    gate = torch.where(gate.isinf(), gate, gate.clamp(max=limit))
    up = torch.where(up.isinf(), up, up.clamp(-limit, limit))
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)
