"""mask_map: each hidden pair gets its reason, and a mask that breaks the rule is caught."""

import base64

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.model.mask import positions_within, visible
from tinyphi.show import mask_map

CAUSAL = torch.ones(6, 6).tril().bool()
SEGMENTS = torch.tensor([0, 0, 1, 1, 1, 1, 2, 2])


def model_mask(segments, window=None):
    """The mask (t t) that the model itself builds."""
    segments = torch.as_tensor(segments)[None]
    positions = positions_within(segments)
    return visible(segments, positions, segments, positions, window)[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"mask": torch.ones(1, 1).bool()},
        {"mask": CAUSAL},
        {"mask": ~CAUSAL, "labels": 6},
        {"mask": model_mask(SEGMENTS, 3), "segments": SEGMENTS, "labels": 8},
        {"mask": model_mask(torch.ones(40), 5)[-3:]},
        {"mask": model_mask(torch.ones(700), 100)},
        {"mask": torch.zeros(3, 3).bool()},
    ],
)
def test_faces(examine, strange, arguments):
    if "labels" in arguments:
        arguments = {**arguments, "labels": [strange(i) for i in range(arguments["labels"])]}
    assert examine(lambda: mask_map(**arguments)).live is not None


def test_a_window_is_read_off_the_mask():
    assert mask_map(model_mask(torch.ones(5), 2)).text.splitlines() == [
        "mask, 5 queries × 5 sources: 9 visible, 10 in the future, 6 outside the window of 2",
        "0 ■····",
        "1 ■■···",
        "2 w■■··",
        "3 ww■■·",
        "4 www■■",
        "■ visible, · in the future, w outside the window of 2",
    ]


def test_a_plain_causal_mask_has_no_window():
    view = mask_map(CAUSAL)
    assert view.text.startswith("mask, 6 queries × 6 sources: 21 visible, 15 in the future\n")
    assert view.live.data["window"] is None


def test_padding_and_documents():
    lines = mask_map(model_mask(SEGMENTS, 3), segments=SEGMENTS).text.splitlines()
    assert lines[1:-1] == [
        "0 ■■······",  # what padding sees is nobody's business
        "1 ■■······",
        "2 pp■·····",
        "3 pp■■····",
        "4 pp■■■···",
        "5 ppw■■■··",
        "6 ppdddd■·",
        "7 ppdddd■■",
    ]


@pytest.mark.parametrize("hidden", [True, False])
def test_padding_may_see_or_not(hidden):
    mask = model_mask(SEGMENTS)
    mask[:2] = not hidden
    text = mask_map(mask, segments=SEGMENTS).text
    assert "against the rule" not in text and "unknown" not in text
    assert ("2 of 8 queries see nothing at all" in text) == hidden


def test_a_window_off_by_one_is_caught():
    lines = mask_map(model_mask(torch.ones(5), 3), window=2).text.splitlines()
    assert "3 visible against the rule" in lines[0]
    assert lines[3:6] == ["2 !■■··", "3 w!■■·", "4 ww!■■"]


def test_a_peek_at_the_future_and_an_unexplained_hole_are_caught():
    mask = CAUSAL.clone()
    mask[1, 2], mask[5, 0] = True, False
    lines = mask_map(mask).text.splitlines()
    assert lines[2] == "1 ■■!···" and lines[6] == "5 ?■■■■■"


def test_a_hidden_pair_keeps_all_its_reasons():
    data = mask_map(model_mask(SEGMENTS, 3), segments=SEGMENTS).live.data
    reasons = base64.b64decode(data["reasons"]["base64"])
    future, document, window = 1, 2, 8
    assert reasons[7 * 8 + 2] == document + window  # position 7 and 2
    assert reasons[2 * 8 + 7] == document + future


def test_the_queries_of_a_decoding_step_come_last():
    lines = mask_map(model_mask(torch.ones(5), 2)[-1:], list("abcde")).text.splitlines()
    assert lines[1] == "e www■■"


def test_long_masks_say_what_is_left_out():
    view = mask_map(model_mask(torch.ones(700), 100))
    assert "\nthe last 24 queries and 48 sources:\n" in view.text
    assert view.live.data["skipped"] == 700 - 256 and len(view.html()) < 300_000


BAD = {
    "a mask of numbers": lambda: mask_map(torch.zeros(3, 3)),
    "a batch of masks": lambda: mask_map(CAUSAL[None]),
    "a list": lambda: mask_map([[True]]),
    "no pairs": lambda: mask_map(torch.zeros(0, 3).bool()),
    "more queries than sources": lambda: mask_map(CAUSAL[:, :2]),
    "too few labels": lambda: mask_map(CAUSAL, ["a"]),
    "a text for labels": lambda: mask_map(CAUSAL, "abcdef"),
    "too few segments": lambda: mask_map(CAUSAL, segments=torch.ones(3).long()),
    "segments that are no numbers of documents": lambda: mask_map(CAUSAL, segments=torch.ones(6)),
    "a window of nothing": lambda: mask_map(CAUSAL, window=0),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_error(name):
    with pytest.raises(InputError):
        BAD[name]()
