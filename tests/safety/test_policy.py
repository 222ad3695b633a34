"""The policy says what is harm and what sounds alike; its numbers are checked before use."""

import pytest

from tinyphi.errors import InputError
from tinyphi.safety.policy import POLICY, learnt_categories, lookalikes, thresholds


def test_every_category_is_explained_and_has_lookalikes():
    for name, category in POLICY.items():
        assert category.name == name and category.harm and category.allowed
        assert 0 < category.threshold < 1 and len(category.lookalikes) >= 5
    sentences = [text for _, text in lookalikes()]
    assert len(sentences) == len(set(sentences)) >= 60


def test_jailbreaks_are_found_by_rules_alone():
    assert set(POLICY) - set(learnt_categories()) == {"jailbreak"}


def test_thresholds_can_be_changed_one_by_one():
    assert thresholds({"hate": 2})["hate"] == 2
    assert thresholds({"hate": 2})["violence"] == thresholds()["violence"] == POLICY["violence"].threshold


@pytest.mark.parametrize("changes", [{"rudeness": 0.5}, {"hate": 0}, {"hate": "low"}])
def test_wrong_thresholds_are_refused(changes):
    with pytest.raises(InputError):
        thresholds(changes)
