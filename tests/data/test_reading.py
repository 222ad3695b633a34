"""Documents come whole, in order, and from the middle on as from the start."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.reading import documents, text_files
from tinyphi.errors import InputError


@pytest.fixture(params=["a.jsonl", "a.jsonl.gz", "a.txt", "a.txt.gz"])
def file(request, tmp_path):
    path = tmp_path / request.param
    texts = [f"# Title {i}\nSome text, ü and \u2028 too.\n\nMore of {i}." for i in range(7)]
    if "jsonl" in request.param:
        texts = [text.replace("Title", "Line") for text in texts]
        content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    else:
        content = "\n".join(texts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path, texts


def test_documents_are_read_whole_and_go_on_anywhere(file):
    path, texts = file
    found = list(documents(path))
    assert [document.text for document in found] == texts
    for place, document in enumerate(found):
        assert list(documents(path, document.end)) == found[place + 1 :]
        assert document.file == str(path) and document.start == (found[place - 1].end if place else 0)


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.text("ab#é \n", max_size=30), max_size=30))
def test_a_text_file_loses_nothing(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes("\n".join(lines).encode())
    found = list(documents(path))
    assert " ".join(document.text for document in found).split() == "\n".join(lines).split()
    assert all("\n# " not in document.text for document in found)


def test_a_line_without_end_is_cut_between_characters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("é" * 50_000, encoding="utf-8")
    found = list(documents(path))
    assert "".join(document.text for document in found) == "é" * 50_000
    assert max(document.end - document.start for document in found) <= 20_000
    assert list(documents(path, found[0].end)) == found[1:]


def test_folders_are_searched_by_name(tmp_path):
    for name in ("b.txt", "a.jsonl.gz", "c.csv", "deep/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in text_files([tmp_path])]
    assert names == ["a.jsonl.gz", "b.txt", "deep/d.txt"]


@pytest.mark.parametrize("line", ["{", '{"txt": "a"}', '{"text": 3}', "[]"])
def test_a_damaged_line_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.jsonl, at byte 17"):
        list(documents(tmp_path / "a.jsonl"))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "broken.txt.gz").write_bytes(b"no gzip")
    for path, message in (
        ("a.csv", "are read from .txt"),
        ("no.txt", "cannot be read"),
        ("broken.txt.gz", "cannot"),
    ):
        with pytest.raises(InputError, match=message):
            list(documents(tmp_path / path))
    with pytest.raises(InputError, match="does not exist"):
        text_files([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"No \.txt"):
        text_files([tmp_path / "empty"])
