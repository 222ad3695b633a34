"""What runs beside a model's program in the sandbox: it calls the program and says what came back.

The grader sends this file and one line `main(…)`. It knows the questions, not the answers: whatever the
program does to it, to pass it must say what the grader, outside, expects. It uses only the standard library.
"""

import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Say = Callable[..., None]
_STEPS = {"up": (0, -1), "right": (1, 0), "down": (0, 1), "left": (-1, 0)}


def main(source: str, name: str, cases: list[Any], mark: str, records: "dict[str, str] | None") -> None:
    """Run `source` as a module, take `name` out of it, and say what each case makes of it, a line each.

    A case is a list of arguments, or a dictionary: the plan of a game. records: what the resolver knows.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 — what the program prints is not asked for

    def say(**said: Any) -> None:
        out.write(f"\n{mark}{json.dumps(said, default=repr)}\n")
        out.flush()

    if records is not None:
        replace_resolver(records)
    module = sys.modules["answer"] = ModuleType("answer")
    try:
        exec(compile(source, "answer.py", "exec"), module.__dict__)
    except BaseException as error:  # a program that ends itself has perhaps defined what was asked for
        say(failed=_named(error))
    if not callable(made := getattr(module, name, None)):
        return
    say(found=True)
    for number, case in enumerate(cases):
        try:
            value = play(made, case) if isinstance(case, dict) else made(*case)
            say(case=number, value=value)
        except BaseException as error:
            say(case=number, error=type(error).__name__, text=_named(error))


def replace_resolver(records: dict[str, str]) -> None:
    """The functions of `socket` that ask for PTR records read them from a table instead.

    As the real ones, they accept names as well as addresses. An empty record: the server does not answer.
    """

    def look_up(address: str) -> str:
        try:
            name = records.get(str(ipaddress.ip_address(address)))
        except ValueError:
            if not any(letter.isalpha() for letter in address):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            return address
        if name == "":
            raise TimeoutError("timed out")
        if name is None:
            raise socket.herror(1, "Unknown host")
        return name

    def by_address(address: str) -> "tuple[str, list[str], list[str]]":
        return look_up(address), [], [address]

    def name_info(place: "tuple[Any, ...]", flags: int) -> "tuple[str, str]":
        try:
            return look_up(place[0]), str(place[1])
        except socket.herror:
            if flags & socket.NI_NAMEREQD:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
            return place[0], str(place[1])

    def full_name(address: str = "") -> str:
        try:
            return look_up(address)
        except OSError:
            return address

    changed: Any = socket
    changed.gethostbyaddr, changed.getnameinfo, changed.getfqdn = by_address, name_info, full_name


def play(make: Callable[..., Any], plan: dict[str, Any]) -> list[Any]:
    """Play one game of snake as planned: [direction, body, food, score, alive] after each call."""
    width, height = plan["board"]
    game = make(width, height)
    game.reset(plan["seed"])
    states = [["", *_seen(game)]]
    for number in range(plan["steps"]):
        body = states[-1][1]
        if plan["policy"] == "script":
            direction = plan["script"][number]
        elif len(body) < plan.get("length", 1000):
            direction = _towards(states[-1], width, height)
        else:
            direction = _circling(body, width, height)
        game.step(direction)
        states.append([direction, *_seen(game)])
    return states


def _seen(game: Any) -> list[Any]:
    return [[list(cell) for cell in game.body], list(game.food), game.score, game.alive]


def _towards(state: list[Any], width: int, height: int) -> str:
    """The direction that comes nearest to the food, of those that are not deadly, if there are such."""
    _, body, food, _, _ = state
    (x, y), neck = body[0], body[1]
    costs = {}
    for name, (dx, dy) in _STEPS.items():
        cell = [x + dx, y + dy]
        if cell != neck:
            deadly = cell in body[:-1] or not (0 <= cell[0] < width and 0 <= cell[1] < height)
            costs[name] = (deadly, abs(cell[0] - food[0]) + abs(cell[1] - food[1]))
    return min(costs, key=lambda name: costs[name])


def _circling(body: list[Any], width: int, height: int) -> str:
    """The next turn of a circle of four cells: to the right, or to the left where the wall is too near."""
    (x, y), (neck_x, neck_y) = body[0], body[1]
    dx, dy = x - neck_x, y - neck_y
    inside = 0 <= x - dy < width and 0 <= y + dx < height
    turned = (-dy, dx) if inside else (dy, -dx)
    return next((name for name, step in _STEPS.items() if step == turned), "up")


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
