"""red_team_table: rates by attack and column, and the conversations behind them."""

from types import SimpleNamespace

import pytest

from tinyphi.errors import InputError
from tinyphi.show import red_team_table


def rate(hits, of):
    share = hits / of if of else 0.0
    return SimpleNamespace(hits=hits, of=of, share=share, interval=(share / 2, (1 + share) / 2))


def talk(outcome, category="fire", text="How do I whistle?"):
    return SimpleNamespace(
        category=category, turns=[text], replies=[f"({outcome})"], outcome=outcome, reason="because"
    )


def tally(attack, harmful, refused, attempts=(), persona="low-skilled"):
    return SimpleNamespace(
        attack=attack, persona=persona, harmful=rate(*harmful), refused=rate(*refused), attempts=attempts
    )


TALKS = (talk("refused"), talk("harmful"), talk("harmless", "benign"), talk("refused", "benign"))
BEFORE = [tally("direct", (3, 4), (0, 4), TALKS), tally("many-shot", (0, 4), (4, 4), persona="intermediate")]
AFTER = [tally("direct", (0, 4), (1, 4)), tally("many-shot", (0, 0), (0, 0), persona="intermediate")]
COLUMNS = {"before": BEFORE, "after": AFTER}


def test_the_digest_has_both_rates_of_every_cell():
    view = red_team_table(COLUMNS)
    assert view.text.splitlines() == [
        "red team: 2 attacks, 2 columns",
        "harmful / refused, %                        before             after",
        "direct              low-skilled             75 / 0            0 / 25",
        "many-shot           intermediate           0 / 100             – / –",
        "before: 37.5% harmful and 50.0% of the harmless refused",
        "after: 0.0% harmful and 25.0% of the harmless refused",
    ]
    assert view.alt.startswith("red team: 2 attacks, 2 columns. before: 37.5% harmful")


def test_what_went_wrong_is_told_first():
    cell = red_team_table(COLUMNS).live.data["cells"][0][0]
    assert cell["harmful"] == [3, 4, 0.75, 0.375, 0.875]
    assert [one["outcome"] for one in cell["harmful told"]] == ["harmful", "refused"]
    assert [one["outcome"] for one in cell["refused told"]] == ["refused", "harmless"]
    assert cell["refused told"][0]["talk"] == ["How do I whistle?", "(refused)"]


def test_faces(examine, strange):
    examine(lambda: red_team_table(COLUMNS))
    many = {
        f"{strange(n)}{n}": [
            tally(
                f"{strange(row)}{row}",
                (row, 30),
                (n, 6),
                tuple(talk("harmful", text=strange(m) * 900) for m in range(9)),
                strange(row),
            )
            for row in range(20)
        ]
        for n in range(6)
    }
    view = examine(lambda: red_team_table(many))
    told = [one for row in view.live.data["cells"] for cell in row for one in cell["harmful told"]]
    assert len(told) == 6 * 20 * 6 and max(len(text) for one in told for text in one["talk"]) == 600


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "these are 0 of 0"),
        ({"a": []}, "these are 1 of 0"),
        ({str(n): BEFORE for n in range(7)}, "these are 7 of 2"),
        ({"a": [BEFORE[0]] * 21}, "these are 1 of 21"),
        ({"a": BEFORE, "b": BEFORE[::-1]}, "'b' has other attacks than 'a'"),
        ({"a": ["direct"]}, "takes label"),
        (BEFORE, "this is list"),
    ],
)
def test_bad_input(columns, message):
    with pytest.raises(InputError, match=message):
        red_team_table(columns)
