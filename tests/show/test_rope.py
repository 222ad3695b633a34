"""rope_pairs: the numbers in its digest, and that they prove what they are for."""

import math

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import rope_pairs

SPEEDS = 10_000.0 ** -(torch.arange(0, 64, 2) / 64)


@pytest.mark.parametrize("pairs", [1, 2, 32, 1024])
def test_faces(examine, pairs):
    def speeds():
        noise = torch.randn(1, generator=torch.Generator().manual_seed(0))  # a factor of 1, or of 1 + 1e-7
        return 10_000.0 ** -(torch.arange(pairs) / pairs) * noise / noise_free

    noise_free = torch.randn(1, generator=torch.Generator().manual_seed(0))
    examine(lambda: rope_pairs(speeds()))
    examine(lambda: rope_pairs(speeds(), speeds() / 8))


def test_the_digest_says_speed_wavelength_and_cosines():
    lines = rope_pairs(torch.tensor([1.0, math.pi / 16])).text.splitlines()
    assert lines[0] == "rope, 2 pairs"
    assert lines[2].split() == ["0", "1.000", "6.283", "0.54", "-0.65", "-0.96", "0.39", "-0.04"]
    assert lines[3].split() == ["1", "0.1963", "32.00", "0.98", "0.71", "-1.00", "1.00", "1.00"]
    means = [(math.cos(d) + math.cos(math.pi / 16 * d)) / 2 for d in (1, 4, 16, 64, 256)]
    shown = [float(number) for number in lines[4].removeprefix("mean of all pairs").split()]
    assert shown == pytest.approx(means, abs=0.0051)


def test_the_mean_is_the_product_of_a_turned_query_and_key():
    """Both all ones: their product per pair is 2 · cosine, wherever they stand."""
    shown = float(rope_pairs(SPEEDS).text.splitlines()[-1].split()[-3])  # at distance 16
    for key in (0, 1000):
        q, k = (torch.polar(torch.ones(32), position * SPEEDS) for position in (key + 16, key))
        assert (q * k.conj()).real.mean().item() == pytest.approx(shown, abs=0.0051)


def test_longer_speeds_stand_beside():
    lines = rope_pairs(torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.125])).text.splitlines()
    assert lines[3].split()[:5] == ["1", "0.5000", "12.57", "0.1250", "50.27"]
    assert lines[-1].startswith("mean of all pairs, longer")


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.ones(2, 2),),
        (torch.tensor([1.0, 0.0]),),
        (torch.tensor([1.0, math.nan]),),
        (torch.ones(0),),
        ([1.0],),
        (torch.ones(1025),),
        (torch.ones(3), torch.ones(2)),
    ],
)
def test_bad_input(arguments):
    with pytest.raises(InputError, match=r"rope_pairs|one per pair"):
        rope_pairs(*arguments)
