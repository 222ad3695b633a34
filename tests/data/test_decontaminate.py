"""Questions planted in documents are found and named; what merely sounds alike is not."""

import gzip
import json

import pytest

from tinyphi.data.decontaminate import Benchmarks, Item, benchmark_items
from tinyphi.data.pages import Pages
from tinyphi.errors import InputError

LONG = "A farmer has seven red hens and each hen lays three eggs on every day of the week but Sunday."
SHORT = "Which planet of the sun has the largest ring?"  # nine words
TINY = "Who wrote Hamlet?"


def items():
    return [Item("long", LONG), Item("short", SHORT), Item("tiny", TINY)]


def hits(text, length=13):
    return Benchmarks(items(), length).hits(Pages(["Nothing here.", text]))


def test_a_planted_question_is_found_whatever_its_case_and_signs():
    found = hits(f"Before. {LONG.upper().replace(' ', '-')} After.")
    assert [(hit.page, hit.item) for hit in found] == [(1, "long")]
    assert found[0].runs == len(LONG.split()) - 13 + 1
    assert found[0].words == "-".join(LONG.upper().split()[:13])


def test_twelve_words_are_not_thirteen_but_are_eight():
    part = " ".join(LONG.split()[:12])
    assert hits(part) == []
    assert hits(part, length=8)[0].runs == 5


def test_a_short_item_is_looked_for_as_a_whole():
    assert [hit.item for hit in hits(SHORT)] == ["short"]
    assert hits(" ".join(SHORT.split()[:8])) == []
    assert hits("which planet of the sun has a large ring of ice and dust around it") == []


def test_words_are_counted_between_signs():
    asked = Item("hyphens", "A well-known north-south sea-route, is it?")  # nine words, five spaces
    assert Benchmarks([asked]).unchecked == []
    assert [hit.item for hit in Benchmarks([asked]).hits(Pages([asked.text.replace("-", " ")]))] == [
        "hyphens"
    ]


def test_eight_words_are_enough_for_an_item():
    asked = [Item("eight", "one two three four five six seven eight"), Item("seven", "a b c d e f g")]
    assert Benchmarks([*asked]).unchecked == ["seven"]
    assert [hit.item for hit in Benchmarks(asked).hits(Pages([one.text for one in asked]))] == ["eight"]


def test_many_items_keep_their_names(monkeypatch):
    monkeypatch.setattr("tinyphi.data.decontaminate._AT_ONCE", 2)
    asked = [Item(f"item {n}", " ".join(f"w{n}x{i}" for i in range(9 + n))) for n in range(7)]
    asked[3] = Item("item 3", "too short")
    pages = Pages([one.text for one in asked])
    found = [(hit.page, hit.item) for hit in Benchmarks(asked).hits(pages)]
    assert found == [(n, f"item {n}") for n in range(7) if n != 3]
    assert Benchmarks(asked).unchecked == ["item 3"]


def test_items_that_are_too_short_are_named():
    assert Benchmarks(items()).unchecked == ["tiny"]
    assert hits(TINY) == []


def test_numbers_tell_questions_apart():
    asked = Item("sum", "Add 12 and 30 and 45 and 7 and 81 and 6 and tell the sum")
    other = asked.text.replace("45", "46")
    assert Benchmarks([asked]).hits(Pages([asked.text])) and not Benchmarks([asked]).hits(Pages([other]))


def test_a_run_never_reaches_into_the_next_document():
    half = LONG.split()
    pages = Pages([" ".join(half[:10]), " ".join(half[10:])])
    assert Benchmarks(items()).hits(pages) == []


def test_every_text_of_a_line_is_an_item(tmp_path):
    row = {"question": LONG, "choices": {"text": [SHORT, "x"]}, "number": 3}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write(json.dumps(row))
    for name in ("a.jsonl", "b.jsonl.gz"):
        found = list(benchmark_items(tmp_path / name))
        assert [item.name for item in found] == [
            f"{name}:1:{f}" for f in ("question", "choices:text", "choices:text")
        ]
        assert [item.text for item in found] == [LONG, SHORT, "x"]


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(InputError, match="shared by chance"):
        Benchmarks(items(), 7)
    with pytest.raises(InputError, match="nothing to look for"):
        Benchmarks([Item("tiny", TINY)])
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.jsonl"):
        list(benchmark_items(tmp_path / "bad.jsonl"))
