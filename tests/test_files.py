"""A file is whole or as it was before, and a folder is for one thing."""

import os

import pytest

from tinyphi import files
from tinyphi.files import noted, write_text


def test_a_file_is_written_in_place_of_the_old_one(tmp_path):
    file = tmp_path / "report.json"
    for text in ("first\n", "second, with ü\n"):
        write_text(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert os.listdir(tmp_path) == ["report.json"]


def test_what_is_interrupted_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    file = tmp_path / "report.json"
    write_text(file, "old")

    def interrupted(scratch, path):
        assert file.read_text() == "old" and scratch.read_text() == "new"
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new")
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["report.json"]


def test_a_folder_keeps_its_first_note(tmp_path):
    note = tmp_path / "new" / "settings.json"
    assert noted(note, "one") and noted(note, "one") and not noted(note, "other")
    assert note.read_text() == "one"
