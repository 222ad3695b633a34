"""wavelengths: tokens per turn, factors beside the first series, and how many pairs never turn round."""

import base64
import math

import numpy as np
import pytest
import torch

from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.model.rope import inverse_frequencies
from tinyphi.show.wavelengths import wavelengths

SPEEDS = 2 * math.pi / torch.tensor([10.0, 100.0, 1000.0])


def test_faces(examine, strange):
    examine(lambda: wavelengths({"plain": SPEEDS}, 50))
    examine(lambda: wavelengths({"most": SPEEDS[0] ** (torch.arange(1024) / 1023)}, 50))
    examine(lambda: wavelengths({strange(i): SPEEDS / (1 + i) for i in range(6)}, 50))


def test_the_digest_says_turns_factors_and_how_many_never_come_round():
    lines = wavelengths({"plain": SPEEDS, "slow": SPEEDS / 4}, 100).text.splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["0", "10.00", "×1.00", "40.00", "×4.00"],
        ["1", "100.0", "×1.00", "400.0", "×4.00"],
        ["2", "1000", "×1.00", "4000", "×4.00"],
    ]
    assert lines[5].endswith("in 100 tokens: plain 1, slow 2")


def test_phi_3_mini():
    config = PhiConfig.preset("phi-3-mini-4k")
    assert "tokens: plain 14" in wavelengths({"plain": inverse_frequencies(config, 1)}, 4096).text


def test_the_live_face_has_the_speeds_as_they_are():
    view = wavelengths({"plain": SPEEDS, "slow": SPEEDS / 4}, 100)
    packed = view.live.data["speeds"]
    values = np.frombuffer(base64.b64decode(packed["base64"]), "<f4").reshape(packed["shape"])
    assert torch.equal(torch.tensor(values), torch.stack((SPEEDS, SPEEDS / 4)))
    assert view.live.data["labels"] == ["plain", "slow"] and view.live.data["context"] == 100


def test_the_explorer_begins_with_speeds_that_fall_by_one_ratio():
    config, long = (PhiConfig.preset(f"phi-3-mini-{size}k") for size in (4, 128))
    plain, slowed = inverse_frequencies(config, 1), inverse_frequencies(long, 4097)
    for speeds, explored in ((plain, True), (plain / 32, True), (slowed, False), (plain[:1], False)):
        assert wavelengths({"first": speeds}, 4096).live.data["explore"] is explored
    assert not wavelengths({"rising": plain.flip(0)}, 4096).live.data["explore"]
    assert not wavelengths({"equal": torch.ones(3)}, 4096).live.data["explore"]


@pytest.mark.parametrize(
    ("speeds", "context", "message"),
    [
        ({}, 9, "1 to 6 series"),
        ({"a": SPEEDS, "b": SPEEDS[:2]}, 9, "of one length"),
        ({"a": -SPEEDS}, 9, "above zero"),
        ({"a": SPEEDS}, 0, "context is 0"),
    ],
)
def test_bad_input(speeds, context, message):
    with pytest.raises(InputError, match=message):
        wavelengths(speeds, context)
