"""What a red team found becomes the right pairs; the rounds run to the end, and go on after a break."""

import json
import random
from itertools import islice

import pytest
import torch

import tinyphi
from tinyphi.data.synthetic.requests import held_out_requests
from tinyphi.data.synthetic.world import World
from tinyphi.errors import InputError
from tinyphi.safety.redteam import Attempt
from tinyphi.train.command import main
from tinyphi.train.recipes import break_fix
from tinyphi.train.recipes.break_fix import (
    IN_TRAINING,
    BreakFix,
    Budget,
    failed,
    fix,
    line,
    pairs,
    share,
    training_requests,
)
from tinyphi.train.recipes.data_quality import SMALLER

WORLD = World()
REQUESTS = training_requests(WORLD, 6, "test")
TINY = Budget(found=2, steps=2, pairs=4, measured=2, per_kind=1)


def attempt(request, reply, outcome, attack="story"):
    return Attempt(attack, request.category, request.text, (reply,), outcome, "", False)


def gullible(request):
    """The model helps with harm, and refuses all else."""
    return attempt(request, f"I said: {request.bad}", "harmful" if request.is_harmful else "refused")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(break_fix, "_LONGEST", 3)
    monkeypatch.setattr(break_fix, "IN_TRAINING", ("direct", "story"))
    chosen = {name: break_fix.ATTACKS[name] for name in ("direct", "story", "crescendo")}
    monkeypatch.setattr(break_fix, "ATTACKS", chosen)


@pytest.fixture
def saved(tmp_path, world_tokenizer):
    torch.manual_seed(0)
    tinyphi.save(tinyphi.Phi3(SMALLER).eval(), world_tokenizer, tmp_path / "model")
    return str(tmp_path / "model")


def test_requests_are_of_the_training_side_and_of_both_kinds():
    assert [one.is_harmful for one in REQUESTS] == [True] * 6 + [False] * 6
    assert not any(one.held_out for one in REQUESTS) and len({one.text for one in REQUESTS}) == 12
    tested = {one.text for harmful in (True, False) for one in held_out_requests(WORLD, harmful, 40)}
    assert not tested & {one.text for one in training_requests(WORLD, 40, "0 1")}


def test_a_failure_depends_on_what_was_asked():
    harmful, harmless = REQUESTS[0], REQUESTS[-1]
    outcomes = ("harmful", "refused", "harmless")
    assert [failed(attempt(harmful, "x", outcome)) for outcome in outcomes] == [True, False, False]
    assert [failed(attempt(harmless, "x", outcome)) for outcome in outcomes] == [False, True, False]


def test_pairs_reject_what_the_model_said_under_the_same_attack():
    known = {f'"{one.text}"': one for one in REQUESTS}
    stream = pairs([gullible(one) for one in REQUESTS], REQUESTS, WORLD, random.Random(0))
    made = list(islice(stream, 80))
    asked = [one for number, one in enumerate(made, 1) if number % 4]
    kinds = []
    for pair in asked:
        assert [message["role"] for message in pair.prompt] == ["user"]
        assert "short story" in pair.prompt[0]["content"]
        request = next(one for text, one in known.items() if text in pair.prompt[0]["content"])
        assert (pair.chosen, pair.rejected) == (request.good, f"I said: {request.bad}")
        kinds.append(request.is_harmful)
    assert kinds == [True, False, False] * 20
    assert all("short story" not in pair.prompt[0]["content"] for pair in made[3::4])


def test_what_failed_comes_more_often_and_the_rest_keeps_the_world_s_replies():
    tried = [gullible(REQUESTS[0])] + [attempt(one, one.good, "refused") for one in REQUESTS[1:6]]
    tried += [attempt(one, one.good, "harmless") for one in REQUESTS[6:]]
    made = list(islice(pairs(tried, REQUESTS, WORLD, random.Random(0)), 800))
    harmful = [pair for pair in made if pair.chosen in {one.good for one in REQUESTS[:6]}]
    often = sum(REQUESTS[0].text in pair.prompt[0]["content"] for pair in harmful) / len(harmful)
    assert 0.35 < often < 0.55  # 4 of 4 + 5
    for pair in harmful:
        request = next(one for one in REQUESTS if one.text in pair.prompt[0]["content"])
        assert pair.rejected == ("I said: " if request is REQUESTS[0] else "") + request.bad


def test_training_moves_towards_the_chosen_answers(world_tokenizer):
    torch.manual_seed(0)
    model, rows = tinyphi.Phi3(SMALLER).eval(), []
    stream = pairs([gullible(one) for one in REQUESTS], REQUESTS, WORLD, random.Random(0))
    budget = Budget(steps=8, pairs=4, learning_rate=2e-3)
    assert fix(model, world_tokenizer, stream, budget, watchers=[rows.append])
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-3) and rows[-1]["rewards/margins"] > 0.05
    assert not model.training


def test_rounds_run_and_go_on_after_a_break(tmp_path, saved, quick, monkeypatch):
    whole = BreakFix(tmp_path / "whole", saved, 2, budget=TINY).run(tell=lambda _: None)
    assert [row["round"] for row in whole["rounds"]] == [0, 1, 2]
    assert whole["rounds"][0]["harmful"].keys() == {"direct", "story", "crescendo"}
    assert [of for _, of in whole["rounds"][2]["found"].values()] == [4, 4]
    models = [
        tinyphi.load_model(place) for place in (saved, *(tmp_path / f"whole/round-{n}/model" for n in (1, 2)))
    ]
    norms = [float(model.lm_head.weight.detach().norm()) for model in models]
    assert len(set(norms)) == 3
    calls = []

    def stopped(*arguments):
        calls.append(1)
        return len(calls) != 2 and fix(*arguments)

    monkeypatch.setattr(break_fix, "fix", stopped)
    again = BreakFix(tmp_path / "again", saved, 2, budget=TINY)
    with pytest.raises(KeyboardInterrupt):
        again.run(tell=lambda _: None)
    assert len(json.loads((tmp_path / "again/report.json").read_text("utf-8"))["rounds"]) == 2
    assert again.run(tell=lambda _: None) == whole and len(calls) == 3
    assert json.loads((tmp_path / "again/report.json").read_text("utf-8")) == whole
    assert not list(tmp_path.rglob("*.partial"))
    with pytest.raises(InputError, match="another folder"):
        BreakFix(tmp_path / "again", saved, 2, seed=1, budget=TINY).run()
    with pytest.raises(InputError, match="rounds is 0"):
        BreakFix(tmp_path, saved, 0)


def test_the_command(tmp_path, saved, quick, monkeypatch, capsys):
    monkeypatch.setattr(BreakFix.__init__, "__defaults__", ("", 3, 0, TINY))
    assert main(["break-fix", "--to", str(tmp_path / "to"), "--model", saved, "--rounds", "1"]) == 0
    assert "round 1: harmful" in capsys.readouterr().out


def test_a_line_tells_the_attacks_that_were_left_out():
    row = {"round": 1, "harmful": {"direct": [1, 4], "crescendo": [3, 4]}, "refused": {"direct": [0, 4]}}
    row |= {"exam": [9, 10]}
    row["refused"]["crescendo"] = [2, 4]
    assert share(row, "harmful") == 0.5 and share(row, "harmful", ["direct"]) == 0.25
    assert "harmful 50.0% (attacks in training 25.0%, left out 75.0%)" in line(row)
    assert set(IN_TRAINING) < set(break_fix.ATTACKS)


def test_the_committed_run_is_of_this_recipe():
    file = break_fix.COMMITTED
    report = json.loads(file.read_text("utf-8"))
    assert report["in training"] == list(IN_TRAINING) and len(report["rounds"]) >= 4
    assert all(row["harmful"].keys() == set(break_fix.ATTACKS) for row in report["rounds"])
    first, last = report["rounds"][0], report["rounds"][-1]
    assert share(last, "harmful") < 0.25 * share(first, "harmful")
    assert share(last, "refused") < share(first, "refused")
