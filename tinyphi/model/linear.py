"""The linear layer, with a short cut for decoding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """x W^T, or x W^T + b with a bias: (… i) → (… o), weight (o i), bias (o). Only Phi-3-small has biases.

    Decoding multiplies by one vector at a time and so is bound by reading W. On a CPU in bfloat16 torch's
    matrix-vector product reads it faster than its matrix-matrix product (`tinyphi bench decode`).
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[-1] and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            y = torch.mv(self.weight, x.flatten()).view(*x.shape[:-1], -1)
            return y if self.bias is None else y + self.bias
        return F.linear(x, self.weight, self.bias)
