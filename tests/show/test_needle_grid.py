"""needle_grid: shares of cells, missing cells, and what was answered."""

from types import SimpleNamespace

import pytest

from tinyphi.errors import InputError
from tinyphi.show import needle_grid


def trial(tokens, depth, score, answer=" 12345.", truth=("12345",)):
    question = "What is the pass key? The pass key is"
    return SimpleNamespace(
        tokens=tokens, depth=depth, score=score, answer=answer, truth=truth, question=question
    )


def grid(lengths, depths, trials):
    return SimpleNamespace(lengths=lengths, depths=depths, trials=trials)


SMALL = grid(
    (1000, 2000, 131072),
    (0, 50.5, 100),
    [
        trial(1000, 0, 1.0),
        trial(1000, 50.5, 1.0),
        trial(1000, 50.5, 0.0, " a key that\nopens doors"),
        trial(2000, 100, 0.0, " 54321"),
        trial(131072, 0, 0.5),
        trial(999, 0, 1.0),  # of a length that was not asked for
    ],
)


def test_the_digest_has_all_cells_and_the_first_wrong_answers():
    view = needle_grid(SMALL, trained=2000)
    assert view.text.splitlines() == [
        "needle grid, 3 lengths × 3 depths, 50% found on average; 5 cells missing",
        "   depth   1000   2000 131072",
        "     0 %   100%      –    50%",
        "  50.5 %    50%      –      –",
        "   100 %      –     0%      –",
        "longer than the 2000 tokens of the training: 1 of 3",
        "1000 tokens, 50.5 %: 12345, but answered: a key that opens doors",
        "2000 tokens, 100 %: 12345, but answered: 54321",
        "131072 tokens, 0 %: 12345, but answered: 12345.",
    ]
    assert view.live.data["counts"] == [[1, 0, 1], [2, 0, 0], [0, 1, 0]] and view.live.data["within"] == 2
    assert "longer than" not in needle_grid(SMALL).text


@pytest.mark.parametrize("trained", [None, 1, 1500, 10**9])
def test_faces(examine, strange, trained):
    examine(lambda: needle_grid(SMALL, trained))
    examine(lambda: needle_grid(grid((5,), (0,), []), trained))
    lengths, depths = [1000 * n for n in range(1, 13)], [5 * n for n in range(21)]
    trials = [
        trial(length, depth, (length + depth + repeat) % 3 / 2, strange(depth) * 40, (strange(repeat),))
        for length in lengths
        for depth in depths
        for repeat in range(10)
    ]
    view = examine(lambda: needle_grid(grid(lengths, depths, trials), trained))
    assert {len(cell) for row in view.live.data["trials"] for cell in row} == {8}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (grid((), (0,), []), "these are 0 and 1"),
        (grid((1,), (), []), "these are 1 and 0"),
        (grid(range(13), (0,), []), "these are 13 and 1"),
        (grid((1,), range(22), []), "these are 1 and 22"),
        ({}, "not dict"),
        (grid(3, (0,), []), "not SimpleNamespace"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(InputError, match=message):
        needle_grid(given)
