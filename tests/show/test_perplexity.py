"""perplexity: bands of several lines side by side, missing and infinite ones too."""

import math
from typing import NamedTuple

import pytest

from tinyphi.errors import InputError
from tinyphi.show import perplexity


class Band(NamedTuple):
    start: int
    end: int
    tokens: int
    perplexity: float


def bands(*values, size=1000):
    return [Band(n * size, (n + 1) * size, size, value) for n, value in enumerate(values)]


TWO = {"as it is": bands(20.0, 15.0, 12.34, 900.5), "YaRN": bands(21.0, 16.0, 13.0)}


def test_the_digest_has_all_bands():
    view = perplexity(TWO, trained=3000)
    assert view.text.splitlines() == [
        "perplexity by position, 2 lines, 4 bands; trained on 3000 tokens",
        "      positions             as it is                 YaRN",
        "          0–999                 20.0                 21.0",
        "      1000–1999                 15.0                 16.0",
        "      2000–2999                 12.3                 13.0",
        "      3000–3999                  900                    –",
    ]
    assert view.live.data["log"] and "as it is from 20.0 to 900" in view.alt
    assert not perplexity({"a": TWO["YaRN"]}).live.data["log"]


@pytest.mark.parametrize("trained", [None, 10, 3000, 10**6])
def test_faces(examine, strange, trained):
    examine(lambda: perplexity(TWO, trained))
    examine(lambda: perplexity({strange(n): bands(*[10.0 + n] * 32) for n in range(8)}, trained))
    odd = bands(math.inf, math.nan, 3.0)
    view = examine(lambda: perplexity({"odd": odd, "none": bands(math.nan), "one": bands(1.0)}, trained))
    assert "∞" in view.text and "–" in view.text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({}, "1 to 8 lines of 32 different bands; these are 0 of 0"),
        ({str(n): bands(1.0) for n in range(9)}, "these are 9 of 1"),
        ({"a": []}, "the line 'a' is not a list of bands"),
        ({"a": bands(*[1.0] * 33)}, "these are 1 of 33"),
        ({"a": bands(1.0, 2.0)[::-1]}, "follow each other"),
        ({"a": bands(1.0, 2.0, 3.0)[::2]}, "follow each other"),
        ({"a": bands(-1.0)}, "the line 'a'"),
        ({"a": [3.0]}, "the line 'a'"),
        ({"a": [Band(5, 5, 0, 1.0)]}, "the line 'a'"),
    ],
)
def test_bad_input(lines, message):
    with pytest.raises(InputError, match=message):
        perplexity(lines)
