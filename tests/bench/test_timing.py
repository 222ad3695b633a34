"""Turns, medians and ratios, on made-up times."""

import pytest

from tinyphi.bench.timing import SPEEDS, faster, in_turn, speed_rows


def test_the_sides_take_turns_and_the_first_round_warms_up():
    calls = []

    def side(name):
        return lambda: calls.append(name) or len(calls)

    found = in_turn({name: side(name) for name in "abc"}, 2, "x")
    assert calls == ["a", "b", "c"] * 3
    assert found == {"a": [4, 7], "b": [5, 8], "c": [6, 9]}


def test_ratios_are_taken_within_a_round():
    # The ratio of the medians would be 2.0, and that of unpaired times anything.
    assert faster([1.0, 2.0, 5.0], [3.0, 4.0, 1.0]) == "2.00 × | 0.20 – 3.00"
    with pytest.raises(ValueError, match="zip"):
        faster([1.0], [1.0, 2.0])


def test_rows_show_the_median_speed_and_compare_with_the_first():
    found = {"mine": [1.0, 2.0, 5.0], "theirs": [2.0, 2.0, 20.0]}
    assert speed_rows("decode", 1000, found, lambda name, speed: f"{name} at {speed:.0f}") == [
        "| decode | mine | 500 | | | mine at 500 |",
        "|  | theirs | 500 | 2.00 × | 1.00 – 4.00 | theirs at 500 |",
    ]


def test_slow_speeds_have_a_decimal_and_rows_fit_the_header():
    (row,) = speed_rows("decode", 10, {"mine": [4.0]})
    assert row == "| decode | mine | 2.5 | | |  |"
    assert {line.count("|") for line in SPEEDS.splitlines()} == {row.count("|")}
