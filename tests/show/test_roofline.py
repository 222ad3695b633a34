"""roofline: the arithmetic of its digest, and that a digest of measured numbers has none of them."""

import math

import pytest

from tinyphi.errors import InputError
from tinyphi.show import roofline
from tinyphi.show.roofline import Run

WEIGHTS = 1e9  # of a model of which each token needs 2 GFLOP
POINTS = {
    "float32": Run(1, 2 * WEIGHTS, 4 * WEIGHTS, 4.0),
    "int4": Run(1, 2 * WEIGHTS, WEIGHTS / 2, 30.0),
    "prefill 200": Run(200, 2 * WEIGHTS, 4 * WEIGHTS, 80.0),
    "prefill 4000": Run(4000, 2 * WEIGHTS, 4 * WEIGHTS, 90.0),
}


@pytest.mark.parametrize("measured", [True, False])
def test_faces(examine, measured, strange):
    examine(lambda: roofline(POINTS, 20.0, 200.0, measured))
    examine(lambda: roofline({strange(i): (1, 2.0, 1.0 + i, 1e9) for i in range(12)}, 10, 50, measured))
    examine(lambda: roofline({"above the roof": (1, 2, 1, 1e12)}, 10, 1, measured))


def test_the_digest_of_fixed_numbers_has_them_all():
    lines = roofline(POINTS, 20.0, 200.0, measured=False).text.splitlines()
    assert lines[0] == "roofline, 4 points; 20.0 GB/s and 200 GFLOP/s meet at 10.0 FLOP/byte"
    # 4 tokens/s of 2 GFLOP: 8 GFLOP/s; 20 GB/s at 0.5 FLOP/byte: 10. And 20 tokens at once: 10 FLOP/byte.
    assert lines[2].split(maxsplit=7) == [
        "float32", "1", "0.500", "memory", "4.00", "8.00", "80%", "20.0 tokens at once",
    ]  # fmt: skip
    assert lines[3].split(maxsplit=7)[1:] == [
        "1",
        "4.00",
        "memory",
        "30.0",
        "60.0",
        "75%",
        "2.50 tokens at once",
    ]
    assert "arithmetic" in lines[4] and "80%" in lines[4]


def test_the_digest_of_measured_numbers_has_none_of_them():
    view = roofline(POINTS, 20.0, 200.0)
    slower = {label: run._replace(speed=run.speed / 3) for label, run in POINTS.items()}
    again = roofline(slower, 7.0, 1000.0)
    assert view.text == again.text and view.alt == again.alt
    assert view.png() != again.png() and view.html() != again.html()
    limits = [line.split(maxsplit=3)[3] for line in view.text.replace("prefill ", "prefill").splitlines()[2:]]
    assert limits == [
        "memory",
        "one or the other, by the machine",
        "one or the other, by the machine",
        "arithmetic",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 1, 1), "1 to 12 points"),
        (({str(i): (1, 1, 1, 1) for i in range(13)}, 1, 1), "these are 13"),
        (({"a": (1, 2, 3)}, 1, 1), "point 'a' is"),
        (({"a": (1, 2, 3, 0)}, 1, 1), "all of them positive"),
        (({"a": (1, 2, 3, math.inf)}, 1, 1), "all of them positive"),
        (({"a": [1, 2, 3, "fast"]}, 1, 1), "point 'a' is"),
        (({"a": (1, 2, 3, 4)}, 0, 1), "bandwidth=0"),
        (({"a": (1, 2, 3, 4)}, 1, math.nan), "peak=nan"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        roofline(*arguments)
