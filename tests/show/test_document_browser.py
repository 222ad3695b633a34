"""document_browser: what is kept, why the others are not, and how good that is."""

import math

import pytest

from tinyphi.errors import InputError
from tinyphi.show import document_browser
from tinyphi.show.document_browser import LONGEST, MOST

TEXTS = [
    "Water boils at 100 degrees.",
    "BUY NOW!!!\nBUY NOW!!!",
    "bleed the radiator lol",
    "All owls are fish.",
]
SCORES = [0.9, 0.8, 0.2, 0.5]
REASONS = ["", "repeated_lines", "", ""]
GOOD = [True, False, True, False]


def test_the_digest_says_what_is_kept_and_why():
    view = document_browser(TEXTS, SCORES, 0.5, REASONS, GOOD)
    assert view.text.splitlines() == [
        "4 documents, threshold 0.50: 2 kept",
        "  dropped by repeated_lines               1",
        "  dropped by score                        1",
        "  at 0.25:    2 kept, precision 50%, recall 50%",
        "  at 0.50:    2 kept, precision 50%, recall 50%",
        "  at 0.75:    1 kept, precision 100%, recall 50%",
        "  at 0.90:    1 kept, precision 100%, recall 50%",
        "kept ✓ 0.90: Water boils at 100 degrees.",
        "kept ✗ 0.50: All owls are fish.",
        "dropped ✓ 0.80 by repeated_lines: BUY NOW!!! BUY NOW!!!",
        "dropped ✗ 0.20 by score: bleed the radiator lol",
    ]
    assert view.alt == ("4 documents, of which 2 are kept at a threshold of 0.5: precision 50%, recall 50%.")


def test_without_reasons_and_labels():
    view = document_browser(TEXTS, SCORES, 0.85)
    assert view.text.splitlines() == [
        "4 documents, threshold 0.85: 1 kept",
        "  dropped by score                        3",
        "kept 0.90: Water boils at 100 degrees.",
        "dropped 0.80 by score: BUY NOW!!! BUY NOW!!!",
        "dropped 0.50 by score: All owls are fish.",
        "dropped 0.20 by score: bleed the radiator lol",
    ]
    nothing = document_browser(TEXTS, SCORES, 1.0, good=[False] * 4)
    assert "at 1.00:    0 kept, precision –, recall –" in nothing.text


def test_marks_are_sorted_joined_and_cut_with_the_text():
    texts = ["abcdefghij", "x" * (LONGEST + 50)]
    marks = [[(6, 8), (0, 3), (2, 5)], [(LONGEST - 2, LONGEST + 20), (LONGEST + 1, LONGEST + 5)]]
    data = document_browser(texts, [0.1, 0.2], marks=marks).live.data
    assert data["marks"] == [[[0, 5], [6, 8]], [[LONGEST - 2, LONGEST]]]
    assert len(data["texts"][1]) == LONGEST and data["whole"] == [10, LONGEST + 50]


def test_faces(examine, strange):
    examine(lambda: document_browser(TEXTS, SCORES, 0.5, REASONS, GOOD, [[(0, 5)], [], [], []]))
    examine(lambda: document_browser(TEXTS, SCORES))
    texts = [strange(n) * 1500 + "a" for n in range(MOST)]
    scores = [n / (MOST - 1) for n in range(MOST)]
    reasons = [strange(n) if n % 3 == 0 else "" for n in range(MOST)]
    good, marks = [n % 2 == 0 for n in range(MOST)], [[(0, 1)]] * MOST
    view = examine(lambda: document_browser(texts, scores, 0.3, reasons, good, marks))
    assert len(view.text.splitlines()) < 30
    assert view.live.data["scores"] == scores  # exact, so that the script judges as Python does
    examine(lambda: document_browser(["\x00"], [1.0], 0, ["no\nreason"], [True]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "these are 0"),
        ((["a"] * (MOST + 1), [0.5] * (MOST + 1)), f"these are {MOST + 1}"),
        (("text", [0.5] * 4), "takes 1 to"),
        ((["a", "b"], [0.5]), "scores has 1 entries for 2 texts"),
        ((["a"], [0.5], 0.5, ["", ""]), "reasons has 2 entries"),
        ((["a"], [0.5], 0.5, None, [True, True]), "good has 2 entries"),
        ((["a"], [0.5], 0.5, None, None, []), "marks has 0 entries"),
        ((["a"], [math.nan]), "finite real numbers"),
        ((["a"], [1.5]), "go from 1.5 to 1.5"),
        ((["a"], [0.5], -0.1), "threshold is -0.1"),
        ((["a"], [0.5], math.nan), "threshold is nan"),
        ((["a"], [0.5], 0.5, None, None, [[(0, 2)]]), r"\(0, 2\) is no stretch of its 1 letters"),
        ((["a"], [0.5], 0.5, None, None, [[(1, 1)]]), "is no stretch"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        document_browser(*arguments)
