"""The harness asks what it should, remembers what was answered, and says what it cannot do."""

import json
import random
from dataclasses import replace

import pytest

import tinyphi
from tinyphi.errors import InputError
from tinyphi.evaluate import harness as harness_module
from tinyphi.evaluate.command import main
from tinyphi.evaluate.harness import Harness, by_length, choose_examples, model_judge, sample, shortened
from tinyphi.evaluate.store import AnswerStore
from tinyphi.evaluate.tasks import TASKS
from tinyphi.evaluate.tasks.base import Question

ARC = TASKS["arc_easy"]


@pytest.fixture
def harness(reader, world_tokenizer):
    return Harness(reader, world_tokenizer)


@pytest.fixture
def passes(monkeypatch):
    """Counts the batches that the model reads."""
    count = []
    hidden = tinyphi.Phi3.hidden
    monkeypatch.setattr(
        tinyphi.Phi3, "hidden", lambda *given, **named: count.append(1) or hidden(*given, **named)
    )
    return count


def test_a_model_that_knows_the_answers_is_marked_right(reader, world_tokenizer, arc_rows, monkeypatch):
    """Planted: likelihoods that are high for right answers, and come in another order than the rows."""
    right = {row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])] for row in arc_rows}

    def knowing(model, requests, most):
        places = list(range(len(requests)))
        random.Random(0).shuffle(places)
        for place in places:
            good = world_tokenizer.decode(requests[place].continuation).strip() in right
            yield [(place, harness_module.Likelihood(-1.0 if good else -9.0, False))]

    monkeypatch.setattr(harness_module, "log_likelihoods", knowing)
    assert Harness(reader, world_tokenizer).evaluate(ARC, arc_rows).value("acc") == 1.0


def test_answers_are_kept_and_found_again(reader, world_tokenizer, arc_rows, tmp_path, passes):
    path = tmp_path / "answers.sqlite"
    first = Harness(reader, world_tokenizer, store=AnswerStore(path, reader)).evaluate(ARC, arc_rows)
    spent = len(passes)
    again = Harness(reader, world_tokenizer, store=AnswerStore(path, reader)).evaluate(ARC, arc_rows)
    assert again == first and len(passes) == spent + 1  # one pass, for the fingerprint


def test_an_interrupted_run_goes_on(reader, world_tokenizer, arc_rows, tmp_path, monkeypatch):
    monkeypatch.setattr("tinyphi.evaluate.likelihood.MOST_TOKENS", 1)  # a batch for each request
    whole = Harness(reader, world_tokenizer).evaluate(ARC, arc_rows)
    batches = harness_module.log_likelihoods
    asked = []

    def breaks(model, requests, most):
        asked.append(len(requests))
        for number, batch in enumerate(batches(model, requests, most)):
            if number == 5 and len(asked) == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(harness_module, "log_likelihoods", breaks)
    path = tmp_path / "answers.sqlite"
    with pytest.raises(KeyboardInterrupt):
        Harness(reader, world_tokenizer, store=AnswerStore(path, reader)).evaluate(ARC, arc_rows)
    resumed = Harness(reader, world_tokenizer, store=AnswerStore(path, reader)).evaluate(ARC, arc_rows)
    assert 0 < asked[1] <= asked[0] - 5 and resumed.value("acc") == whole.value("acc")
    for mine, other in zip(resumed.answers, whole.answers, strict=True):
        assert mine.said == pytest.approx(other.said, abs=1e-5)


def test_a_file_that_is_no_database_is_said(tmp_path, reader):
    (tmp_path / "x").write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(InputError, match="Name another file"):
        AnswerStore(tmp_path / "x", reader)


def test_replies_stop_and_do_not_depend_on_their_neighbours(harness, world_tokenizer):
    prompts = [world_tokenizer.encode(text) for text in ("The river", "A long story about a man", "Rain")]
    together = harness.replies(prompts, (), 12)
    alone = [Harness(harness.model, world_tokenizer).replies([prompt], (), 12)[0] for prompt in prompts]
    assert together == alone
    stop = together[0][3:6]
    assert harness.replies(prompts[:1], (stop,), 12)[0] == together[0].split(stop)[0]


def test_long_prompts_lose_their_beginning():
    assert shortened({"a": list(range(10)), "b": [1]}, 8, 3) == {"a": [5, 6, 7, 8, 9], "b": [1]}
    with pytest.raises(InputError, match="no room"):
        shortened({"a": [1]}, 8, 8)


def test_prompts_are_grouped_by_length(monkeypatch):
    monkeypatch.setattr(harness_module, "_TOKENS", 20)
    prompts = {name: [0] * size for name, size in (("a", 2), ("b", 9), ("c", 3), ("d", 30))}
    groups = by_length(prompts, 1)
    assert [list(group) for group in groups] == [["d"], ["b", "c"], ["a"]]


def test_samples_are_drawn_and_the_same_each_time():
    assert sample(5, None, 0) == sample(5, 9, 0) == [0, 1, 2, 3, 4]
    drawn = sample(1000, 20, 1)
    assert drawn == sorted(drawn) == sample(1000, 20, 1) != sample(1000, 20, 2) and len(set(drawn)) == 20
    with pytest.raises(InputError, match="limit is 0"):
        sample(5, 0, 0)


def test_examples_come_from_the_group_and_never_show_the_question(mmlu_rows):
    task, row = TASKS["mmlu"], mmlu_rows[1]
    chosen = choose_examples(task, mmlu_rows, row, 3)
    assert chosen == [mmlu_rows[0], mmlu_rows[2], mmlu_rows[3]]
    with pytest.raises(InputError, match="there are only 3"):
        choose_examples(task, mmlu_rows, row, 4)
    with pytest.raises(InputError, match="0 or more"):
        choose_examples(task, mmlu_rows, row, -1)


def test_wordings_are_compared(harness, mmlu_rows):
    both = harness.sensitivity(TASKS["mmlu"], mmlu_rows, shots=1)
    assert list(both.results) == ["lm-eval", "report", "cloze"]
    assert 0 <= both.spread("acc") <= 1 and 0 <= both.changed("acc") <= 1


@pytest.mark.parametrize(
    ("task", "rows", "options", "says"),
    [
        ("arc_easy", [{"question": "?"}], {}, "layout of arc_easy: KeyError 'choices'"),
        ("arc_easy", [], {}, "no rows"),
        ("arc_easy", "arc", {"wording": "shouted"}, "it has lm-eval, report"),
        ("humaneval", [{"prompt": "def f():", "test": "", "entry_point": "f"}], {}, "run-code"),
        ("mt_bench", [{"category": "x", "turns": ["Hi", "Bye"]}], {}, "needs a judge"),
        ("piqa", [{"goal": "x", "sol1": "a", "sol2": "b", "label": 2}], {}, "right=2"),
    ],
)
def test_what_cannot_be_done_is_said(harness, arc_rows, task, rows, options, says):
    with pytest.raises(InputError, match=says):
        harness.evaluate(TASKS[task], arc_rows if rows == "arc" else rows, **options)


def test_a_conversation_goes_on_after_the_reply_and_is_judged(reader, world_tokenizer):
    asked = []

    def judge(prompt):
        asked.append(prompt)
        return "Weak. [[3]]" if len(asked) == 1 else "Good, not [[2]] but [[8.5]]"

    task = replace(TASKS["mt_bench"], most=6)
    rows = [{"category": "sums", "turns": ["What is 1 + 1?", "And then?"], "reference": ["2", "3"]}]
    (answer,) = Harness(reader, world_tokenizer, judge=judge).evaluate(task, rows).answers
    assert tuple(answer.scores["judged"]) == (11.5, 2) and answer.group == "sums"
    first = answer.said.split("\n\n")[0]
    assert "What is 1 + 1?" in asked[1] and first in asked[1] and "And then?" not in asked[0]
    assert "last message:\n2" in asked[0] and "last message:\n3" in asked[1]
    with pytest.raises(InputError, match="no mark"):
        Harness(reader, world_tokenizer, judge=lambda prompt: "I liked it").evaluate(task, rows)


def test_a_model_can_be_the_judge(reader, world_tokenizer):
    assert isinstance(model_judge(reader, world_tokenizer, most=3)("Judge this."), str)


def test_programs_are_run_where_that_was_asked_for(reader, world_tokenizer, monkeypatch):
    sandbox = pytest.importorskip("tinyphi.evaluate.sandbox")
    ran = []

    class Done:
        ok = True

    monkeypatch.setattr(sandbox, "run_python", lambda code, **options: ran.append((code, options)) or Done())
    rows = [{"prompt": "def one():\n", "test": "def check(f):\n    assert f() == 1", "entry_point": "one"}]
    task = replace(TASKS["humaneval"], most=4)
    result = Harness(reader, world_tokenizer, run_code=True).evaluate(task, rows)
    ((code, options),) = ran
    assert code.startswith("def one():\n") and code.endswith("check(one)\n") and options["run_code"]
    assert result.value("pass@1") == 1.0


def test_questions_of_another_shape_are_refused():
    with pytest.raises(InputError, match="2 texts, 2 answers"):
        Question(("a", "b"), ("c", "d"))


@pytest.fixture
def saved(reader, world_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "cache"))
    tinyphi.save(reader, world_tokenizer, tmp_path / "model")
    return str(tmp_path / "model")


def test_the_command(saved, arc_rows, tmp_path, capsys):
    (tmp_path / "arc_easy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in arc_rows))
    options = ["--model", saved, "--data", str(tmp_path), "--limit", "4", "--wording", "all", "--shots", "1"]
    assert main(["tasks", "arc_easy", *options, "--save", str(tmp_path / "out.jsonl")]) == 0
    said = capsys.readouterr().out
    assert said.count("arc_easy") == 4 and "report" in said and "[" in said
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 8
    assert (tmp_path / "cache" / "answers.sqlite").exists()


def test_the_command_lists_the_tasks(capsys):
    assert main(["tasks"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == set(TASKS)


def test_the_command_knows_its_tasks():
    with pytest.raises(InputError, match="no task 'arx'"):
        main(["tasks", "arx"])
    with pytest.raises(SystemExit):
        main(["tasks", "arc_easy", "--lmit", "3"])
