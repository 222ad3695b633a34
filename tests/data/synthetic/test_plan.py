"""The grid: every combination once, nothing that is not asked for, and a broken plan says what is broken."""

import json
from dataclasses import replace

import pytest

from tinyphi.data.synthetic.plan import Plan, Prompt
from tinyphi.errors import InputError

SAMPLING = {"temperature": 0.8}
BOTH = Prompt("lesson", "Explain {topic} to {persona}.", topics=("rain", "clouds"), seeds=2)
NONE = Prompt("story", "Write a story.", seeds=3)


def plan(*prompts, personas=("a nurse", "a judge"), **changes):
    return Plan(
        **{"prompts": prompts, "personas": personas, "sampling": SAMPLING, "max_new_tokens": 9, **changes}
    )


def test_places_multiply_and_what_is_not_there_does_not():
    cells = list(plan(BOTH, NONE).cells())
    assert len(cells) == 2 * 2 * 2 + 3
    assert len({cell.id for cell in cells}) == len(cells)
    assert [cell.seed for cell in cells[-3:]] == [0, 1, 2] and cells[-1].persona is None
    assert cells[2].message == "Explain rain to a judge." and cells[2].id == "lesson / rain / a judge / 0"
    assert cells[-1].message == "Write a story."


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda: plan(), "A plan needs prompts"),
        (lambda: plan(NONE, NONE), "an id of its own"),
        (lambda: plan(replace(NONE, form="verse")), "story has the form 'verse'; there are sentence, prose"),
        (lambda: plan(replace(BOTH, topics=())), r"lesson: nothing is there to stand for \{topic\}"),
        (lambda: plan(BOTH, personas=()), r"lesson: nothing is there to stand for \{persona\}"),
        (lambda: plan(BOTH, personas=("a judge", "a judge")), "listed twice"),
        (lambda: plan(NONE, sampling={"temperature": 0.8, "seed": 3}), "each cell has its own"),
        (lambda: plan(NONE, sampling={"heat": 1}), "No sampler takes"),
        (lambda: plan(NONE, sampling={"temperature": 0.0}), "temperature is 0.0"),
    ],
)
def test_a_broken_plan_says_what_is_broken(broken, says):
    with pytest.raises(InputError, match=says):
        broken()


def test_a_plan_survives_its_file(tmp_path):
    whole = plan(BOTH, NONE)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(whole.as_json()), encoding="utf-8")
    assert Plan.load(path) == whole


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"prompts": [{"id": "a"}], "personas": [], "sampling": {}, "max_new_tokens": 1}', None],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path, text):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be read as a plan.*plan\.json shows one"):
        Plan.load(path)


def test_the_plan_of_the_package_uses_every_form_and_place():
    prompts = Plan.load().prompts
    assert {prompt.form for prompt in prompts} == {"sentence", "prose", "question", "python"}
    assert all(any(place in prompt.text for prompt in prompts) for place in ("{topic}", "{persona}"))
    assert max(prompt.seeds for prompt in prompts) > 1
