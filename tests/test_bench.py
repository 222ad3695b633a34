"""What the benchmark prints; the measurement itself is `tinyphi bench decode`."""

import pytest

from tinyphi import bench
from tinyphi.bench import Comparison


def test_a_row_shows_medians_and_the_ratios_of_pairs():
    row = Comparison("decode", 10, mine=[1.0, 2.0, 5.0], theirs=[2.0, 2.0, 20.0]).row()
    assert row == "| decode | 5 tok/s | 5 tok/s | 2.00 × | 1.00 – 4.00 |"


def test_without_tokens_seconds_are_shown():
    assert "| 0.50 s | 1.50 s | 3.00 ×" in Comparison("load", 0, [0.5], [1.5]).row()


def test_the_two_sides_take_turns_and_the_first_pair_warms_up():
    calls = []
    found = bench._alternate("x", 0, 3, lambda: calls.append("mine"), lambda: calls.append("theirs"))
    assert calls == ["mine", "theirs"] * 4
    assert len(found.mine) == len(found.theirs) == 3


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["dekode"])
    assert end.value.code == 2
