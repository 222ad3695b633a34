"""Tables between the markers of a document."""

import pytest

from tinyphi.bench.report import paste, section, write
from tinyphi.errors import InputError

DOCUMENT = """# Title

Before.

<!-- tinyphi bench decode -->
old
<!-- end of decode -->

After.
"""


def test_a_section_shows_its_command():
    assert section("tinyphi bench x --runs 3", "a\n\n| b |") == (
        "```sh\ntinyphi bench x --runs 3\n```\n\na\n\n| b |\n"
    )


def test_what_stands_between_the_markers_is_replaced_and_nothing_else():
    assert paste(DOCUMENT, "decode", "new\n") == DOCUMENT.replace("old", "new")


def test_missing_markers_are_added_at_the_end():
    added = paste(DOCUMENT, "phi3", "new\n")
    assert added == f"{DOCUMENT}\n<!-- tinyphi bench phi3 -->\nnew\n<!-- end of phi3 -->\n"
    assert paste(added, "phi3", "newer\n") == added.replace("new", "newer")


@pytest.mark.parametrize("marker", ["<!-- tinyphi bench decode -->", "<!-- end of decode -->"])
def test_one_marker_alone_is_refused(marker):
    with pytest.raises(InputError, match="both markers"):
        paste(DOCUMENT.replace(marker, ""), "decode", "new\n")


def test_a_file_is_made_or_changed_as_a_whole(tmp_path):
    file = tmp_path / "results.md"
    write(file, "decode", "one\n")
    write(file, "decode", "two\n")
    assert file.read_text() == "<!-- tinyphi bench decode -->\ntwo\n<!-- end of decode -->\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "nowhere" / "x.md", "decode", "one\n")
