"""From labelled texts to a filter and its report: on made-up data in which the truth is known."""

import argparse
import json
import sys

import numpy as np
import pytest

from tinyphi.errors import InputError
from tinyphi.safety.classifier import load_classifier
from tinyphi.safety.filter import SafetyFilter
from tinyphi.safety.heldout import BASELINES, false_refusals, judged, other_judges, report, row
from tinyphi.safety.labelled import all_examples, read_examples
from tinyphi.train.recipes import safety
from tinyphi.train.recipes.safety import add_command


def test_training_makes_a_filter_that_knows_unseen_texts(made_up_data, tmp_path, monkeypatch):
    monkeypatch.setattr(safety, "_FOLDS", 2)
    monkeypatch.setattr(safety, "_STEPS", 30)
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    file = tmp_path / "made" / "filter.safetensors"
    options = parser.parse_args(["safety", "--data", str(made_up_data), "--to", str(file)])
    assert options.run(options) == 0
    judge = SafetyFilter.load(file)
    examples = [one for one in read_examples(made_up_data) if one.part == "test"]
    for name in ("hate", "violence", "profanity"):
        chosen = [one for one in examples if name in one.labels]
        scores = np.array([judge.check(one.text).scores[name] for one in chosen])
        found = row("tinyphi", name, [one.labels[name] for one in chosen], scores, scores > 0.5)
        assert found.auc > 0.99 and found.f1 > 0.9, found
    again = tmp_path / "again.safetensors"
    safety.run(made_up_data, again, tell=lambda _: None)
    assert again.read_bytes() == file.read_bytes()
    assert load_classifier(file).categories


def test_a_row_by_hand():
    found = row("tinyphi", "task", [True, True, False, False], np.array([0.9, 0.3, 0.6, 0.1]), [1, 0, 1, 0])
    assert (found.precision, found.recall, found.f1, found.false_positive_rate) == (0.5,) * 4
    assert (found.texts, found.harmful, found.auc) == (4, 2, 0.75)
    assert found.calibration_error == pytest.approx((0.1 + 0.7 + 0.6 + 0.1) / 4)
    assert found.lead is None
    other = row("other", "task", [True, False], np.array([7.0, 1]), [1, 0], np.array([0.1, 0.2]))
    assert other.calibration_error is None and other.lead == (-1, -1, -1) and "tinyphi -1.000" in str(other)


def test_a_crossed_report_judges_every_text_once(made_up_data, tmp_path, monkeypatch):
    monkeypatch.setattr(safety, "_FOLDS", 2)
    monkeypatch.setattr(safety, "_STEPS", 20)
    parser = argparse.ArgumentParser()
    add_command(parser.add_subparsers())
    file = tmp_path / "crossed.json"
    wanted = f"safety-crossed --data {made_up_data} --to {file} --beside retrained"
    options = parser.parse_args(wanted.split())
    assert options.run(options) == 0
    rows = {(one["judge"], one["task"]): one for one in json.loads(file.read_text("utf-8"))["rows"]}
    every = read_examples(made_up_data)
    assert rows["tinyphi", "any harm, tweets"]["texts"] == sum(one.source == "tweets" for one in every)
    assert rows["tinyphi", "any harm, OpenAI"]["auc"] > 0.99
    assert rows["retrained", "any harm, tweets"]["auc"] > 0.99


def test_baselines_are_judged_on_the_same_texts(safety_filter, made_up_data, monkeypatch):
    asked = []

    def says_yes(texts):
        asked.append(len(texts))
        return np.ones(len(texts))

    monkeypatch.setitem(BASELINES, "alt-profanity-check", lambda trained: says_yes)
    rows = report(made_up_data, safety_filter, ["alt-profanity-check"])["rows"]
    ours = {one["task"]: one["texts"] for one in rows if one["judge"] == "tinyphi"}
    theirs = {one["task"]: one for one in rows if one["judge"] == "alt-profanity-check"}
    assert ours == {task: one["texts"] for task, one in theirs.items()} and "any harm, OpenAI" in ours
    assert all((one["recall"], one["auc"]) == (1, 0.5) for one in theirs.values())


def test_false_refusals_use_xstest_if_it_is_there(safety_filter, tmp_path):
    assert set(false_refusals(safety_filter)["tinyphi"]) == {"look-alikes"}
    rows = "How do I bake bread?,homonyms\nHow can I burn down the barn of Ada?,contrast_homonyms\n"
    (tmp_path / "xstest_prompts.csv").write_text(f"prompt,type\n{rows}", "utf-8")
    shares = false_refusals(safety_filter, tmp_path)["tinyphi"]
    assert (shares["XSTest safe"], shares["XSTest unsafe"]) == (0, 1)


def test_a_baseline_that_learns_sees_the_training_texts_only(made_up_data, safety_filter):
    every = all_examples(made_up_data)
    judge = other_judges(every, ["retrained"])["retrained"]
    assert judge(["blimey"])[0] > 0.8 > 0.2 > judge(["lovely"])[0]
    found = judged(every, safety_filter, {"retrained": judge})
    assert {one.part for one in found.examples} == {"test"} and len(found.others["retrained"]) == len(
        found.examples
    )


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("alt-profanity-check", "profanity_check", "alt-profanity-check"),
        ("retrained", "sklearn.svm", "alt-profanity-check"),
        ("better-profanity", "better_profanity", "better-profanity"),
    ],
)
def test_a_package_that_is_missing_is_named(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"pip install {package}"):
        BASELINES[name]([])
