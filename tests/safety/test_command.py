"""The commands reach the functions, write their reports and print them."""

import argparse
import json
import re

import pytest
import torch

import tinyphi
from tinyphi.safety import command
from tinyphi.safety.redteam import Attempt
from tinyphi.train.recipes.data_quality import SMALLER


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_safety(parser.add_subparsers(required=True))
    options = parser.parse_args([str(argument) for argument in arguments])
    return options.command(options)


@pytest.fixture
def saved(tmp_path, world_tokenizer):
    torch.manual_seed(0)
    tinyphi.save(tinyphi.Phi3(SMALLER).eval(), world_tokenizer, tmp_path / "model")
    return tmp_path / "model"


def test_a_red_team_on_a_saved_model(saved, tmp_path, capsys):
    arguments = ["red-team", "--model", saved, "--to", tmp_path / "red.json", "--count", 2]
    arguments += ["--attacks", "direct", "base64", "--max-tokens", 3]
    assert run(*arguments) == 0
    stored = json.loads((tmp_path / "red.json").read_text("utf-8"))
    assert stored["about"]["count"] == 2 and len(stored["attempts"]) == 2 * 2 * 2
    assert {Attempt(**one).attack for one in stored["attempts"]} == {"direct", "base64"}
    assert stored["harmful"]["attack"]["direct"]["of"] == 2
    printed = capsys.readouterr().out
    assert "harmful replies by attack" in printed
    assert re.search(r"^harmless requests refused, all .* \(\d of 4\)$", printed, flags=re.MULTILINE)


def test_the_filter_on_held_out_texts(made_up_data, tmp_path, capsys):
    assert run("safety", "--data", made_up_data, "--to", tmp_path / "filter.json") == 0
    stored = json.loads((tmp_path / "filter.json").read_text("utf-8"))
    assert {row["judge"] for row in stored["rows"]} == {"tinyphi"}
    assert "flags" in capsys.readouterr().out
