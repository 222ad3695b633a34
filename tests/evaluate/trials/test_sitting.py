"""Models that answer fixed texts take the trials."""

import argparse
import json
import runpy
from pathlib import Path

import pytest

from tinyphi.errors import InputError
from tinyphi.evaluate.trials import TRIALS, command, save, table, take
from tinyphi.evaluate.trials.command import add_trials
from tinyphi.evaluate.trials.trial import LANGUAGES

SOLUTIONS = runpy.run_path(str(Path(__file__).with_name("solutions.py")))
KINDS = ("DEGREES", "DAC", "PTR", "MATRIX", "ALTERNATING")
RIDDLES = {"en": ["Answer: 4 hours", "Answer: 3", "Answer: No"], "ko": ["답: 4시간", "답: 3명", "답: 아니요"]}


class Pupil:
    """Answers the trials in their order."""

    def __init__(self, replies):
        self.replies, self.asked = list(replies), []

    def __call__(self, prompt):
        self.asked.append(prompt)
        return self.replies[len(self.asked) - 1]


def good(language="en"):
    programs = [SOLUTIONS[kind]["right"] for kind in KINDS] + [SOLUTIONS["SNAKE"]]
    return Pupil([*RIDDLES[language], *(f"```python\n{program}\n```" for program in programs)])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_good_pupil_passes_everything(language):
    pupil = good(language)
    answered = take(TRIALS, pupil, language=language, run_code=True)
    assert [one.grade.score for one in answered] == [1] * 9, table(answered)
    assert pupil.asked == [trial.prompt(language) for trial in TRIALS]
    assert table(answered).endswith("passed 9 of 9")


def test_a_bad_pupil_passes_nothing():
    answered = take(TRIALS, Pupil(["I think it is 16."] * 9), run_code=True)
    assert [one.grade.score for one in answered] == [0] * 9
    assert "passed 0 of 9" in table(answered)


def test_programs_have_no_score_unless_they_are_run():
    answered = take(TRIALS, good())
    assert [one.grade.score for one in answered] == [1] * 3 + [None] * 6
    assert table(answered).endswith("passed 3 of 3, 6 not run")


def test_every_trial_is_in_both_languages():
    for language in LANGUAGES:
        prompts = [trial.prompt(language) for trial in TRIALS]
        assert len(set(prompts)) == len(TRIALS) and all(map(str.strip, prompts))
        assert "\n- `step(direction)`" in prompts[-1] and "\n\n\n" not in prompts[-1]
    assert "dry if they are laid out" in TRIALS[0].prompt("en")  # no line break in the sentence
    korean = [trial.prompt("ko") for trial in TRIALS]
    assert all(any("가" <= letter <= "힣" for letter in prompt) for prompt in korean)
    for english, other in zip([trial.prompt("en") for trial in TRIALS], korean, strict=True):
        assert [word for word in english.split("`")[1::2] if "(" in word] == [
            word for word in other.split("`")[1::2] if "(" in word
        ]


def test_levels_go_from_easy_to_expert():
    assert [trial.level for trial in TRIALS] == [
        "riddle", "riddle", "riddle", "easy", "medium", "medium", "hard", "expert", "game"
    ]  # fmt: skip


def test_the_report_tells_everything(tmp_path):
    answered = take(TRIALS[:4], good())
    save(answered, "a pupil", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["model"] == "a pupil" and report["language"] == "en"
    assert [row["score"] for row in report["trials"]] == [1, 1, 1, None]
    assert (
        report["trials"][0]["prompt"] == TRIALS[0].prompt() and "read 4" in report["trials"][0]["reasons"][0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        save([], "a pupil", tmp_path / "missing" / "report.json")


def test_the_command(tmp_path, monkeypatch, capsys):
    pupil, asked = good("ko"), []
    monkeypatch.setattr(
        command.tinyphi, "load", lambda name: asked.append(name) or (None, None), raising=False
    )
    monkeypatch.setattr(command, "chat", lambda model, tokenizer, prompt, max_new_tokens: pupil(prompt))
    parser = argparse.ArgumentParser()
    add_trials(parser.add_subparsers())
    given = ["trials", "--model", "small", "--language", "ko", "--run-code", "--to", str(tmp_path / "r.json")]
    options = parser.parse_args(given)
    assert options.command(options) == 0
    printed = capsys.readouterr().out
    assert asked == ["small"] and "passed 9 of 9" in printed and "small, ko" in printed
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["language"] == "ko"


def test_a_report_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(command.tinyphi, "load", lambda name: pytest.fail("it was loaded"), raising=False)
    parser = argparse.ArgumentParser()
    add_trials(parser.add_subparsers())
    options = parser.parse_args(["trials", "--model", "small", "--to", str(tmp_path / "missing" / "r.json")])
    with pytest.raises(InputError, match="no folder"):
        options.command(options)
