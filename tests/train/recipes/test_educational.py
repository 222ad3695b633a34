"""Training the filter: whole files are held out, areas are areas, the shipped weights have their report."""

import json
import random

import numpy as np
import pytest

from tinyphi.data.educational import EducationalFilter
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.train.recipes.educational import area, cut, measured, run, source


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, chance, world = tmp_path_factory.mktemp("texts"), random.Random(0), World()
    pages = [web_page(world, chance) for _ in range(1500)]
    good = [page.text for page in pages if page.educational]
    bad = [page.text for page in pages if not page.educational]
    (folder / "books").mkdir()
    for number in range(5):
        articles = [
            f"# {number} {i}\n" + "\n".join(good[i : i + 5]) for i in range(number * 40, number * 40 + 40, 5)
        ]
        (folder / "books" / f"{number}.txt").write_text("\n".join(articles), encoding="utf-8")
    for name, some in (("web", bad[:300]), ("forum", bad[300:600])):
        lines = [json.dumps({"text": "\n".join(some[i : i + 5])}) for i in range(0, len(some), 5)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_whole_files_are_held_out(folder):
    books = source(folder / "books")
    assert all(text.startswith("# 3 ") for text in books.held_out) and len(books.held_out) == 8
    assert not any(text.startswith("# 3 ") for text in books.windows) and len(books.windows) >= 30


def test_of_a_single_file_the_end_is_held_out(folder):
    lines = [json.loads(line)["text"] for line in (folder / "web.jsonl").read_text().splitlines()]
    web = source(folder / "web.jsonl")
    assert web.held_out == [text for text in lines[len(lines) * 3 // 4 :] if len(text) >= 300]


def test_a_run_trains_saves_and_measures(folder, tmp_path):
    to = tmp_path / "filter.safetensors"
    report = run([folder / "books"], [folder / "web.jsonl"], [folder / "forum.jsonl"], to)
    assert report == json.loads((tmp_path / "filter.json").read_text())
    assert report["area"] > 0.97
    unseen = report["sources"]["forum (nothing of it in training)"]
    assert not unseen["good"] and unseen["area"] > 0.97
    judge = EducationalFilter.load(to)
    assert judge.score(source(folder / "books").held_out[0]) > judge.score(
        source(folder / "web.jsonl").held_out[0]
    )


def test_the_area_is_the_share_of_pairs_in_order():
    good, bad = np.array([0.9, 0.5, 0.4]), np.array([0.5, 0.1])
    pairs = [(a > b) + (a == b) / 2 for a in good for b in bad]
    assert area(good, bad) == pytest.approx(np.mean(pairs))
    assert area(bad, good) == pytest.approx(1 - np.mean(pairs))


def test_precision_and_recall_by_hand():
    scores = {"a": (True, np.array([0.95, 0.6])), "b": (False, np.array([0.6, 0.1, 0.1, 0.2]))}
    found = measured(scores)["thresholds"]
    assert found["0.5"] == {"precision": 0.8, "recall": 1.0}
    assert found["0.9"] == {"precision": 1.0, "recall": 0.5}


def test_pieces_are_whole_lines_where_possible():
    text = "\n".join(f"{i} " + "x" * 300 for i in range(20))
    pieces = cut(text)
    assert all(300 <= len(piece) <= 2000 for piece in pieces) and "".join(pieces) == text
    assert [len(piece) for piece in cut("y" * 4500)] == [2000, 2000, 500]
    assert cut("short") == []


def test_too_little_text_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("# One\nshort", encoding="utf-8")
    with pytest.raises(InputError, match="too little"):
        source(tmp_path / "a.txt")


def test_the_shipped_weights_have_their_report():
    from tinyphi.data import educational

    report = json.loads(educational._shipped().with_suffix(".json").read_text(encoding="utf-8"))
    assert report["area"] > 0.95 and educational._shipped().stat().st_size < 500_000
