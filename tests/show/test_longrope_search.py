"""longrope_search: its faces, its digest, and what it refuses."""

import math

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import longrope_search, style
from tinyphi.show.longrope_search import _look, _marks

GENERATIONS = [[12.0, 11.0, 9.5, 30.0], [9.4, 9.6], [], [9.1, 9.45, 9.2]]
BASELINES = {"PI": 12.1, "NTK": 10.9, "YaRN": 9.5}
FACTORS = {
    "found": [1.0, 1.02, 1.5, 2.2],
    "PI": [2.0, 2.0, 2.0, 2.0],
    "NTK": [1.0, 1.26, 1.59, 2.0],
    "YaRN": [1.0, 1.0, 1.33, 2.0],
}


def test_faces(examine, strange):
    examine(lambda: longrope_search(GENERATIONS, BASELINES, FACTORS))
    assert longrope_search([[3.0]], {}, {"found": [1.0]}).png()
    names = [strange(number) or "empty" for number in range(6)]
    many = [[10 + math.sin(number * place) for place in range(1, 17)] for number in range(1, 13)]
    examine(
        lambda: longrope_search(
            many,
            {name: 9.0 + place for place, name in enumerate(names[:5])},
            {name: [1.5] * 64 for name in names},
        )
    )


def test_the_digest():
    lines = longrope_search(GENERATIONS, BASELINES, FACTORS).text.splitlines()
    assert lines[0] == "longrope search, 9 candidates in 4 generations"
    assert lines[1].split() == ["PI", "12.10"]
    assert lines[5].split() == ["0", "4", "9.500", "11.00", "9.500"]
    assert lines[6].split() == ["1", "2", "9.400", "9.400", "9.400"]
    assert lines[7].split() == ["2", "0", "–", "–", "9.400"]
    assert lines[8].split() == ["3", "3", "9.100", "9.200", "9.100"]
    assert lines[10].split() == ["found", "1.00", "1.02", "1.50", "2.20"]


def test_it_takes_tensors():
    tensors = [torch.tensor(generation) for generation in GENERATIONS]
    named = {name: torch.tensor(row) for name, row in FACTORS.items()}
    assert (
        longrope_search(tensors, BASELINES, named).text
        == longrope_search(GENERATIONS, BASELINES, FACTORS).text
    )


def test_the_live_face_has_all_candidates():
    data = longrope_search(GENERATIONS, BASELINES, FACTORS).live.data
    assert data["counts"] == [4, 2, 0, 3] and data["perplexities"]["shape"] == [9]
    assert data["baselines"][2] == {"label": "YaRN", "value": 9.5}
    assert data["factors"][0] == {"label": "found", "mark": 5, "row": FACTORS["found"]}
    low, high = data["scale"]
    assert low < 9.1 and 9.5 < high < 12.0


def test_a_row_of_factors_looks_like_its_baseline_and_like_no_other_row():
    marks = _marks({"NTK": 10.9, "YaRN": 9.5}, {"found": 0, "YaRN": 0, "hidden": 0})
    assert marks == {"NTK": 0, "YaRN": 1, "found": 5, "hidden": 2}
    strangers = {f"other {number}": [1.5, 2.0] for number in range(6)}  # none of them is a baseline
    baselines = {str(number): 9.0 for number in range(5)}
    looks = [_look(mark) for mark in _marks(baselines, strangers).values()]
    assert len(looks) == 11 and all(looks.count(look) == 1 for look in looks)
    assert looks[5] == {"marker": "P", "color": style.INK, "mfc": style.INK}
    assert longrope_search(GENERATIONS, baselines, strangers).png()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], BASELINES, FACTORS), "0 candidates in 0 generations"),
        (([[], [1.0]], BASELINES, FACTORS), "first not empty"),
        (([[1.0]] * 1001, BASELINES, FACTORS), "1 to 1000"),
        (([[math.nan]], BASELINES, FACTORS), "generation 0"),
        (([[-1.0]], BASELINES, FACTORS), "above 0"),
        (([["a"]], BASELINES, FACTORS), "not a list of numbers"),
        (([[1.0]], {"PI": math.inf}, FACTORS), "baseline 'PI'"),
        (([[1.0]], {str(number): 1.0 for number in range(6)}, FACTORS), "6 baselines"),
        (([[1.0]], BASELINES, {}), "0 lists of factors"),
        (([[1.0]], BASELINES, {"a": [1.0], "b": [1.0, 2.0]}), "one per pair"),
        (([[1.0]], BASELINES, {"a": []}), "one per pair"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        longrope_search(*arguments)
