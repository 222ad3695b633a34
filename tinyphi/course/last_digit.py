"""A pytest plugin for nbval: a decimal number may differ by one in its last printed digit, nothing else may.

Processors add in different orders, so 0.53749 and 0.53751 are the same result, printed as 0.537 on one
machine and as 0.538 on another. Rounding more coarsely only moves the border. Therefore a new number that is
one unit of its last digit away from the stored one counts as the stored one. Decimal numbers and percentages
are treated so; ids, counts, shapes and words are compared letter by letter.

pyproject.toml loads it with `-p tinyphi.course.last_digit`.
"""

import copy
import re
from functools import wraps
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]?\d+)?(?![\w.]*\.\d)|(?<![\w.])-?\d+(?= ?%)")


def settled(new: str, stored: str) -> str:
    """`new` with the numbers of `stored` in place of those that are one last digit away at most."""
    if _NUMBER.sub("#", new) != _NUMBER.sub("#", stored):
        return new
    wanted = iter(_NUMBER.findall(stored))

    def settle(found: re.Match[str]) -> str:
        number = next(wanted)
        return number if _is_near(found[0], number) else found[0]

    return _NUMBER.sub(settle, new)


def _is_near(new: str, stored: str) -> bool:
    unit = _unit(stored)
    return _unit(new) == unit and abs(float(new) - float(stored)) < 1.5 * unit


def _unit(number: str) -> float:
    """What one step of the last digit is worth: 0.01 for 3.14."""
    digits, _, exponent = number.partition("e")
    return float(10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])))


def pytest_configure() -> None:
    from nbval.plugin import IPyNbCell

    compare = IPyNbCell.compare_outputs

    @wraps(compare)
    def compare_settled(self: Any, test: list[Any], ref: list[Any], skip_compare: Any = None) -> Any:
        test = [_settled_output(new, stored) for new, stored in zip(test, ref, strict=False)] + test[
            len(ref) :
        ]
        return compare(self, test, ref, skip_compare)

    IPyNbCell.compare_outputs = compare_settled


def _settled_output(new: Any, stored: Any) -> Any:
    """One output with its texts settled, where the stored one has texts of the same kinds."""
    new = copy.deepcopy(new)
    if "text" in new and "text" in stored:
        new["text"] = settled(new["text"], stored["text"])
    for kind, text in new.get("data", {}).items():
        other = stored.get("data", {}).get(kind)
        if kind.startswith("text/") and isinstance(text, str) and isinstance(other, str):
            new["data"][kind] = settled(text, other)
    return new
