"""norms: root mean squares and the channel that dominates."""

import pytest
import torch
from torch.nn.functional import rms_norm

from tinyphi.errors import InputError
from tinyphi.show import norms


def example(tokens=8, channels=48):
    before = torch.randn(tokens, channels, generator=torch.Generator().manual_seed(0))
    before[0] *= 300
    return before, rms_norm(before, (channels,))


@pytest.mark.parametrize(("tokens", "channels"), [(8, 48), (1, 1), (8, 9000), (300, 3072)])
def test_faces(examine, tokens, channels, strange):
    labels = [strange(i) for i in range(tokens)]
    view = examine(lambda: norms(*example(tokens, channels), labels))
    assert view.live is not None
    shown, width = view.live.data["before"]["shape"]
    assert shown == len(view.live.data["labels"]) <= 64 and width <= 8192


def test_the_digest_says_lengths_and_the_largest_channel():
    before = torch.tensor([[3.0, 4.0], [0.0, 100.0], [1.0, 1.0]])
    after = rms_norm(before, (2,)) * torch.tensor([0.5, 2.0])
    lines = norms(before, after, ["a", " b", "c"]).text.splitlines()
    assert lines[0] == "norm, 3 tokens of 2 channels"
    assert lines[2].split() == ["before", "1.000", "3.536", "70.71"]
    assert lines[3].split() == ["after", "1.458", "1.628", "2.000"]
    assert lines[4] == "longest before: token 1 ·b, 70.71 → 2.000; 100% of its square is channel 1"


def test_vectors_of_zeros_and_bfloat16_draw(examine):
    examine(lambda: norms(torch.zeros(2, 4).bfloat16(), torch.zeros(2, 4)))


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.ones(1, 2, 3), torch.ones(1, 2, 3)),
        (torch.ones(2, 3), torch.ones(3, 2)),
        (torch.ones(2, 3), torch.full((2, 3), torch.inf)),
        (torch.ones(2, 3), torch.ones(2, 3), ["a"]),
        (torch.ones(0, 3), torch.ones(0, 3)),
        (None, torch.ones(2, 3)),
    ],
)
def test_bad_input(arguments):
    with pytest.raises(InputError):
        norms(*arguments)
