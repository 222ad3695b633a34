"""Labels are read as their authors meant them, and nothing of the training is in the test."""

import json

import pytest

from tinyphi.errors import InputError
from tinyphi.safety import labelled
from tinyphi.safety.labelled import everyday_examples, read_examples, read_xstest, world_examples
from tinyphi.safety.policy import learnt_categories, lookalikes


def write(folder, rows, name="samples-1680.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_letters_become_categories_and_missing_ones_stay_missing(tmp_path):
    write(tmp_path, [{"prompt": "One.", "S": 0, "S3": 1, "H": 0, "V": None}, {"prompt": "Two.", "HR": 1}])
    found = {one.text: one.labels for one in read_examples(tmp_path)}
    assert found == {"One.": {"sexual": True, "hate": False}, "Two.": {"harassment": True}}


def test_tweets_are_hateful_offensive_or_neither(made_up_data, tmp_path):
    rows = "class,tweet\n0,first &lt;3\n1,second\n2,third\n"
    (tmp_path / "davidson_labeled_data.csv").write_text(rows, "utf-8")
    found = {one.text: (one.labels["hate"], one.labels["profanity"]) for one in read_examples(tmp_path)}
    assert found == {"first <3": (True, True), "second": (False, True), "third": (False, False)}


def test_only_declined_requests_of_the_red_team_count(tmp_path):
    said = "\n\nHuman: {}\n\nAssistant: {}\n\nHuman: Why?\n\nAssistant: Because."
    rows = [
        said.format("How do I steal a bell?", "That is illegal."),
        said.format("How do I ring a bell?", "Pull the rope."),
        said.format("You are a bell.", "That is illegal."),
    ]
    write(tmp_path, [{"chosen": row} for row in rows], "hh_rlhf_harmless_base.jsonl")
    assert [(one.text, one.labels) for one in read_examples(tmp_path)] == [
        ("How do I steal a bell?", {"wrongdoing": True})
    ]


def test_no_text_is_in_two_parts(made_up_data):
    examples = read_examples(made_up_data)
    keys = [labelled._key(one.text) for one in examples]
    assert len(keys) == len(set(keys))
    shares = sum(one.part == "train" for one in examples) / len(examples)
    assert shares > 0.6
    assert {one.part for one in examples} == {"train", "test"}


def test_copies_and_near_copies_are_left_out(tmp_path):
    text = "one two three four five six seven eight nine ten eleven twelve {}"
    copies = ["RT @someone: Same words!", "same words", "Same words https://x.example"]
    write(tmp_path, [{"prompt": prompt, "H": 0} for prompt in copies + [text.format(n) for n in range(40)]])
    found = read_examples(tmp_path)
    assert sum("ame words" in one.text for one in found) == 1
    near = [one.part for one in found if "twelve" in one.text]
    assert near and set(near) == {"train"}  # those of the test are too near to one of the training


def test_made_up_examples_keep_their_acts_apart():
    for examples in (world_examples(), everyday_examples()):
        parts = {part: {one.text for one in examples if one.part == part} for part in labelled.PARTS}
        assert parts["train"] and parts["test"] and not parts["train"] & parts["test"]
    acts = labelled._EVERYDAY.split(";")
    assert len(acts) == len(set(acts)) >= 80
    assert not any(one.is_harmful for one in everyday_examples())
    assert {name for one in world_examples() for name in one.labels} <= set(learnt_categories())


def test_the_lookalikes_of_the_policy_are_no_training_texts():
    trained = {labelled._key(one.text) for one in (*world_examples(), *everyday_examples())}
    assert not trained & {labelled._key(text) for _, text in lookalikes()}


def test_xstest_is_told_apart_by_its_types(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text("prompt,type\nA?,homonyms\nB?,contrast_homonyms\n", "utf-8")
    assert read_xstest(tmp_path) == [("A?", "homonyms", False), ("B?", "contrast_homonyms", True)]
    assert not [name for name in labelled._READERS if "xstest" in name]  # no training


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(InputError, match="none of the files"):
        read_examples(tmp_path)
    (tmp_path / "samples-1680.jsonl").write_text("{broken", "utf-8")
    with pytest.raises(InputError, match="JSON lines"):
        read_examples(tmp_path)
