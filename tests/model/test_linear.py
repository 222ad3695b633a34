"""The decoding short cut gives what the plain product gives."""

import pytest
import torch

from tinyphi.model.linear import Linear


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(1, 1, 64), (64,), (2, 1, 64), (1, 5, 64)])
def test_equals_the_plain_product(dtype, shape):
    torch.manual_seed(0)
    layer = Linear(64, 96).to(dtype)
    x = torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        mine, exact = layer(x), x.double() @ layer.weight.double().T
    assert mine.shape == (*shape[:-1], 96)
    torch.testing.assert_close(
        mine.double(), exact, rtol=0, atol=8 * torch.finfo(dtype).eps * exact.abs().max()
    )


def test_the_short_cut_has_gradients():
    layer = Linear(8, 4).bfloat16()
    x = torch.randn(1, 1, 8, dtype=torch.bfloat16)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x[0].expand(4, 8))
