"""Group-wise rounding: neighbouring weights share a scale, and each keeps a small whole number.

    W[o, i] = scales[o, i // g] · codes[o, i] + minima[o, i // g]

The scale is as coarse as the largest weight of its group demands, so small groups lose less and cost more.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor


@dataclass(frozen=True)
class Grouped:
    """A matrix (o i) in 4 or 8 bits, as plain as it can be written down.

    Without minima the scale is symmetric around zero: 4-bit code 8 and 8-bit code 0 stand for 0.0.
    """

    codes: Tensor  # (o i): uint8, 0 … 15 (4 bits), or int8 (8 bits)
    scales: Tensor  # (o i/g), float16: what one step of a code is worth
    minima: Tensor | None = None  # (o i/g), float16: what code 0 is worth; 4 bits only

    @property
    def bits(self) -> int:
        return 4 if self.codes.dtype == torch.uint8 else 8

    @property
    def group_size(self) -> int:
        return self.codes.shape[1] // self.scales.shape[1]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix (o i) that the codes stand for, computed in float32."""
        groups = rearrange(self.codes, "o (n g) -> o n g", g=self.group_size).float()
        scales = self.scales.float().unsqueeze(-1)
        if self.minima is not None:
            weight = groups * scales + self.minima.float().unsqueeze(-1)
        else:
            weight = (groups - (8 if self.bits == 4 else 0)) * scales
        return weight.flatten(1).to(dtype)
