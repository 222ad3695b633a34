"""reading_costs: lengths that not every side has, and numbers of all sizes."""

import math

import pytest

from tinyphi.errors import InputError
from tinyphi.show import reading_costs

SIDES = {"tinyphi": [(1024, 0.5, 12.0), (2048, 1.25, 20.0)], "other": [(1024, 1.0, 40.0)]}


def test_the_digest_has_all_lengths():
    view = reading_costs(SIDES)
    assert view.text.splitlines() == [
        "reading prompts, 2 sides, seconds and MB at most",
        "  tokens                   tinyphi                     other",
        "    1024        0.5000 s  12.00 MB         1.000 s  40.00 MB",
        "    2048         1.250 s  20.00 MB                         –",
    ]
    assert view.alt.endswith("other 1.000 s and 40.00 MB for 1024 tokens.")
    assert view.live.data["sides"][1] == {"label": "other", "costs": [[1024, 1.0, 40.0]]}


def test_faces(examine, strange):
    examine(lambda: reading_costs(SIDES))
    lengths = [2**power for power in range(4, 24)]
    many = {strange(n): [(t, 1e-3 * t ** (n / 3), 1e-2 * t) for t in lengths] for n in range(6)}
    examine(lambda: reading_costs(many))
    examine(lambda: reading_costs({"one": [(1, 1e-9, 1e9)]}))


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({}, "1 to 6 sides"),
        ({str(n): SIDES["other"] for n in range(7)}, "these are 7 with 1"),
        ({"a": [(n, 1.0, 1.0) for n in range(1, 34)]}, "these are 1 with 33"),
        ({"a": []}, "all above zero"),
        ({"a": [(1, 0.0, 1.0)]}, "all above zero"),
        ({"a": [(1, 1.0, math.nan)]}, "all above zero"),
        ({"a": [(1, 1.0)]}, "all above zero"),
        ({"a": SIDES["tinyphi"][::-1]}, "lengths growing"),
        ({"a": [(5, 1.0, 1.0)] * 2}, "lengths growing"),
    ],
)
def test_bad_input(sides, message):
    with pytest.raises(InputError, match=message):
        reading_costs(sides)
