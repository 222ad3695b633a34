"""bit_microscope: its numbers are those of the quantized matrix, its bytes those that a layer stores."""

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.quant.groupwise import Grouped, quantize_int4, quantize_int8
from tinyphi.quant.linear import pack_nibbles
from tinyphi.show import bit_microscope


def weights(count=128):
    return 0.04 * torch.randn(count, generator=torch.Generator().manual_seed(0))


def row(grouped: Grouped):
    """The first row of a matrix, as the view takes it."""
    return grouped.codes[0], grouped.scales[0], None if grouped.minima is None else grouped.minima[0]


@pytest.mark.parametrize(
    ("count", "quantize"),
    [
        (128, lambda weight: quantize_int4(weight)),
        (512, lambda weight: quantize_int4(weight, 128, symmetric=False)),
        (64, quantize_int8),
        (2, lambda weight: quantize_int4(weight, 2)),
        (40, lambda weight: quantize_int4(weight, 8)),  # no group of 16 fits: nothing to round in the browser
    ],
)
def test_faces(examine, count, quantize):
    def make():
        weight = weights(count)[None]
        return bit_microscope(weight[0], *row(quantize(weight)))

    assert examine(make).live is not None


def test_zeros_and_bfloat16_draw(examine):
    zeros = torch.zeros(1, 32)
    examine(lambda: bit_microscope(zeros[0].bfloat16(), *row(quantize_int4(zeros))))
    examine(lambda: bit_microscope(zeros[0], *row(quantize_int4(zeros, symmetric=False))))


def test_the_digest_says_levels_codes_bits_and_bytes():
    weight = torch.tensor([-0.7, 0.26, 0.0, 0.04])
    codes = torch.tensor([1, 11, 8, 8], dtype=torch.uint8)
    lines = bit_microscope(weight, codes, torch.tensor([0.1])).text.splitlines()
    assert lines[0] == "4 weights in 1 group of 4, 4 bits: 6 bytes, 12.00 bits a weight"
    assert lines[1] == "error 7.56 % of the root mean square; farthest off is weight 1, by 0.0400"
    assert lines[2] == "group 0: 16 levels from -0.8000 to 0.7000, in steps of 0.1000"
    assert lines[5].split() == ["1", "0.2600", "11", "1011", "0.3000", "0.0400"]
    assert lines[8] == "bytes: B1 88"


def test_minima_and_eight_bits():
    weight = torch.tensor([0.5, 1.0, 2.0, 2.25])
    text = bit_microscope(
        weight, torch.tensor([0, 2, 6, 7], dtype=torch.uint8), torch.tensor([0.25]), torch.tensor([0.5])
    ).text
    assert "error 0.000 %" in text and "16 levels from 0.500 to 4.250" in text and "10 bytes" in text
    text = bit_microscope(
        -weight, torch.tensor([-2, -4, -8, -9], dtype=torch.int8), torch.tensor([0.25])
    ).text
    assert "error 0.000 %" in text and "11111110" in text and text.endswith("bytes: FE FC F8 F7")


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_numbers_are_those_of_the_layer(symmetric):
    weight = weights(256).reshape(2, 128)
    grouped = quantize_int4(weight, 64, symmetric)
    view = bit_microscope(weight[0], *row(grouped), group=1)
    off = grouped.dequantize()[0] - weight[0]
    share, farthest = 100 * off.norm() / weight[0].norm(), int(off.abs().argmax())
    assert f"error {share:.3g} % of" in view.text and f"farthest off is weight {farthest}," in view.text
    stored = pack_nibbles(grouped.codes)[0, 32:40]
    assert view.text.endswith("bytes: " + " ".join(f"{byte:02X}" for byte in stored.tolist()))
    assert view.live.data["bytes"] == 64 + 2 * 2 * (1 if symmetric else 2)


ONE = torch.ones(4)
CODES = torch.full((4,), 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONE[None], CODES, ONE[:1]), "a part of one row"),
        ((ONE, CODES.long(), ONE[:1]), "uint8 0 … 15, or int8"),
        ((ONE, CODES + 7, ONE[:1]), "uint8 0 … 15, or int8"),
        ((ONE, CODES[:3], ONE[:1]), "one for each of the 4 weights"),
        ((ONE, None, ONE[:1]), "uint8 0 … 15, or int8"),
        ((ONE, CODES, ONE[:3]), "4 weights in 3 groups"),
        ((ONE, CODES, ONE), "an even|is even"),
        ((ONE, CODES, ONE[:1], ONE[:2]), "2 minima for 1 scales"),
        ((ONE, CODES.to(torch.int8), ONE[:1], ONE[:1]), "no minima"),
        ((ONE * torch.nan, CODES, ONE[:1]), "finite"),
        ((ONE * 1e5, CODES, ONE[:1]), "none beyond 65504"),
        ((torch.ones(1024), CODES.repeat(256), ONE[:1]), "At most 512"),
        ((ONE, CODES, ONE[:1], None, 1), "group=1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        bit_microscope(*arguments)


def test_the_figure_shows_the_weights_as_they_were():
    weight, codes, scales = weights(32), torch.full((32,), 8, dtype=torch.uint8), torch.ones(1)
    view = bit_microscope(weight, codes, scales)
    before = view.png()
    for tensor in (weight, codes, scales):
        tensor.zero_()
    assert view.png() == before
