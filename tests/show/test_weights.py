"""weight_map: outliers in its digest, blocks in its faces."""

import base64
import math

import numpy as np
import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import weight_map


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


MATRICES = {
    "small": lambda: normal(40, 60),
    "large": lambda: normal(999, 70),
    "larger": lambda: normal(3000, 2000),
    "a bfloat16 vector": lambda: torch.linspace(0, 1, 100).bfloat16(),
    "one value": lambda: torch.ones(1),
    "constant": lambda: torch.zeros(3, 3),
}


@pytest.mark.parametrize("name", MATRICES)
def test_faces(examine, name):
    view = examine(lambda: weight_map(MATRICES[name]()))
    assert view.live is not None
    assert max(view.live.data["cells"]["shape"]) <= 128
    assert sum(view.live.data["counts"]) == math.prod(view.live.data["shape"])


def test_the_digest_counts_outliers():
    weights = normal(64, 64)
    weights[3, 4] = 50
    assert weight_map(weights).text.endswith("beyond 6 standard deviations: 1 of 4096")


def cells(view):
    packed = view.live.data["cells"]
    return np.frombuffer(base64.b64decode(packed["base64"]), "<f4").reshape(packed["shape"])


def test_a_small_matrix_keeps_its_values_and_a_large_one_its_blocks():
    small, large = normal(20, 30), normal(500, 30)
    assert np.array_equal(cells(weight_map(small)), small.numpy())
    view = weight_map(large)
    assert view.live.data["pooled"] and view.live.data["shape"] == [500, 30]
    row = 17  # the rows that the script names: ⌊17 · 500 / 128⌋ … ⌈18 · 500 / 128⌉ − 1
    block = large[66:71, 5]
    assert (row * 500 // 128, -(-(row + 1) * 500 // 128) - 1) == (66, 70)
    assert cells(view)[row, 5] == pytest.approx(block.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("given", [torch.ones(2, 2, 2), [1.0], torch.tensor([1.0, math.nan]), torch.ones(0)])
def test_bad_input(given):
    with pytest.raises(InputError, match="weight_map"):
        weight_map(given)


def test_the_figure_shows_the_weights_as_they_were():
    weights = torch.ones(4, 4)
    view = weight_map(weights)
    before = view.png()
    weights.zero_()
    assert view.png() == before
