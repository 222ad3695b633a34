"""Five coding problems, from easy to expert, and the cases that a prompt does not show.

A program is run once for all cases; the score is the share of cases that it gets right. Numbers may differ by
1e-9 of their size, tuples count as lists, and where an error is asked for its class must fit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyphi.evaluate.trials.programs import outcomes
from tinyphi.evaluate.trials.trial import Grade, Trial

_SHOWN = 3  # reasons for failed cases


class Raises(str):
    """Instead of a value: the name of the error that is wanted."""

    __slots__ = ()


@dataclass(frozen=True)
class Problem:
    """A function to be written, and what it should give: pairs of arguments and results."""

    function: str
    cases: Sequence[tuple[tuple[Any, ...], Any]]
    records: Mapping[str, str] | None = None

    def grade(self, reply: str) -> Grade:
        """Run the program in a reply; every failed case is a reason (the first three are told)."""
        got = outcomes(reply, self.function, [list(given) for given, _ in self.cases], self.records)
        if not got.found:
            return Grade(0, (got.trouble or f"there is no {self.function} in it",))
        wrong = []
        for number, (given, wanted) in enumerate(self.cases):
            if (outcome := got.cases.get(number)) is None:
                wrong.append(f"{self._call(given)}: {got.trouble}")
            elif not _equal(outcome, wanted):
                wrong.append(f"{self._call(given)} {_told(outcome)}; {_wanted(wanted)}")
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        right = len(self.cases) - len(wrong)
        summary = f"{right} of {len(self.cases)} cases are right"
        return Grade(right / len(self.cases), (summary, *wrong[:_SHOWN], *more))

    def _call(self, given: tuple[Any, ...]) -> str:
        return f"{self.function}({', '.join(map(_short, given))})"


def _equal(outcome: Mapping[str, Any], wanted: Any) -> bool:
    if isinstance(wanted, Raises):
        return bool(outcome.get("error") == str(wanted))
    return "value" in outcome and _same(outcome["value"], wanted)


def _same(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(_same, got, wanted))
    if isinstance(wanted, (int, float)):
        number = isinstance(got, (int, float)) and not isinstance(got, bool)
        return number and math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)
    return bool(got == wanted)


def _told(outcome: Mapping[str, Any]) -> str:
    return f"gave {_short(outcome['value'])}" if "value" in outcome else f"raised {outcome['text']}"


def _wanted(wanted: Any) -> str:
    return f"{wanted} was wanted" if isinstance(wanted, Raises) else f"{_short(wanted)} was wanted"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:45]} … ({len(text)} letters)"


DEGREES = Problem(
    "to_degrees",
    [
        ((0.0,), 0.0),
        ((math.pi,), 180.0),
        ((-math.pi / 2,), -90.0),
        ((1,), 57.29577951308232),
        ((2 * math.pi,), 360.0),
        ((7 * math.pi,), 1260.0),
        ((1e-6,), 5.729577951308232e-05),
        ((-1000.5,), -57324.4274028388),
    ],
)
VOLTAGE = Problem(
    "dac_voltage",
    [
        ((8, 5.0, 0), 0.0),
        ((8, 5.0, 255), 4.98046875),
        ((10, 3.3, 512), 1.65),
        ((12, 2.5, 1), 0.0006103515625),
        ((1, 1.0, 1), 0.5),
        ((16, -10.0, 16384), -2.5),
        ((24, 4.096, 8388608), 2.048),
        ((8, 5.0, 256), Raises("ValueError")),
        ((8, 5.0, -1), Raises("ValueError")),
        ((0, 5.0, 0), Raises("ValueError")),
    ],
)
DOMAIN = Problem(
    "domain_name",
    [
        (("192.0.2.1",), "www.example.org"),
        (("198.51.100.25",), "mail.example.net"),
        (("2001:db8::53",), "ns.example.com"),
        (("2001:0db8:0000:0000:0000:0000:0000:0053",), "ns.example.com"),
        (("203.0.113.9",), None),
        (("2001:db8::9",), None),
        (("192.0.2.99",), None),
        (("256.0.0.1",), Raises("ValueError")),
        (("example.org",), Raises("ValueError")),
        (("",), Raises("ValueError")),
    ],
    records={
        "192.0.2.1": "www.example.org",
        "198.51.100.25": "mail.example.net",
        "2001:db8::53": "ns.example.com",
        "192.0.2.99": "",  # its server does not answer
    },
)
MATRIX = Problem(
    "identity",
    [
        ((1,), [[1]]),
        ((2,), [[1, 0], [0, 1]]),
        ((4,), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
        ((0,), []),
        ((-1,), [[1]]),
        ((-2,), [[0, 1], [1, 0]]),
        ((-3,), [[0, 0, 1], [0, 1, 0], [1, 0, 0]]),
        ((-5,), [[0] * (4 - row) + [1] + [0] * row for row in range(5)]),
        ((30,), [[0] * row + [1] + [0] * (29 - row) for row in range(30)]),
    ],
)
ALTERNATING = Problem(
    "longest_alternating",
    [
        (("721449827599186159274227324466",), "7214"),
        (("225424272163254474441338664823",), "272163254"),
        (("594127169973391692147228678476",), "16921472"),
        (("3",), "3"),
        (("13579",), "1"),
        (("2468",), "2"),
        (("010101",), "010101"),
        (("1223",), "12"),
        (("1357246",), "72"),
        (("",), ""),
        (("12" * 50_000,), "12" * 50_000),
    ],
)

CODING = (
    Trial("radians to degrees", "easy", DEGREES.grade, runs_code=True),
    Trial("DAC voltage", "medium", VOLTAGE.grade, runs_code=True),
    Trial("IP address to domain name", "medium", DOMAIN.grade, runs_code=True),
    Trial("mirrored identity matrix", "hard", MATRIX.grade, runs_code=True),
    Trial("longest alternating substring", "expert", ALTERNATING.grade, runs_code=True),
)
