"""RMSNorm: keep a vector's direction, set its length."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divide each token's vector by its root mean square, then scale each channel by a learned weight.

    LayerNorm without the mean and without a bias. The square, mean and root are taken in float32, and the
    result returns to the input's dtype *before* the weight multiplies it: in bfloat16 the order shows.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467), eq. 4; `Phi3RMSNorm` in transformers.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(… d) → (… d), same dtype."""
        full = x.float()
        mean_square = full.square().mean(-1, keepdim=True)
        return self.weight * (full * torch.rsqrt(mean_square + self.eps)).to(x.dtype)
