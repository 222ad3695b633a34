"""Before and after: what several stages of a model answer to the same prompts."""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyphi.errors import InputError
from tinyphi.show import style
from tinyphi.show.given import drawn_words, words
from tinyphi.show.live import Live
from tinyphi.show.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_STAGES, MOST_PROMPTS = 6, 200
_SHOWN, _LETTERS = 8, 200  # prompts in table and digest, letters of an answer there
_LONGEST = 4000  # letters of a text in the live face
_SIGNS = {True: "✓", False: "✗", None: " "}

Marks = Mapping[str, Sequence[bool | None]]


def answers(prompts: Sequence[str], stages: Mapping[str, Sequence[str]], right: Marks | None = None) -> View:
    """The answers of several stages side by side, right ones and wrong ones marked.

    prompts  the questions, at most 200
    stages   label, for example "base" → its answers, one for each prompt; at most 6 stages
    right    for the same labels: whether each answer is right, None where nobody can say

    The first 8 prompts are shown, and shortened; in the live face all of them, whichever is chosen. Raises
    InputError for no prompt or stage, too many, and another number of answers or marks.
    """
    _check(prompts, stages, right)
    marks = {label: list(right[label]) if right else [None] * len(prompts) for label in stages}
    totals = {label: _total(marks[label]) for label in stages}
    alt = f"Answers to {len(prompts)} prompts: " + "; ".join(
        f"{words(label)} {totals[label] or 'not marked'}" for label in stages
    )
    data = {
        "prompts": [_cut(prompt, _LONGEST) for prompt in prompts],
        "stages": [
            {
                "label": label,
                "answers": [_cut(answer, _LONGEST) for answer in given],
                "right": marks[label],
                "total": totals[label],
            }
            for label, given in stages.items()
        ],
    }
    text = "\n".join(_digest(prompts, stages, marks, totals))
    markup = _markup(prompts, stages, marks, totals)
    return View(text, f"{alt}.", lambda: _draw(prompts, marks, totals), markup, Live("answers", data))


def _check(prompts: Sequence[str], stages: Mapping[str, Sequence[str]], right: Marks | None) -> None:
    if not 0 < len(prompts) <= MOST_PROMPTS or not 0 < len(stages) <= MOST_STAGES:
        raise InputError(
            f"answers() shows 1 to {MOST_PROMPTS} prompts and 1 to {MOST_STAGES} stages; these are "
            f"{len(prompts)} and {len(stages)}."
        )
    if right is not None and right.keys() != stages.keys():
        raise InputError(f"right is for {', '.join(right)}, but the stages are {', '.join(stages)}.")
    for label, given in [*stages.items(), *(right or {}).items()]:
        if isinstance(given, str) or len(given) != len(prompts):
            raise InputError(f"{label!r} has {len(given)} entries for {len(prompts)} prompts: one for each.")


def _total(marks: Sequence[bool | None]) -> str:
    known = [mark for mark in marks if mark is not None]
    return f"{sum(known)} of {len(known)} right ({sum(known) / len(known):.0%})" if known else ""


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _digest(
    prompts: Sequence[str], stages: Mapping[str, Sequence[str]], marks: Marks, totals: Mapping[str, str]
) -> list[str]:
    lines = [f"{len(prompts)} prompts, {len(stages)} {'stage' if len(stages) == 1 else 'stages'}"]
    lines += [f"  {words(label)[:24]:24} {total}" for label, total in totals.items() if total]
    for number, prompt in enumerate(prompts[:_SHOWN]):
        lines.append(f"{number + 1}. {_cut(words(prompt), 90)}")
        for label, given in stages.items():
            sign = _SIGNS[marks[label][number]]
            lines.append(f"  {sign} {words(label)[:12]:12} {_cut(words(given[number]), 80)}".rstrip())
    return lines + ([f"… and {len(prompts) - _SHOWN} more"] if len(prompts) > _SHOWN else [])


def _markup(
    prompts: Sequence[str], stages: Mapping[str, Sequence[str]], marks: Marks, totals: Mapping[str, str]
) -> str:
    cell = 'style="text-align:left;vertical-align:top;padding:3px 8px;border-bottom:1px solid #D9D9D9"'
    heads = "".join(
        f"<th {cell}>{html.escape(words(label))}<br><small>{totals[label]}</small></th>" for label in stages
    )
    rows = []
    for number, prompt in enumerate(prompts[:_SHOWN]):
        cells = []
        for label, given in stages.items():
            mark = marks[label][number]
            colour = {True: style.BLUE, False: style.RED, None: style.INK}[mark]
            sign = f'<b style="color:{colour}">{_SIGNS[mark]}</b> ' if mark is not None else ""
            cells.append(f"<td {cell}>{sign}{_lines(given[number])}</td>")
        rows.append(f"<tr><td {cell}><b>{_lines(prompt)}</b></td>{''.join(cells)}</tr>")
    more = f"<div>… and {len(prompts) - _SHOWN} more</div>" if len(prompts) > _SHOWN else ""
    return (
        '<div style="background:#fff;color:#222;padding:6px;font-family:sans-serif">'
        '<table style="border-collapse:collapse;color:#222;background:#fff">'
        f"<tr><th {cell}>prompt</th>{heads}</tr>"
        f"{''.join(rows)}</table>{more}</div>"
    )


def _lines(text: str) -> str:
    """Text for HTML: shortened, its line breaks kept, what cannot be printed made visible."""
    lines = [" ".join(map(style.visible, line.split(" "))) for line in _cut(text, _LETTERS).splitlines()]
    return f'<span style="white-space:pre-wrap">{"<br>".join(map(html.escape, lines))}</span>'


def _draw(prompts: Sequence[str], marks: Marks, totals: Mapping[str, str]) -> "Figure":
    """The marks alone, a column a prompt; for the texts see the table."""
    figure = style.new_figure(8.0, 0.7 + 0.36 * len(marks))
    axes: Any = figure.subplots()
    for row, given in enumerate(marks.values()):
        for wanted, colour, sign in (
            (True, style.BLUE, "o"),
            (False, style.RED, "X"),
            (None, style.PALE, "_"),
        ):
            places = [place + 1 for place, mark in enumerate(given) if mark is wanted]
            axes.scatter(places, [row] * len(places), c=colour, marker=sign, s=min(60, 3000 / len(prompts)))
    names = [f"{drawn_words(label, 20)}  {totals[label]}" for label in marks]
    axes.set(
        ylim=(len(marks) - 0.5, -0.5), xlim=(0.3, len(prompts) + 0.7), xlabel="prompt (● right, ✗ wrong)"
    )
    axes.set_yticks(range(len(marks)), names)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return figure
