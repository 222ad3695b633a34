"""The game of Snake: a class is written, started without a screen, and judged by playing it.

In the sandbox a player (`tinyphi.evaluate.trials.inside`) plays planned games and writes down what it sees
after each call. Out here every step is compared with the rules, from the state that the game itself said it
was in. A game that only pretends has to keep all rules to be believed. Each of CHECKS counts the same; one is
passed if its case came up and was right every time. A snake that never grows can therefore not pass what
needs a longer one.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tinyphi.evaluate.trials.programs import outcomes
from tinyphi.evaluate.trials.trial import Grade, Trial

Cell = tuple[int, int]
CHECKS = (
    "starts as told",
    "the same seed gives the same game",
    "another seed gives another game",
    "moves",
    "makes no instant reversal",
    "eats and grows",
    "dies at the wall",
    "dies in itself",
    "may follow its tail",
    "stays dead",
)
_STEPS = {"up": (0, -1), "right": (1, 0), "down": (0, 1), "left": (-1, 0)}
_BOARD = (12, 9)


def _plan(policy: str, seed: int, steps: int, **more: Any) -> dict[str, Any]:
    return {"board": _BOARD, "policy": policy, "seed": seed, "steps": steps} | more


def _script(seed: int, *directions: str, **more: Any) -> dict[str, Any]:
    return _plan("script", seed, len(directions), script=directions, **more)


_GAMES = [
    _script(1, *["right"] * 8, "up", "up"),  # on, after the wall
    _script(2, *["up"] * 8, "right"),
    _script(3, *["down"] * 8, "left"),
    _script(4, "up", *["left"] * 9, "down"),
    _script(5, "left", "up", "down", "left", "right", "down", "up"),
    _script(6, *["right"] * 5, board=(7, 6)),
    *[_plan("chase", seed, 100) for seed in (7, 7, 8, 9)],
    *[_plan("circle", seed, 80, length=5) for seed in (10, 11, 12)],
    *[_plan("circle", seed, 50, length=4) for seed in (13, 14, 15)],
]


@dataclass(frozen=True)
class State:
    """What a game shows: the cells of the snake from its head on, the food, the score, whether it lives."""

    body: tuple[Cell, ...]
    food: Cell
    score: int
    alive: bool


def grade(reply: str) -> Grade:
    """Play the game in a reply. The score is the share of CHECKS that it passes."""
    got = outcomes(reply, "Snake", _GAMES)
    if not got.found:
        return Grade(0, (got.trouble or "there is no Snake in it",))
    seen: dict[str, list[str | None]] = {check: [] for check in CHECKS}  # None: right; or what was wrong
    games = []
    for number, plan in enumerate(_GAMES):
        outcome = got.cases.get(number, {"text": got.trouble})
        if "value" not in outcome:
            return Grade(0, (f"game {number + 1} could not be played: {outcome['text']}",))
        try:
            games.append([_state(one) for one in outcome["value"]])
        except (TypeError, ValueError, LookupError) as error:
            return Grade(0, (f"game {number + 1} shows something that is no state: {error}",))
        for check, fault in _faults(games[-1], *plan["board"]):
            seen[check].append(fault)
    same = games[6] == games[7]
    seen["the same seed gives the same game"].append(None if same else "seed 7 gave two different games")
    boards = [tuple(plan["board"]) for plan in _GAMES]
    differ = len({game[0][1].food for game, board in zip(games, boards, strict=True) if board == _BOARD}) > 1
    seen["another seed gives another game"].append(
        None if differ else "the first food is always in one place"
    )
    return _summary(seen)


def _summary(seen: dict[str, list[str | None]]) -> Grade:
    wrong = []
    for check, found in seen.items():
        faults = [fault for fault in found if fault is not None]
        if faults or not found:
            wrong.append(f"✗ {check}: {faults[0] if faults else 'no game came that far'}")
    right = len(CHECKS) - len(wrong)
    return Grade(right / len(CHECKS), (f"{right} of {len(CHECKS)} checks are passed", *wrong))


def _state(seen: list[Any]) -> tuple[str, State]:
    """The direction, and what it led to. Raises ValueError, TypeError or LookupError for what is no state."""
    direction, body, food, score, alive = seen
    state = State(tuple((x, y) for x, y in body), (food[0], food[1]), score, alive)
    whole = [number for cell in (*state.body, state.food) for number in cell]
    if not all(isinstance(number, int) for number in whole) or len(food) != 2 or len(body) < 2:
        raise ValueError(f"body {_short(body)}, food {food}")
    if not isinstance(score, int) or not isinstance(alive, bool):
        raise ValueError(f"score {score!r}, alive {alive!r}")
    return direction, state


def _faults(game: list[tuple[str, State]], width: int, height: int) -> Iterator[tuple[str, str | None]]:
    """Each step of a game as (check, None or what was wrong). Behind the first fault nothing is judged."""
    start = game[0][1]
    x, y = width // 2, height // 2
    as_told = start.body == ((x, y), (x - 1, y), (x - 2, y)) and start.score == 0 and start.alive is True
    right = as_told and _free(start, width, height)
    yield "starts as told", None if right else f"{_told(start)} on a board of {width} × {height}"
    if not right:
        return
    for (_, before), (direction, after) in pairwise(game):
        check, wanted = _step(before, direction, width, height)
        if (check == "stays dead" and after != before) or not _agrees(after, wanted, width, height):
            yield check, f"{direction} from {_told(before)} led to {_told(after)}"
            return
        yield check, None


def _step(before: State, direction: str, width: int, height: int) -> tuple[str, State]:
    """The rules: which of the CHECKS a step is about, and what it leads to."""
    if not before.alive:
        return "stays dead", before
    (x, y), neck, tail = before.body[0], before.body[1], before.body[-1]
    dx, dy = _STEPS[direction]
    reverses = (x + dx, y + dy) == neck
    if reverses:
        dx, dy = -dx, -dy
    head = (x + dx, y + dy)
    eats = head == before.food
    rest = before.body if eats else before.body[:-1]
    dead = State(before.body, before.food, before.score, False)
    if not (0 <= head[0] < width and 0 <= head[1] < height):
        return "dies at the wall", dead
    if head in rest:
        return "dies in itself", dead
    moved = State((head, *rest), before.food, before.score + eats, True)
    if eats:
        return "eats and grows", moved
    return (
        "makes no instant reversal" if reverses else "may follow its tail" if head == tail else "moves"
    ), moved


def _agrees(after: State, wanted: State, width: int, height: int) -> bool:
    """Whether a state is as it should be. Where the dead snake lies is free, and where new food appears."""
    if (after.score, after.alive) != (wanted.score, wanted.alive):
        return False
    if not wanted.alive:
        return True
    eaten = wanted.food in wanted.body
    return after.body == wanted.body and (_free(after, width, height) if eaten else after.food == wanted.food)


def _free(state: State, width: int, height: int) -> bool:
    """Whether the food lies on the board and not under the snake."""
    x, y = state.food
    return 0 <= x < width and 0 <= y < height and state.food not in state.body


def _told(state: State) -> str:
    life = "alive" if state.alive else "dead"
    return f"{life}, body {_short(state.body)}, food {state.food}, score {state.score}"


def _short(body: Any) -> str:
    cells = json.dumps([list(cell) for cell in body[:4]])
    return cells if len(body) <= 4 else f"{cells[:-1]}, … ({len(body)} cells)]"


SNAKE = Trial("snake", "game", grade, runs_code=True)
