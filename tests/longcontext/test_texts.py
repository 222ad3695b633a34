"""Long texts: the standard library, its manual, books; and passages of them."""

import argparse
import inspect
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyphi.errors import InputError
from tinyphi.longcontext.texts import book, library_source, passages, python_manual


def test_the_source_of_a_module():
    assert library_source("argparse") == inspect.getsource(argparse)


def test_all_modules_of_a_package_and_their_docstrings():
    whole, prose = library_source("email"), library_source("email", docstrings=True)
    import email.message
    import email.utils

    for module in (email, email.message, email.utils):
        assert inspect.getsource(module) in whole
    for thing in (email.message.Message, email.message.Message.get_payload, email.utils.formatdate):
        assert inspect.getdoc(thing) in prose
    assert "def get_payload" not in prose and len(prose) < len(whole) / 2


def test_the_manual_of_python():
    text = python_manual()
    assert 'The "assert" statement' in text and len(text) > 200_000


def test_a_python_without_manual(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match="came without pydoc_data"):
        python_manual()


@pytest.mark.parametrize("name", ["no_such_module", "sys", "", "email.no_such_module", "no_such.module"])
def test_what_has_no_source(name):
    with pytest.raises(InputError, match="no Python source"):
        library_source(name)


def test_a_book(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text(
        "\ufeffLicence\n*** START OF THE PROJECT …\n\nCall me.\n\n*** END OF THE PROJECT …",
        "utf-8",
    )
    assert book(file) == "Call me."
    file.write_text("Call me.\n", "utf-8")
    assert book(str(file)) == "Call me."
    file.write_bytes(b"\xff\xfe")
    for wrong in (file, tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="cannot be read as UTF-8"):
            book(wrong)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 9))
def test_passages_fit_and_do_not_overlap(size, tokens, most):
    ids = list(range(size))
    if size < tokens:
        with pytest.raises(InputError, match="use a longer one"):
            passages(ids, tokens, most)
        return
    found = passages(ids, tokens, most)
    assert len(found) == min(most, size // tokens) and all(len(passage) == tokens for passage in found)
    flat = [id for passage in found for id in passage]
    assert flat == sorted(set(flat)) and all(passage[-1] - passage[0] == tokens - 1 for passage in found)


def test_passages_of_no_tokens():
    for tokens, most in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="whole numbers of at least 1"):
            passages([1, 2], tokens, most)


@pytest.mark.parametrize(
    "line", ["*** START OF THIS *** *** END OF THIS ***", "*** START OF THE\n", "*** END OF TH\n"]
)
def test_a_licence_that_is_not_one_is_left_alone(line, tmp_path):
    (tmp_path / "book.txt").write_text(f"{line}Once upon a time.", encoding="utf-8")
    assert book(tmp_path / "book.txt").endswith("Once upon a time.")
