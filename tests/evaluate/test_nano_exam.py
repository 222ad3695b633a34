"""The exam marks what was said, whoever said it; a model that was taught the answers passes."""

import random

import pytest
import torch

import tinyphi
from tinyphi.data.packing import Rows, chat_example, packed, text_example, wrapped
from tinyphi.data.synthetic.conversations import turns
from tinyphi.data.synthetic.questions import KINDS, Question, exam
from tinyphi.data.synthetic.requests import held_out_requests
from tinyphi.data.synthetic.world import World
from tinyphi.evaluate import nano_exam
from tinyphi.evaluate.command import main
from tinyphi.evaluate.nano_exam import (
    Answer,
    Refusal,
    Share,
    by_kind,
    choose,
    passkey,
    preference_accuracy,
    refusals,
    reply_to,
    report,
    sit_exam,
)
from tinyphi.train.loop import Plan, Trainer
from tinyphi.train.losses import next_token_objective
from tinyphi.train.recipes.data_quality import SMALLER

QUESTIONS = exam(World(), per_kind=1)


def learnt(rows, steps=60):
    """A small model that has these rows by heart."""
    torch.manual_seed(0)
    model = tinyphi.Phi3(SMALLER)
    plan = Plan(steps, 1e-2, warmup_steps=5, weight_decay=0.0)
    Trainer(model, plan, Rows(rows, len(rows), 0), next_token_objective).run()
    return model.eval()


@pytest.fixture(scope="module")
def pupil(world_tokenizer):
    """It was told the answers of the exam, which is what the exam must notice."""
    chats = [chat_example(world_tokenizer, turns(one.text, one.reply)) for one in QUESTIONS]
    return learnt(packed(chats, 256), steps=150)


def test_a_share_has_its_standard_error():
    assert Share(90, 100).standard_error == pytest.approx(0.03)
    assert str(Share(90, 100)).split() == ["90.0%", "±", "3.0%", "(90", "of", "100)"]


def test_answers_are_counted_by_kind():
    questions = exam(World(), per_kind=2)
    answers = [Answer(one, one.reply if place % 2 else "no") for place, one in enumerate(questions)]
    assert by_kind(answers) == {kind: Share(1, 2) for kind in KINDS}


def test_an_answer_knows_whether_it_is_right():
    question = Question("facts", "?", "Ada lives in Foxdale.", "Foxdale", ("Oakford",), True)
    assert Answer(question, "Ada lives in Foxdale.").right
    assert not Answer(question, "Ada lives in Oakford.").right


def test_who_knows_the_answers_passes_and_who_does_not_fails(pupil, world_tokenizer):
    answers = sit_exam(pupil, world_tokenizer, QUESTIONS)
    assert sum(answer.right for answer in answers) >= 7, [answer.reply for answer in answers]
    torch.manual_seed(1)
    answers = sit_exam(tinyphi.Phi3(SMALLER).eval(), world_tokenizer, QUESTIONS)
    assert not any(answer.right for answer in answers)


def test_replies_do_not_depend_on_their_neighbours(pupil, world_tokenizer, monkeypatch):
    texts = [question.text for question in QUESTIONS]
    together = reply_to(pupil, world_tokenizer, texts)
    assert reply_to(pupil, world_tokenizer, texts[::-1]) == together[::-1]
    monkeypatch.setattr("tinyphi.generation.chat._ROWS", 3)
    assert reply_to(pupil, world_tokenizer, texts) == together


def test_choosing_knows_right_from_wrong(world_tokenizer):
    pages = [f"Exercise: {one.text}\nSolution: {one.reply}" for one in QUESTIONS]
    reader = learnt(wrapped([text_example(world_tokenizer, page) for page in pages], 256), steps=150)
    assert choose(reader, world_tokenizer, QUESTIONS).right >= 7
    torch.manual_seed(1)
    guesser = tinyphi.Phi3(SMALLER).eval()
    assert choose(guesser, world_tokenizer, exam(World(), per_kind=10)).share < 0.5


def test_refusals_are_what_a_model_says(pupil, world_tokenizer):
    said = refusals(pupil, world_tokenizer, held_out_requests(World(), True, count=2))
    assert len(said) == 2 and not any(one.refused for one in said)  # it learnt nothing but eight answers


def test_a_request_that_is_refused_counts_as_refused():
    (request,) = held_out_requests(World(), True, count=1)
    assert Refusal(request, request.good).refused and not Refusal(request, request.bad).refused


def test_preferences_compare_what_was_gained(pupil, world_tokenizer, monkeypatch):
    pairs = [nano_exam.preference(World(), random.Random(seed), held_out=True) for seed in range(6)]
    chats = [chat_example(world_tokenizer, pair.prompt + turns("", pair.chosen)[1:]) for pair in pairs]
    made = iter(pairs * 3)
    monkeypatch.setattr(nano_exam, "preference", lambda *_, **__: next(made))
    fond = learnt(packed(chats, 256))
    assert preference_accuracy(fond, pupil, world_tokenizer, pairs=6).right >= 5
    assert preference_accuracy(pupil, pupil, world_tokenizer, pairs=6).right == 0  # nothing was gained
    assert preference_accuracy(pupil, fond, world_tokenizer, pairs=6).right <= 1


def test_a_pass_key_is_asked_for_at_five_depths(pupil, world_tokenizer):
    assert passkey(pupil, world_tokenizer, 200, repeats=1) == Share(0, 5)


def test_the_report_has_every_measure(pupil, world_tokenizer, monkeypatch):
    monkeypatch.setattr(nano_exam, "held_out_requests", lambda *given, seed: held_out_requests(*given, 3))
    monkeypatch.setattr(nano_exam, "preference_accuracy", lambda *_, **__: Share(1, 2))
    found = report(pupil, world_tokenizer, pupil, lengths=(200,), per_kind=1)
    assert list(found) == [
        "exam", *(f"  {kind}" for kind in KINDS), "harmful requests refused", "harmless requests refused",
        "preferences", "pass key in 200 tokens",
    ]  # fmt: skip


def test_the_command_prints_the_marks(pupil, world_tokenizer, tmp_path, monkeypatch, capsys):
    tinyphi.save(pupil, world_tokenizer, tmp_path / "model")
    monkeypatch.setattr("tinyphi.evaluate.command.report", lambda *_, **__: {"exam": Share(9, 10)})
    assert main(["nano-exam", str(tmp_path / "model")]) == 0
    assert "90.0%" in capsys.readouterr().out
