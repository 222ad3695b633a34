"""probabilities: what the bars and the digest say of a distribution, of a step, and of what was cut."""

from types import SimpleNamespace

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import probabilities


def step(cut=3):
    values = torch.randn(500, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=0)
    kept = values >= values.sort(descending=True).values[cut]
    return SimpleNamespace(probabilities=values, kept=kept, id=int(values.argmax()), cuts={"top_k": ~kept})


GIVEN = {
    "a step": step,
    "a certain token": lambda: torch.tensor([1.0, 0.0]),
    "a large flat vocabulary": lambda: torch.full((49152,), 1 / 49152),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("top", [1, 12, 40])
def test_its_faces(name, top, examine, strange):
    examine(lambda: probabilities(GIVEN[name](), strange, top))


def test_the_digest_says_what_was_cut_and_chosen():
    given = SimpleNamespace(
        probabilities=torch.tensor([0.125, 0.5, 0.25, 0.125]),
        kept=torch.tensor([False, True, True, False]),
        id=2,
    )
    text = probabilities(given, "abcd".__getitem__, top=3).text.splitlines()
    assert text[0] == "next token, 3 of 4 shown; entropy 1.75 bits; sampler kept 2, cut 0.250"
    assert text[1].split() == ["0.500", "1", "b"]
    assert text[2].split() == ["0.250", "2", "c", "←", "chosen"]
    assert text[3].split() == ["0.125", "cut", "0", "a"]
    assert text[4].split() == ["0.125", "all", "others"]


def test_a_chosen_token_far_from_the_top_is_shown_with_its_rank():
    given = SimpleNamespace(probabilities=torch.tensor([0.4, 0.3, 0.2, 0.1]), id=3)
    view = probabilities(given, "abcd".__getitem__, top=1)
    lines = view.text.splitlines()
    assert lines[2].split() == ["0.100", "3", "d", "←", "chosen,", "rank", "4"]
    assert lines[3].split() == ["0.500", "all", "others"]
    assert [bar["rank"] for bar in view.live.data["bars"]] == [1, 4]


def test_the_live_face_knows_which_cut_it_was(strange):
    bars = probabilities(step(), strange).live.data["bars"]
    assert [bar["cut"] for bar in bars[:5]] == ["", "", "", "", "top_k"]
    by_hand = probabilities(torch.tensor([0.75, 0.25]), strange, kept=torch.tensor([True, False]))
    assert by_hand.live.data["bars"][1]["cut"] == "the sampler"


def test_forty_bars_are_the_most(strange):
    assert probabilities(step(), strange, top=100).text.startswith("next token, 40 of 500 shown")


@pytest.mark.parametrize(
    ("given", "more"),
    [
        (torch.randn(9, generator=torch.Generator().manual_seed(0)), {}),
        (torch.ones(1, 1), {}),
        ([1.0], {}),
        (torch.ones(1), {"kept": torch.ones(2).bool()}),
        (torch.ones(1), {"top": 0}),
        (torch.ones(1), {"top": 2.5}),
    ],
)
def test_what_is_no_distribution_is_refused(given, more, strange):
    with pytest.raises(InputError):
        probabilities(given, strange, **more)
