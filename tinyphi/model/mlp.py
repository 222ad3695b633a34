"""The SwiGLU feed-forward network: a gate decides, channel by channel, how much passes."""

from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.config import PhiConfig
from tinyphi.model.linear import Linear
from tinyphi.model.trace import Trace


class MLP(nn.Module):
    """down(up(x) · silu(gate(x))), with gate and up fused into one matrix, gate rows first.

    Source: Shazeer 2020 (arXiv 2002.05202), eq. 6; `Phi3MLP` in transformers.
    """

    def __init__(self, config: PhiConfig) -> None:
        super().__init__()
        self.gate_up_proj = Linear(config.hidden_size, 2 * config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """(b t d) → (b t d)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        hidden = up * F.silu(gate)
        output: Tensor = self.down_proj(hidden)
        if trace:
            trace.record("gate", gate, "b t f")
            trace.record("up", up, "b t f")
            trace.record("hidden", hidden, "b t f")
            trace.record("output", output, "b t d")
        return output
