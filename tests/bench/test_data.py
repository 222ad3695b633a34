"""The table of the filter's speed, and that both sides of MinHash do the same work."""

import pytest

from tinyphi.bench import data
from tinyphi.bench.data import bench_data


def test_every_work_has_a_row(tmp_path):
    (tmp_path / "a.txt").write_text(
        "The river carries water from the hills to the sea. " * 400, encoding="utf-8"
    )
    introduction, *lines = list(bench_data(1, 1, 2, tmp_path / "a.txt"))
    table = "\n".join(lines).splitlines()
    assert introduction.startswith("1.0 MB of text in 333 pages")
    assert sum(line.startswith("| the filter: both |") for line in table) == 2
    assert any(line.startswith(("| 83 pages |", "datasketch is not installed")) for line in table)


def test_speed_is_bytes_over_seconds():
    assert (
        data._row("x", 1, 4_000_000, [(2.0, 1.0), (1.0, 0.5), (4.0, 2.0)])
        == "| x | 1 | 2.0 | 1.0 – 4.0 | 4.0 |"
    )


def test_a_batch_is_whole_pages_and_none_is_lost():
    seen = []
    data._in_batches(["a" * 100_000, "b" * 60_000, "c"], lambda pages: seen.extend(pages.texts))
    assert [text[0] for text in seen] == ["a", "b", "c"]


def test_without_datasketch_it_says_so(monkeypatch):
    monkeypatch.setattr(data, "find_spec", lambda name: None)
    assert "not installed" in list(data._beside_datasketch(["a"], 1))[1]


def test_datasketch_gets_the_same_runs(monkeypatch):
    datasketch = pytest.importorskip("datasketch", reason="datasketch is not installed")
    given = []
    monkeypatch.setattr(datasketch.MinHash, "update_batch", lambda self, runs: given.extend(runs))
    data._datasketch(["One two three four five six"])
    assert given == [b"one two three four five", b"two three four five six"]
