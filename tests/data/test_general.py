"""General text: no paragraph of prose is lost, JSON lines are read as they are, easy passages are kept."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data import general
from tinyphi.data.general import cut, easiest, general_passages
from tinyphi.errors import InputError
from tinyphi.longcontext.texts import library_source, python_manual

paragraphs = some.lists(some.text(some.sampled_from("aZé 0.\t\n\u2028"), max_size=900), max_size=8)


def prose(text):
    """The words of the paragraphs that have a small letter, in order."""
    lines, words = [[]], []
    for line in text.split("\n"):
        if line.strip():
            lines[-1].append(line)
        else:
            lines.append([])
    for paragraph in lines:
        if any("a" <= character <= "z" for line in paragraph for character in line):
            words += " ".join(paragraph).split()
    return words


@given(paragraphs)
def test_passages_lose_no_prose(parts):
    text = "\n\n".join(parts)
    passages = cut(text)
    assert " ".join(passages).split() == prose(text)
    for passage in passages:
        assert len(passage) <= 702 or "\n\n" not in passage
        assert passage == passage.strip() and any("a" <= character <= "z" for character in passage)


def test_paragraphs_are_put_together_until_a_passage_is_full():
    short, long = "a" * 340, "b" * 900
    assert cut(f"{short}\n\n{short}\n \n{short}") == [f"{short}\n\n{short}", short]
    assert cut(f"{short}\n\n\n{long}\n\n{short}") == [short, long, short]
    assert cut("CHAPTER I\n\n* * *\n\nOne\nline   more.\n\n1234\n\nEnd.") == ["One line more.\n\nEnd."]
    assert cut("") == cut("THE END\n\n12") == []


def test_all_files_of_a_folder_by_name(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text(
        "Licence.\n*** START OF THE PROJECT …\n\nThe second.\n\n*** END OF THE PROJECT …", "utf-8"
    )
    texts = ["A line\u2028and its rest.", "Two\n\nparagraphs.", "HEADING"]
    lines = [json.dumps({"text": text, "title": "x"}, ensure_ascii=False) for text in texts]
    assert "\u2028" in lines[0]
    (tmp_path / "a.jsonl").write_text("\r\n".join(lines) + "\n", "utf-8", newline="")
    (tmp_path / "c.md").write_text("Not this.")
    expected = ["A line and its rest.", "Two\n\nparagraphs.", "The second."]
    assert general_passages(tmp_path) == general_passages(str(tmp_path)) == expected


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b"{}",
        b'{"text": 3}',
        b'{"text": null}',
        b"\xff",
        b'{"text": "a"}\n\n',
    ],
)
def test_damaged_json_lines(damage, tmp_path):
    (tmp_path / "some.jsonl").write_bytes(b'{"text": "Good."}\n' + damage + b"\n")
    with pytest.raises(InputError, match=r'some\.jsonl.* each line must be a JSON object with a "text"'):
        general_passages(tmp_path)


def test_the_damaged_line_is_named(tmp_path):
    (tmp_path / "some.jsonl").write_text('{"text": "Good."}\n' * 4 + "{}\n")
    with pytest.raises(InputError, match=r"some\.jsonl, line 5: .*KeyError"):
        general_passages(tmp_path)
    (tmp_path / "some.jsonl").unlink()
    (tmp_path / "some.jsonl").mkdir()
    with pytest.raises(InputError, match=r"some\.jsonl: "):
        general_passages(tmp_path)


@pytest.mark.parametrize("name", ["none", "empty", "headings", "file.txt"])
def test_nothing_to_learn_from(name, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "picture.png").write_bytes(b"")
    (tmp_path / "headings").mkdir()
    (tmp_path / "headings" / "a.txt").write_text("THE END")
    (tmp_path / "file.txt").write_text("Give the folder, not the file.")
    with pytest.raises(InputError, match=rf"{name} holds no .txt or .jsonl file with text"):
        general_passages(tmp_path / name)


def test_a_book_that_is_not_text(tmp_path):
    (tmp_path / "book.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"book\.txt cannot be read as UTF-8"):
        general_passages(tmp_path)


def test_without_a_folder_it_is_what_python_has():
    passages = general_passages(None)
    words = set(" ".join(passages).split())
    assert {*prose(python_manual())} <= words and {*prose(library_source("json", docstrings=True))} <= words
    assert len(passages) > 800 and 'The "assert" statement' in "\n".join(passages)


@pytest.fixture
def graded(monkeypatch):
    """100 passages in mixed order; passage n has n rare words among 100 that everybody knows."""
    monkeypatch.setattr(general, "_COMMON", 10)
    order = [number * 37 % 100 for number in range(100)]
    return [
        " ".join("one two three four five six seven eight nine ten".split() * 10 + [f"{RARE[n]}x"] * n)
        for n in order
    ]


RARE = [chr(97 + n // 10) + chr(97 + n % 10) for n in range(100)]


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.996, 1.0])
def test_the_share_with_the_fewest_rare_words(graded, share):
    kept = easiest(iter(graded), share)
    limit = round(share * 100)
    assert kept == [passage for passage in graded if len(passage.split()) < 100 + limit]
    assert len(kept) == limit and len(easiest(graded)) == 50


def test_of_few_passages_one_is_kept(graded):
    assert len(easiest(graded, 0.001)) == 1 and easiest(graded[:1]) == graded[:1] and easiest([]) == []
    assert easiest(["one 1", "2", "one"]) == ["one 1", "2", "one"]  # all are equally easy


@pytest.mark.parametrize("share", [0, -0.5, 1.1, float("nan")])
def test_no_share(share):
    for passages in ([], ["a"]):
        with pytest.raises(InputError, match=r"share=.*: it is a part of all, above 0 and at most 1"):
            easiest(passages, share)
