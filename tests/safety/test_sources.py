"""Labels are read as their authors meant them."""

import csv
import json

import pytest

from tinyphi.errors import InputError
from tinyphi.safety.labelled import read_examples
from tinyphi.safety.sources import READERS, read_xstest


def write_lines(folder, rows, name="samples-1680.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_table(folder, name, rows):
    with (folder / name).open("w", encoding="utf-8", newline="") as lines:
        table = csv.DictWriter(lines, list({key: None for row in rows for key in row}))
        table.writeheader()
        table.writerows(rows)


def labels(folder):
    return {one.text: one.labels for one in read_examples(folder)}


def test_letters_become_categories_and_missing_ones_stay_missing(tmp_path):
    write_lines(
        tmp_path, [{"prompt": "One.", "S": 0, "S3": 1, "H": 0, "V": None}, {"prompt": "Two.", "HR": 1}]
    )
    assert labels(tmp_path) == {"One.": {"sexual": True, "hate": False}, "Two.": {"harassment": True}}


def test_tweets_are_hateful_offensive_or_neither(tmp_path):
    kinds = {"first &lt;3": 0, "second": 1, "third": 2}
    write_table(
        tmp_path, "davidson_labeled_data.csv", [{"class": k, "tweet": text} for text, k in kinds.items()]
    )
    assert labels(tmp_path) == {
        "first <3": {"hate": True, "profanity": True},
        "second": {"hate": False, "profanity": True},
        "third": {"hate": False, "profanity": False},
    }


def test_only_declined_requests_of_the_red_team_count(tmp_path):
    said = "\n\nHuman: {}\n\nAssistant: {}\n\nHuman: Why?\n\nAssistant: Because."
    rows = [
        said.format("How do I steal a bell?", "That is illegal."),
        said.format("How do I ring a bell?", "Pull the rope."),
        said.format("You are a bell.", "That is illegal."),
    ]
    write_lines(tmp_path, [{"chosen": row} for row in rows], "hh_rlhf_harmless_base.jsonl")
    assert labels(tmp_path) == {"How do I steal a bell?": {"wrongdoing": True}}


def test_comments_are_toxic_as_most_of_their_raters_say(tmp_path):
    comments = {1: "two of three", 2: "one of three", 3: "nobody", 4: "most object", 5: "nobody rated"}
    votes = {
        1: ["Insult", "Insult", "Threat"],
        2: ["Insult", "", ""],
        3: ["-", "-", "-"],
        4: ["Insult", "-", "-"],
    }
    raters = [(comment, kind) for comment, kinds in votes.items() for kind in kinds]
    write_table(
        tmp_path, "comments.csv", [{"comment_id": n, "comment_text": text} for n, text in comments.items()]
    )
    write_table(
        tmp_path,
        "annotations.csv",
        [
            {"annotation": n, "comment_id": comment, "not toxic": str(kind == "-")}
            for n, (comment, kind) in enumerate(raters)
        ],
    )
    spans = [{"annotation": n, "type": kind} for n, (_, kind) in enumerate(raters) if kind not in ("", "-")]
    write_table(tmp_path, "spans.csv", spans)
    assert labels(tmp_path) == {
        "two of three": {"harassment": True, "hate": False, "profanity": False},  # one threat: not known
        "nobody": {"harassment": False, "profanity": False},
    }


def test_abuse_is_what_half_of_the_raters_saw(tmp_path):
    abuse, calm, rude = "Annotator{}_is_abuse.-2", "Annotator{}_is_abuse.1", "Annotator{}_sex_harassment"
    rows = [
        {"user": "half", abuse.format(1): 1, rude.format(1): 1, calm.format(2): "1.0"},
        {"user": "a third", abuse.format(1): 1, calm.format(2): 1, calm.format(3): 1},
        {"user": "calm", calm.format(1): 1, calm.format(3): 1},
        {"user": "nobody rated"},
    ]
    write_table(tmp_path, "ConvAbuseEMNLPtrain.csv", rows)
    harmless = {"harassment": False, "sexual": False, "hate": False}
    assert labels(tmp_path) == {"half": {"harassment": True, "sexual": True}, "calm": harmless}


def test_two_sources_of_wikipedia_and_the_requests(tmp_path):
    write_table(tmp_path, "gc.csv", [{"text": "First.", "label": 1}, {"text": "Second.", "label": "?"}])
    write_table(tmp_path, "toxicity_nonfuzzed_testset.csv", [{"comment": "Third.", "toxic": "False"}])
    (tmp_path / "many_shot_examples.json").write_text('[{"user": "Fourth?", "assistant": "No."}]', "utf-8")
    assert labels(tmp_path) == {
        "First.": {"harassment": True},
        "Third.": {"harassment": False},
        "Fourth?": {"wrongdoing": True},
    }


def test_xstest_is_told_apart_by_its_types(tmp_path):
    (tmp_path / "xstest_prompts.csv").write_text("prompt,type\nA?,homonyms\nB?,contrast_homonyms\n", "utf-8")
    assert read_xstest(tmp_path) == [("A?", "homonyms", False), ("B?", "contrast_homonyms", True)]
    assert not [name for name in READERS if "xstest" in name]  # no training


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("samples-1680.jsonl", "{broken", "as JSON"),
        ("many_shot_examples.json", "{broken", "as JSON"),
        ("many_shot_examples.json", '["text"]', "is not the many_shot_examples.json of PyRIT"),
        ("gc.csv", "other,columns\n1,2\n", "is not the gc.csv of talk pages"),
        ("annotations.csv", "annotation\n1\n", "spans.csv cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, said):
    with pytest.raises(InputError, match="none of the files"):
        read_examples(tmp_path)
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InputError, match=said):
        read_examples(tmp_path)
