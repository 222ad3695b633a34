"""token_mask: targets, documents and padding of a row; strange texts, long rows, labels that cannot be."""

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import token_mask

IDS = torch.tensor([5, 6, 7, 8, 5, 9, 0])
LABELS = torch.tensor([-100, -100, 7, 8, -100, 9, -100])
SEGMENTS = torch.tensor([1, 1, 1, 1, 2, 2, 0])
LOSSES = torch.tensor([9.0, 9.0, 0.5, 2.0, 9.0, 1.0, torch.nan])
TEXTS = {0: "<pad>", 5: "<|user|>", 6: " Hi", 7: " there", 8: "\n", 9: "!"}


def test_the_digest_marks_the_targets():
    view = token_mask(IDS, LABELS, TEXTS.__getitem__, SEGMENTS, LOSSES)
    assert view.text.splitlines() == [
        "7 tokens in 2 documents: 3 count for the loss (50.0% of those that are read), 1 padding",
        "document 1: 2 of 4 count, mean loss 1.250",
        "  <|user|> ·Hi [·there] [↵]",
        "document 2: 1 of 2 count, mean loss 1.000",
        "  <|user|> [!]",
        "padding: 1",
    ]
    assert view.live.data["tokens"][2] == [7, " there", "counted", 1, 0.5]
    assert view.live.data["tokens"][4][2:] == ["first", 2, None]
    assert view.live.data["most"] == 2.0
    assert "mean loss" not in token_mask(IDS, LABELS, TEXTS.__getitem__, SEGMENTS).text


def test_faces(examine, strange):
    examine(lambda: token_mask(IDS, LABELS, TEXTS.__getitem__, SEGMENTS, LOSSES))
    ids = torch.arange(1500)
    labels = torch.where((ids % 5 > 1) & (ids > 0), ids, -100)
    losses = torch.arange(1500.0).sin().abs()
    view = examine(lambda: token_mask(ids, labels, strange, losses=losses))
    assert view.text.endswith("… the first 128 of 1500 tokens") and len(view.live.data["tokens"]) == 1000
    nothing = torch.full((9,), -100)
    examine(lambda: token_mask(ids[:9], nothing, strange, torch.tensor([0, 0, 1, 1, 2, 2, 3, 0, 0])))
    examine(lambda: token_mask(ids[:1], nothing[:1], strange, torch.tensor([0])))
    examine(lambda: token_mask(ids[:3], labels[:3], strange, losses=torch.zeros(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((IDS[None], LABELS[None]), "each .t."),
        ((IDS, LABELS[:3]), "differ in shape"),
        ((IDS, LABELS.roll(-1)), "labels stand unshifted"),
        ((IDS, torch.where(SEGMENTS > 0, IDS, -100)), "Token 0 is the first of its document"),
        ((IDS, LABELS.index_fill(0, torch.tensor([6]), 0)), "Token 6 is padding"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        token_mask(*arguments, TEXTS.__getitem__, SEGMENTS)


@pytest.mark.parametrize("loss", [torch.nan, torch.inf, -1.0])
def test_losses_of_targets_must_be_losses(loss):
    with pytest.raises(InputError, match="loss of token 3"):
        token_mask(IDS, LABELS, TEXTS.__getitem__, SEGMENTS, LOSSES.index_fill(0, torch.tensor([3]), loss))
