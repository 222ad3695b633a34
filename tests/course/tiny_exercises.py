"""Three small exercises for the tests of the builds, with one, two and three points.

Written as the exercises of the course are, one name for the stub, the solution and the wrong answer.
"""
# ruff: noqa: F811, PIE790

import torch

from tinyphi.course.exercise import Exercise, fail_if, near, tensor_of

NOTEBOOK = "90_tiny"

first = Exercise(
    "tiny.double", notebook=NOTEBOOK, title="Twice as much", difficulty=1, minutes=2,
    task="Write `double(x)`.", hints=["Add x to itself.", "`x + x`"],
)  # fmt: skip


@first.stub
def double(x):
    """(t) float32: twice x."""
    ...  # your code


@first.solution
def double(x):
    return x + x


@first.judge
def judge_double(f):
    result = tensor_of(f(torch.arange(3.0)), shape=(3,))
    fail_if(near(result, torch.arange(3.0) ** 2), "You square instead of doubling.")
    fail_if(not near(result, 2 * torch.arange(3.0)), "That is not twice as much.")


@first.wrong("squared", says="square")
def double(x):
    return x * x


second = Exercise(
    "tiny.causal", notebook=NOTEBOOK, title="Hide the future", difficulty=2, minutes=5,
    task="Write `causal(t)`.", hints=["Which half is it?", "`tril`"],
)  # fmt: skip


@second.stub
def causal(t):
    """(t t) bool: True where query i may see key j."""
    ...  # your code


@second.solution
def causal(t):
    return torch.ones(t, t).tril().bool()


@second.judge
def judge_causal(f):
    mask = tensor_of(f(3), shape=(3, 3), dtype=torch.bool)
    fail_if(torch.equal(mask, torch.ones(3, 3).triu().bool()), "Yours is transposed: it hides the past.")
    fail_if(not torch.equal(mask, torch.ones(3, 3).tril().bool()), "The mask is another one.")


@second.wrong("transposed", says="transposed")
def causal(t):
    return torch.ones(t, t).triu().bool()


third = Exercise(
    "tiny.length", notebook=NOTEBOOK, title="How long", difficulty=3, minutes=8,
    task="Write `length(x)`.", hints=["Pythagoras.", "`norm`"],
)  # fmt: skip


@third.stub
def length(x):
    """The Euclidean length of x."""
    ...  # your code


@third.solution
def length(x):
    return x.norm()


@third.judge
def judge_length(f):
    result = tensor_of(f(torch.tensor([3.0, 4.0])), shape=())
    fail_if(near(result, 7.0), "That is the way round two sides of the triangle.")
    fail_if(not near(result, 5.0), "That is not the length.")


@third.wrong("sum", says="two sides")
def length(x):
    return x.sum()
