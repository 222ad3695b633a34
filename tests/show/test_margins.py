"""margins: rewards and losses of preference pairs, and how they came about."""

import math

import pytest
import torch
from torch.nn import functional as F

from tinyphi.errors import InputError
from tinyphi.show import margins

CHOSEN, REJECTED = torch.tensor([2.0, -4.0, 10.0, 1.0]), torch.tensor([-2.0, -1.0, -30.0, 1.0])
LOG = [
    {"step": step, "loss": 0.6, "rewards/accuracies": 0.5 + step / 20, "rewards/margins": step / 3}
    for step in range(1, 11)
]


def test_the_digest_has_rewards_and_loss():
    view = margins(CHOSEN, REJECTED, 0.5, LOG)
    assert view.text.splitlines() == [
        "4 pairs, beta 0.5: 2 prefer the chosen answer",
        "    chosen rewards: mean    1.12, quarters    -2.00    -0.12     0.75     2.00     5.00",
        "  rejected rewards: mean   -4.00, quarters   -15.00    -4.50    -0.75    -0.25     0.50",
        "    margin rewards: mean    5.12, quarters    -1.50    -0.38     1.00     6.50    20.00",
        "  loss 0.63; at margin 0 it is 0.69",
        "  step      1: accuracy 0.55, margin 0.33",
        "  step      3: accuracy 0.65, margin 1.00",
        "  step      5: accuracy 0.75, margin 1.67",
        "  step      8: accuracy 0.90, margin 2.67",
        "  step     10: accuracy 1.00, margin 3.33",
    ]
    loss = float(-F.logsigmoid(0.5 * (CHOSEN - REJECTED)).mean())
    assert f"loss {loss:.4f}." in view.alt


def test_faces(examine):
    examine(lambda: margins(CHOSEN, REJECTED, log=LOG))
    torch.manual_seed(0)
    chosen, rejected = torch.randn(2, 2000) * 30
    long = [{"step": step, "rewards/accuracies": 1.0, "rewards/margins": -5.0} for step in range(3000)]
    view = examine(lambda: margins(chosen, rejected, 10, long))
    assert len(view.live.data["log"]) == 500 and view.live.data["log"][-1][0] == 2999
    one = torch.zeros(1)
    odd = [{"step": 1, "loss": 3.0}, {"step": 2, "rewards/accuracies": 1.0, "rewards/margins": math.nan}]
    examine(lambda: margins(one, one, log=odd))
    examine(lambda: margins(one, one, log=LOG[:1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CHOSEN, REJECTED[:2]), "these are 4 and 2"),
        ((CHOSEN[None], REJECTED[None]), "each .pairs."),
        ((torch.zeros(2001), torch.zeros(2001)), "at most 2000"),
        ((CHOSEN, REJECTED * torch.inf), "finite real numbers"),
        ((CHOSEN, 3.0), "each .pairs."),
        ((CHOSEN, REJECTED, 0.0), "beta is 0.0; this view takes 0.01 to 10"),
        ((CHOSEN, REJECTED, math.nan), "beta is nan"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        margins(*arguments)
