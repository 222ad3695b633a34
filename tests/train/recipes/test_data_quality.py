"""Three kinds of data, one small model: the mixtures are what they say, and a run can be continued."""

import json
from itertools import islice

import pytest

from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.train.command import main
from tinyphi.train.loop import Trainer
from tinyphi.train.recipes import data_quality
from tinyphi.train.recipes.data_quality import COMMITTED, MIXTURES, run, texts


@pytest.mark.parametrize("seed", [0, 1])
def test_the_filter_leaves_little_but_articles(monkeypatch, seed):
    kinds = {}

    def noted(world, chance):
        page = web_page(world, chance)
        kinds[page.text] = page.kind
        return page

    monkeypatch.setattr(data_quality, "web_page", noted)
    shares = {}
    for mixture in MIXTURES:
        made = list(islice(texts(mixture, World(), seed), 300))
        shares[mixture] = [sum(kinds.get(text) == kind for text in made) / 300 for kind in ("article", None)]
    assert shares["raw"][0] < 0.4 and shares["raw"][1] == 0
    assert shares["filtered"][0] > 0.95 and shares["filtered"][1] == 0
    assert 0.3 < shares["filtered + synthetic"][1] < 0.7


def test_a_run_is_continued_and_reproduced(tmp_path, world_tokenizer, monkeypatch):
    monkeypatch.setattr(data_quality, "vocabulary", lambda: world_tokenizer)
    told = []
    one = run(tmp_path / "one.json", [0], steps=6, per_kind=1, tell=told.append)
    assert len(told) == 3 and [len(one["curves"][name]["0"]) for name in MIXTURES] == [6] * 3
    again = run(tmp_path / "one.json", [0, 1], steps=6, per_kind=1, tell=told.append)
    assert len(told) == 6
    assert {name: again["curves"][name]["0"] for name in MIXTURES} == {
        name: [list(point) for point in one["curves"][name]["0"]] for name in MIXTURES
    }
    other = run(tmp_path / "two.json", [1], steps=6, per_kind=1, tell=told.append)
    assert json.loads((tmp_path / "two.json").read_text())["curves"]["raw"]["1"] == [
        list(point) for point in other["curves"]["raw"]["1"]
    ]
    with pytest.raises(InputError, match="another file"):
        run(tmp_path / "one.json", [0], steps=7, per_kind=1)


def test_half_a_curve_is_not_kept(tmp_path, world_tokenizer, monkeypatch):
    monkeypatch.setattr(data_quality, "vocabulary", lambda: world_tokenizer)
    monkeypatch.setattr(Trainer, "run", lambda self: [])  # as after Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "x.json", [0], steps=6, per_kind=1)
    assert not (tmp_path / "x.json").exists()


def test_an_unknown_mixture_is_refused():
    with pytest.raises(InputError, match="no mixture"):
        next(texts("cooked", World(), 0))


def test_the_committed_run_shows_what_the_notebook_says():
    curves = json.loads(COMMITTED.read_text())["curves"]
    last = {name: [curve[-1][1] for curve in curves[name].values()] for name in MIXTURES}
    tokens = {curve[-1][0] for name in MIXTURES for curve in curves[name].values()}
    assert all(len(shares) == 3 for shares in last.values()) and max(tokens) - min(tokens) < 2048
    assert sum(last["raw"]) < sum(last["filtered"]) < sum(last["filtered + synthetic"])
    assert max(last["raw"]) < min(last["filtered"])


def test_the_command_takes_seeds_and_steps(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(data_quality, "run", lambda *arguments: asked.append(arguments))
    assert main(["data-quality", "--to", str(tmp_path / "x.json"), "--seeds", "3", "--steps", "9"]) == 0
    assert asked[0][1:] == ([3], 9)
