"""A right game passes every check; each mistake fails the check that is meant for it."""

import runpy
from pathlib import Path

import pytest

from tinyphi.evaluate.trials import SNAKE, snake
from tinyphi.evaluate.trials.snake import CHECKS, State, _step, grade

SOLUTIONS = runpy.run_path(str(Path(__file__).with_name("solutions.py")))
GAME = SOLUTIONS["SNAKE"]
MISTAKES = SOLUTIONS["SNAKE_MISTAKES"]


def failed(found):
    return {reason[2:].split(":")[0] for reason in found.reasons[1:]}


def test_a_right_game_passes():
    assert grade(f"```python\n{GAME}\n```").reasons == ("10 of 10 checks are passed",)


def test_lists_for_cells_do():
    changed = GAME.replace("self.body = [head] + rest", "self.body = [list(head)] + [list(c) for c in rest]")
    changed = changed.replace("head in rest", "list(head) in [list(c) for c in rest]")
    changed = changed.replace("== self.body[1]", "== tuple(self.body[1])")
    changed = changed.replace("(x, y) not in self.body", "(x, y) not in [tuple(c) for c in self.body]")
    assert grade(changed).passed, grade(changed).reasons


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_fails_its_check(name):
    right, wrong, checks = MISTAKES[name]
    assert right in GAME
    found = grade(GAME.replace(right, wrong))
    assert checks <= failed(found) and not found.passed, found.reasons
    assert found.score == pytest.approx(1 - len(failed(found)) / len(CHECKS))


def test_every_check_is_failed_by_some_mistake():
    assert set().union(*(checks for _, _, checks in MISTAKES.values())) == set(CHECKS)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("class Snake: pass", "game 1 could not be played: TypeError"),
        (GAME.replace("def step", "def move"), "AttributeError"),
        (GAME.replace("self.alive = True", "self.alive = 1"), "no state: score 0, alive 1"),
        (GAME.replace("self.score = 0", "self.score = 'none'"), "no state"),
        (GAME.replace("(x, y) for x in", "(x + 0.5, y) for x in"), "no state: body"),
        ("import pygame\n" + GAME, "No module named 'pygame'"),
        ("class Game: pass", "it defines Game, not Snake"),
        (GAME.replace("if not self.alive:", "while not self.alive: pass\n        if 0:"), "it had not ended"),
        ("I would use pygame for that.", "invalid syntax"),
    ],
)
def test_what_cannot_be_played(code, says, monkeypatch):
    monkeypatch.setattr("tinyphi.evaluate.trials.programs.TIMEOUT", 3.0)
    found = grade(code)
    assert found.score == 0 and says in found.reasons[0], found.reasons


def test_a_game_of_one_length_is_not_believed():
    """It shows the same state for ever."""
    found = grade(
        "class Snake:\n    def __init__(self, w, h): self.w, self.h = w, h\n    def step(self, to): pass\n"
        "    def reset(self, seed):\n        x, y = self.w // 2, self.h // 2\n"
        "        self.body, self.food = [(x, y), (x - 1, y), (x - 2, y)], (seed % 3, 0)\n"
        "        self.score, self.alive = 0, True\n"
    )
    assert failed(found) >= set(CHECKS[3:]), found.reasons


@pytest.mark.parametrize(
    ("body", "food", "direction", "check", "head"),
    [
        ([(5, 5), (4, 5), (3, 5)], (0, 0), "up", "moves", (5, 4)),
        ([(5, 5), (4, 5), (3, 5)], (0, 0), "left", "makes no instant reversal", (6, 5)),
        ([(5, 5), (4, 5), (3, 5)], (6, 5), "right", "eats and grows", (6, 5)),
        ([(11, 5), (10, 5), (9, 5)], (0, 0), "right", "dies at the wall", (11, 5)),
        ([(5, 5), (5, 6), (4, 6), (4, 5)], (0, 0), "left", "may follow its tail", (4, 5)),
        ([(5, 5), (5, 6), (4, 6), (4, 5), (4, 4)], (0, 0), "left", "dies in itself", (5, 5)),
    ],
)
def test_the_rules_themselves(body, food, direction, check, head):
    found, after = _step(State(tuple(body), food, 2, True), direction, 12, 9)
    assert found == check and after.body[0] == head and after.alive == ("dies" not in check)
    assert (after.score, len(after.body)) == ((3, 4) if check == "eats and grows" else (2, len(body)))


def test_the_dead_stay_dead():
    dead = State(((5, 5), (4, 5), (3, 5)), (0, 0), 0, False)
    assert _step(dead, "up", 12, 9) == ("stays dead", dead)


def test_nothing_is_run_unless_asked_for():
    assert SNAKE.grade(GAME).score is None
    assert SNAKE.grade(GAME, run_code=True).passed


def test_the_games_are_of_both_kinds():
    assert {plan["policy"] for plan in snake._GAMES} == {"script", "chase", "circle"}
    assert snake._GAMES[6] == snake._GAMES[7]  # the same seed twice
