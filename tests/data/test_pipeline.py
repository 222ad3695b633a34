"""The whole filter: everything planted is dropped for its reason, and an interruption changes nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinyphi.data import command, pipeline
from tinyphi.data.pipeline import RECORD, Settings, run
from tinyphi.errors import InputError

QUESTION = "A farmer has seven red hens and each hen lays three eggs on every day of the week but Sunday."
SUBJECTS = "river cell planet treaty molecule river empire glacier enzyme theorem".split()
FACTS = [
    "The {0} is described by the theory that was developed in the nineteenth century.",
    "In most of the regions where the {0} occurs, its properties depend on the temperature of the {1}.",
    "It consists of several parts, each of which has a function that is related to the {1}.",
    "According to the observations of the {1}, the {0} was formed by a process of erosion.",
    "The structure of the {0} determines the rate at which the {1} is transformed into energy.",
    "As a result, the amount of the {0} in the atmosphere increased during the period.",
]


def page(number):
    chance = random.Random(number)
    words = [f"{chance.choice(SUBJECTS)}{chance.choice('abcdefgh')}{number}" for _ in range(4)]
    sentences = [fact.format(*chance.sample(words, 2)) for fact in chance.sample(FACTS, 6)]
    return " ".join(
        sentence.replace("The", f"The {chance.choice(words)} and the", 1) for sentence in sentences
    )


def planted():
    """Documents and the reason for which each is to be dropped."""
    rows = [(page(i), "") for i in range(60)]
    rows += [(page(3), "duplicate"), (page(5).replace("several", "many", 1) + " End.", "near_duplicate")]
    rows += [(page(70) + " " + QUESTION, "contaminated"), ("Too short.", "words")]
    shop = "Buy our great shoes now! You will love your new look and we ship to you for free, so get yours! "
    rows += [("".join(shop.replace("shoes", f"shoes{i}").replace("new", f"new{i}") for i in range(4)), None)]
    return rows


@pytest.fixture
def data(tmp_path):
    rows = planted()
    (tmp_path / "in").mkdir()
    for number, part in enumerate((rows[:20], rows[20:])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text, _ in part)
        (tmp_path / "in" / f"{number}.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "bench.jsonl").write_text(json.dumps({"q": QUESTION}), encoding="utf-8")
    return tmp_path


def settings(data, **changes):
    return Settings(**{"least_score": 0.1, "benchmarks": (str(data / "bench.jsonl"),), **changes})


def outputs(folder):
    names = ("kept.jsonl", "samples.jsonl", "contaminated.jsonl", "report.json", "records.bin")
    return {name: (folder / name).read_bytes() for name in names}


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_everything_planted_is_dropped_for_its_reason(data):
    report = run([data / "in"], data / "out", settings(data))
    kept = [row["text"] for row in rows_of(data / "out" / "kept.jsonl")]
    assert kept == [text for text, reason in planted() if reason == ""]
    reasons = {row["text"]: row["reason"] for row in rows_of(data / "out" / "samples.jsonl")}
    for text, reason in planted()[60:]:
        assert reasons[text] == reason or (reason is None and reasons[text])
    hits = rows_of(data / "out" / "contaminated.jsonl")
    assert [hit["item"] for hit in hits] == ["bench.jsonl:1:q"] and hits[0]["text"] in QUESTION
    assert report["documents"] == 65 and report["kept"]["documents"] == 60
    assert report["bytes"] == sum(path.stat().st_size for path in (data / "in").iterdir())


def test_settings_decide(data):
    assert run([data / "in"], data / "a", Settings(0.0, duplicates=False))["kept"]["documents"] >= 63
    assert run([data / "in"], data / "b", Settings(1.0))["kept"]["documents"] == 0


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_an_interruption_changes_nothing(data, monkeypatch, stop):
    monkeypatch.setattr(pipeline, "_BATCH", 8000)
    run([data / "in"], data / "whole", settings(data))
    judge, calls = pipeline.Judge.__call__, []

    def interrupted(self, texts):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return judge(self, texts)

    monkeypatch.setattr(pipeline.Judge, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run([data / "in"], data / "cut", settings(data))
    with (data / "cut" / "records.bin").open("ab") as out:
        out.write(b"half a record")
    run([data / "in"], data / "cut", settings(data))
    assert outputs(data / "cut") == outputs(data / "whole")
    before = len(calls)
    run([data / "in"], data / "cut", settings(data))
    assert len(calls) == before  # what is finished is not done again


def test_a_planted_fault_in_resuming_would_be_noticed(data, monkeypatch):
    """If the last record were read twice, the outputs would differ."""
    monkeypatch.setattr(pipeline, "_BATCH", 8000)
    run([data / "in"], data / "whole", settings(data))
    records = np.fromfile(data / "whole" / "records.bin", RECORD)
    run([data / "in"], data / "cut", settings(data))
    (data / "cut" / "report.json").unlink()
    half = records[:20].copy()
    half["end"][-1] = half["start"][-1]
    half.tofile(data / "cut" / "records.bin")
    run([data / "in"], data / "cut", settings(data))
    assert outputs(data / "cut") != outputs(data / "whole")


PROGRAM = """
import sys, time
from tinyphi.data import pipeline
judge = pipeline.Judge.__call__
def slow(self, texts):
    time.sleep(0.2)
    return judge(self, texts)
pipeline.Judge.__call__ = slow
pipeline._BATCH = 4000
pipeline.run(sys.argv[1:2], sys.argv[2], pipeline.Settings(0.1))
"""


def test_a_killed_run_is_continued(data, monkeypatch):
    monkeypatch.setattr(pipeline, "_BATCH", 4000)
    run([data / "in"], data / "whole", Settings(0.1))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, data / "in", data / "killed"])
    records = data / "killed" / "records.bin"
    while process.poll() is None and not (records.exists() and records.stat().st_size):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (data / "killed" / "report.json").exists()
    run([data / "in"], data / "killed", Settings(0.1))
    assert outputs(data / "killed") == outputs(data / "whole")


def test_two_processes_do_what_one_does(data, monkeypatch):
    monkeypatch.setattr(pipeline, "_BATCH", 8000)
    run([data / "in"], data / "one", settings(data))
    run([data / "in"], data / "two", settings(data), workers=2)
    assert outputs(data / "two") == outputs(data / "one")


def test_other_settings_need_another_folder(data):
    run([data / "in"], data / "out", settings(data))
    with pytest.raises(InputError, match="other settings or files"):
        run([data / "in"], data / "out", settings(data, least_score=0.2))


def test_files_without_documents(data):
    (data / "empty.txt").touch()
    assert run([data / "empty.txt"], data / "out", settings(data))["documents"] == 0


def test_the_command(data, capsys):
    arguments = [
        "filter",
        str(data / "in"),
        "--to",
        str(data / "out"),
        "--least-score",
        "0.1",
        "--workers",
        "1",
    ]
    assert command.main([*arguments, "--benchmark", str(data / "bench.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "65 documents" in printed and "near_duplicate" in printed and "kept.jsonl" in printed
