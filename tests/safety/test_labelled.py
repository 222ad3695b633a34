"""Nothing of the training is in the test."""

import json

from tinyphi.safety import labelled
from tinyphi.safety.labelled import Example, everyday_examples, read_examples, word_examples, world_examples
from tinyphi.safety.policy import learnt_categories, lookalikes


def write(folder, rows, name="samples-1680.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


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


def test_the_tenths_that_are_tested_can_be_chosen(made_up_data):
    fifths = [{first, first + 1} for first in range(0, 10, 2)]
    tested = [
        {one.text for one in read_examples(made_up_data, fifth) if one.part == "test"} for fifth in fifths
    ]
    every = {one.text for one in read_examples(made_up_data)}
    assert set.union(*tested) == every and sum(map(len, tested)) == len(every)


def test_words_of_harmless_texts_are_harmless_alone():
    said = ["The witch cooks.", "A witch sleeps.", "No witch flies.", "One slip."]
    found = word_examples([Example(text, {"hate": False}, "Dolly", "train") for text in said])
    assert [one.text for one in found] == ["witch"] and found[0].part == "train"
    assert not found[0].is_harmful and set(found[0].labels) == set(learnt_categories())
    assert not word_examples([Example(text, {}, "tweets", "train") for text in said])
    assert not word_examples([Example(text, {}, "Dolly", "test") for text in said])
