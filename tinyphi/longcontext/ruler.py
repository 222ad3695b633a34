"""A small suite like RULER: to find one thing is easy; to tell it from others, to follow, to count is not.

Source: Hsieh et al. 2024, "RULER" (arXiv 2404.06654). Its idea is kept: texts made from a seed, whose answers
are known by construction and which can be of any length. What differs from it everywhere:

- five tasks of its thirteen, and sentences of our own. Names and words are made up or come from the model's
  vocabulary, where RULER draws on word lists and essays;
- the prompt has exactly the tokens asked for, without the room for an answer that RULER counts in;
- no chat template and no solved example before the question; the prompt ends within the answer's sentence;
- an answer is searched for whole words and numbers, where RULER accepts parts of longer ones.

So the scores compare models and methods here, and not with published tables.
"""

import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tinyphi.errors import InputError, TokenizerError
from tinyphi.longcontext.trials import (
    Haystack,
    Needle,
    Prompt,
    TaskTokenizer,
    Trial,
    ask,
    assemble,
    check_whole,
    mean_score,
    plain,
    score_table,
)
from tinyphi.model.transformer import Phi3

_KEYS = _VALUES = _HOPS = 4  # as in RULER
_COMMON, _OFTEN, _SELDOM = (
    10,
    30,
    3,
)  # words that are common; how often these and the others stand in the list
_FACT = "\nThe number of {name} is {number}.\n"
_HEAD = "Numbers are hidden in the text below. Remember them.\n\n"
_ONE = "\n\nWhich is the number of {name} in the text above? The number of {name} is"


@dataclass(frozen=True)
class RulerScores:
    """All trials, and the tasks and lengths that were asked for. Print it for a table."""

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    trials: tuple[Trial, ...]

    def score(self, task: str, length: int) -> float | None:
        """The mean share of the answer that was found, 0 … 1; None where nothing was tried."""
        return mean_score(t for t in self.trials if (t.task, t.tokens) == (task, length))

    def __str__(self) -> str:
        names = [f"{task:<20}" for task in self.tasks]
        return score_table(
            f"{'task':<20}", names, self.lengths, lambda row, length: self.score(self.tasks[row], length)
        )


def ruler(
    model: Phi3,
    tokenizer: TaskTokenizer,
    lengths: Sequence[int],
    tasks: Sequence[str] | None = None,
    *,
    repeats: int = 5,
    seed: int = 0,
    haystack: Sequence[int] | None = None,
    before: RulerScores | None = None,
) -> RulerScores:
    """Ask `repeats` questions of each task (None: of all) at each length, in tokens of the prompt.

    haystack: ids of a long text; None: a few sentences, over and over. before: what an earlier call for the
    same model returned; its trials are not made again. A score is the share of the true answers that are in
    what the model says. Ctrl-C ends early, with what is done.
    Raises InputError for unknown tasks and for lengths that are too short for one.
    """
    tasks = tuple(TASKS) if tasks is None else tuple(tasks)
    check_whole("ruler()", lengths=lengths, repeats=[repeats])
    if not tasks or not set(tasks) <= set(TASKS):
        raise InputError(f"ruler() takes tasks out of {', '.join(TASKS)}; these are {', '.join(tasks)}.")
    straw = Haystack(tokenizer, haystack)
    cells = [(t, n, repeat) for n in sorted(set(lengths)) for t in tasks for repeat in range(repeats)]
    prompts = [
        ruler_prompt(tokenizer, straw, task, length, repeat, seed=seed) for task, length, repeat in cells
    ]
    trials = ask(model, tokenizer, prompts, share_found, before.trials if before else ())
    return RulerScores(tasks, tuple(sorted(set(lengths))), tuple(trials))


def ruler_prompt(
    tokenizer: TaskTokenizer, haystack: Haystack, task: str, length: int, repeat: int = 0, seed: int = 0
) -> Prompt:
    """One question of a task, of exactly `length` tokens. The same arguments make the same prompt."""
    chance = random.Random(f"{task} {seed} {length} {repeat}")
    ids, question, truth = TASKS[task](tokenizer, haystack, length, chance)
    return Prompt(task, ids, None, repeat, question.strip(), truth)


def share_found(answer: str, truth: Sequence[str]) -> float:
    """The share of the true answers that stand in the answer as whole words or numbers."""
    words = set(re.findall(r"\w+", answer))
    return sum(one in words for one in truth) / len(truth)


_Task = tuple[list[int], str, tuple[str, ...]]  # ids, question, truth


def single_needle(tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random) -> _Task:
    """One number of one name. RULER: niah_single_1 and 2, by the haystack; its numbers have seven digits."""
    return _needles(tokenizer, haystack, length, chance, keys=1)


def several_keys(tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random) -> _Task:
    """Four names with a number each; one is asked for, the others distract. RULER: niah_multikey_1."""
    return _needles(tokenizer, haystack, length, chance, keys=_KEYS)


def several_values(tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random) -> _Task:
    """One name with four numbers; all are asked for, in any order. RULER: niah_multivalue."""
    (name,), numbers = _names(chance, 1), _numbers(chance, _VALUES)
    needles = [Needle(_FACT.format(name=name, number=number), chance.uniform(0, 100)) for number in numbers]
    question = f"\n\nWhich {_VALUES} numbers of {name} are in the text above? The numbers of {name} are"
    start = chance.randrange(len(haystack.ids))
    return assemble(tokenizer, length, _HEAD, haystack, start, needles, question), question, tuple(numbers)


def variable_tracking(
    tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random
) -> _Task:
    """A variable gets a number, four others are each set to the one before: which have that number?

    RULER: vt with one chain of four hops. The lines come in order, as there, at random places.
    """
    names, (number,) = [name.upper() for name in _names(chance, _HOPS + 1)], _numbers(chance, 1)
    lines = [f"\nVAR {name} = {source}\n" for name, source in zip(names, [number, *names], strict=False)]
    depths = sorted(chance.uniform(0, 100) for _ in lines)
    needles = [Needle(line, depth) for line, depth in zip(lines, depths, strict=True)]
    head = "Variables are set in the text below. Follow what value each of them has.\n\n"
    question = (
        f"\n\nWhich variables have the value {number} in the text above? "
        f"The {len(names)} variables with the value {number} are"
    )
    start = chance.randrange(len(haystack.ids))
    return assemble(tokenizer, length, head, haystack, start, needles, question), question, tuple(names)


def common_words(tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random) -> _Task:
    """A long list of words, ten of them ten times as often as all others: which ten?

    RULER: cwe, in which the ten stand there 30 times and the others 3 times. A word is here a single token of
    the vocabulary, so that the list fits exactly (some are only parts of words, and one or two of the others
    may be there once less). Where the vocabulary has too few words for the length, all stand there more
    often, in the same proportion. There is no haystack: the list is all of it.
    """
    head, question = "Words:\n", "\n\nThe ten words that are most common in the list above are"
    first, last, words = tokenizer.encode(head), plain(tokenizer, question), _words(tokenizer)
    room = length - len(first) - len(last)
    least = _COMMON * (_OFTEN + _SELDOM)
    if room < least or len(words) < 2 * _COMMON:
        raise InputError(
            f"Counting words takes {least + length - room} tokens or more, and {2 * _COMMON} words in the "
            f"vocabulary; these are {length} and {len(words)}."
        )
    others = min(len(words) - _COMMON, -(-(room - _COMMON * _OFTEN) // _SELDOM))
    often = max(_OFTEN, 10 * room // (10 * _COMMON + others))  # more where the vocabulary has too few others
    drawn = chance.sample(words, _COMMON + others)
    common = drawn[:_COMMON] * often
    listed = common + [drawn[_COMMON + number % others] for number in range(room - len(common))]
    chance.shuffle(listed)
    truth = tuple(tokenizer.decode([id]).strip() for id in drawn[:_COMMON])
    return first + listed + last, question, truth


def _needles(
    tokenizer: TaskTokenizer, haystack: Haystack, length: int, chance: random.Random, keys: int
) -> _Task:
    """Numbers of `keys` names, of which one is asked for."""
    names, numbers = _names(chance, keys), _numbers(chance, keys)
    facts = [_FACT.format(name=name, number=number) for name, number in zip(names, numbers, strict=True)]
    needles = [Needle(fact, chance.uniform(0, 100)) for fact in facts]
    question, start = _ONE.format(name=names[0]), chance.randrange(len(haystack.ids))
    return assemble(tokenizer, length, _HEAD, haystack, start, needles, question), question, (numbers[0],)


def _names(chance: random.Random, count: int) -> list[str]:
    """Made-up names, such as "Bafiko"."""
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = (chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(3))
        names["".join(syllables).capitalize()] = None
    return list(names)


def _numbers(chance: random.Random, count: int) -> list[str]:
    """Different numbers of five digits."""
    return [str(number) for number in chance.sample(range(10_000, 100_000), count)]


def _words(tokenizer: TaskTokenizer) -> list[int]:
    """The tokens that are a space and three to ten small English letters."""
    found = []
    for id in range(tokenizer.vocab_size):
        with suppress(TokenizerError):  # some vocabularies have gaps
            if re.fullmatch(rb" [a-z]{3,10}", tokenizer.token_bytes(id)):
                found.append(id)
    return found


TASKS: dict[str, Callable[[TaskTokenizer, Haystack, int, random.Random], _Task]] = {
    "single needle": single_needle,
    "several keys": several_keys,
    "several values": several_values,
    "variable tracking": variable_tracking,
    "common words": common_words,
}
