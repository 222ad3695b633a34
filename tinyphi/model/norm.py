"""RMSNorm: keep a vector's direction, set its length. LayerNorm moves its mean to 0 before that."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinyphi.config import PhiConfig


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


class LayerNorm(nn.Module):
    """Subtract each vector's mean, divide by its standard deviation; scale and shift each channel.

    Twice the parameters of RMSNorm. Of the family only Phi-3-small has it.

    Source: Ba et al. 2016 (arXiv 1607.06450), eq. 4, over the channels of a token.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(… d) → (… d), same dtype; computed in float32 at least."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def make_norm(config: PhiConfig) -> RMSNorm | LayerNorm:
    """A norm of the kind and width that the model has."""
    if config.layer_norm_epsilon is not None:
        return LayerNorm(config.hidden_size, config.layer_norm_epsilon)
    return RMSNorm(config.hidden_size, config.rms_norm_eps)
