"""Ask a model the questions of a benchmark, and mark its answers.

    rows → prompts (solved examples + question) → log-probabilities of the choices, or a text → scores

Every answer is kept in an `AnswerStore` as soon as it is there, so Ctrl-C loses nothing but a batch.
"""

import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from tqdm import tqdm

from tinyphi.errors import InputError
from tinyphi.evaluate.likelihood import (
    Likelihood,
    Request,
    encode_pair,
    first_id,
    log_likelihoods,
    windows,
    without_bos,
)
from tinyphi.evaluate.results import Answer, Result, Sensitivity
from tinyphi.evaluate.store import AnswerStore
from tinyphi.evaluate.tasks.base import (
    ChatTask,
    ChoiceTask,
    CodeTask,
    Question,
    Row,
    Score,
    Task,
    TextSurpriseTask,
    TextTask,
    Wording,
)
from tinyphi.evaluate.tasks.mt_bench import mark_in
from tinyphi.evaluate.tasks.perplexity import text_scores
from tinyphi.generation.chat import chat
from tinyphi.generation.decode import generate
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer

Judge = Callable[[str], str]  # what is asked about a reply → a verdict that ends with a mark, "[[7]]"
_TOKENS = 8192  # of the prompts that are answered at once
_WORTH_A_BAR = 20  # requests
Name = TypeVar("Name", bound=Hashable)
Marked = tuple[str | tuple[float, ...], dict[str, Score]]  # what was said, and its scores


class Harness:
    """A model under examination.

    store: where answers are kept (None: in memory). judge: marks the replies of MT-Bench. run_code: whether
    programs that the model wrote may be run, in the sandbox. context: tokens that the model reads at most
    (None: as its config says); of longer prompts the beginning is cut.
    """

    def __init__(
        self,
        model: Phi3,
        tokenizer: Tokenizer,
        *,
        store: AnswerStore | None = None,
        judge: Judge | None = None,
        run_code: bool = False,
        context: int | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.store = AnswerStore(None, model) if store is None else store
        self.judge, self.run_code = judge, run_code
        self.context = model.config.max_position_embeddings if context is None else context

    def evaluate(
        self,
        task: Task,
        rows: Sequence[Row],
        *,
        examples: Sequence[Row] | None = None,
        wording: str | None = None,
        shots: int | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> Result:
        """Ask the task's questions about the rows.

        examples: rows to choose solved examples from, the first ones of the same group; None: from `rows`,
            where a question is never its own example. wording: by name (None: the task's first). shots: how
            many solved examples (None: as the wording says). limit: so many rows, drawn with `seed`.
        Raises InputError for a wording that the task does not have, for too few rows or examples, for code
        without `run_code` and conversations without `judge`.
        """
        name = next(iter(task.wordings)) if wording is None else wording
        asked = _wording(task, name)
        shots = asked.shots if shots is None else shots
        places = sample(len(rows), limit, seed)
        if not places:
            raise InputError(f"There are no rows to ask about in {task.name}.")
        chosen = [rows[place] for place in places]
        pool = task.examples or (rows if examples is None else examples)
        with _layout_of(task):
            prompts = [asked.prompts(row, choose_examples(task, pool, row, shots)) for row in chosen]
        marked = self._mark(task, asked, chosen, prompts)
        groups = [None if task.group is None else str(row[task.group]) for row in chosen]
        answers = (Answer(*one) for one in zip(places, groups, *zip(*marked, strict=True), strict=True))
        return Result(task.name, name, shots, tuple(answers))

    def sensitivity(self, task: Task, rows: Sequence[Row], **options: Any) -> Sensitivity:
        """The same rows in every wording of the task. options: as for `evaluate`, but for `wording`."""
        return Sensitivity(
            {name: self.evaluate(task, rows, wording=name, **options) for name in task.wordings}
        )

    def likelihoods(self, requests: Sequence[Request]) -> list[Likelihood]:
        """Score continuations, those that are known from the store."""
        keys = [self.store.key("likelihood", request, self.context) for request in requests]
        known = self.store.known(keys)
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        names = list(missing)
        batches = log_likelihoods(self.model, list(missing.values()), self.context)
        with tqdm(total=len(names), desc="answers", leave=False, disable=_bar(names)) as bar:
            for batch in batches:
                found = [(names[place], likelihood) for place, likelihood in batch]
                self.store.keep(found)
                known.update(found)
                bar.update(len(found))
        return [Likelihood(*known[key]) for key in keys]

    def replies(self, prompts: Sequence[Sequence[int]], stops: Sequence[str], most: int) -> list[str]:
        """What the model writes after each prompt of ids, greedily, up to a stop string or `most` tokens."""
        cut = shortened(dict(enumerate(prompts)), self.context, most)
        keys = [self.store.key("reply", prompt, list(stops), most) for prompt in cut.values()]
        known = self.store.known(keys)
        missing = {key: cut[place] for place, key in enumerate(keys) if key not in known}
        with tqdm(total=len(missing), desc="replies", leave=False, disable=_bar(missing)) as bar:
            for group in by_length(missing, most):
                said = generate(
                    self.model,
                    list(group.values()),
                    tokenizer=self.tokenizer,
                    max_new_tokens=most,
                    stop_strings=stops,
                )
                found = list(zip(group, said.texts, strict=True))
                self.store.keep(found)
                known.update(found)
                bar.update(len(found))
        return [known[key] for key in keys]

    def _mark(
        self, task: Task, wording: Wording, rows: Sequence[Row], prompts: Sequence[list[str]]
    ) -> list[Marked]:
        if isinstance(task, ChoiceTask):
            return self._choices(task, wording, rows, prompts)
        if isinstance(task, TextSurpriseTask):
            return self._surprises(wording, rows)
        if isinstance(task, ChatTask):
            return self._conversations(task, rows)
        if isinstance(task, CodeTask) and not self.run_code:
            raise InputError(
                f"{task.name} runs programs that the model wrote. That is off unless asked for: "
                "run_code=True, or --run-code on the command line."
            )
        assert isinstance(task, (TextTask, CodeTask))
        ids = [self.tokenizer.encode(texts[0]) for texts in prompts]
        replies = self.replies(ids, wording.stops, task.most)
        mark = task.mark if isinstance(task, TextTask) else partial(self._run, task)
        return [(reply, mark(row, reply)) for row, reply in zip(rows, replies, strict=True)]

    def _choices(
        self, task: ChoiceTask, wording: Wording, rows: Sequence[Row], prompts: Sequence[list[str]]
    ) -> list[Marked]:
        questions = [wording.ask(row) for row in rows]
        requests = [
            encode_pair(self.tokenizer, text, wording.delimiter + answer)
            for question, texts in zip(questions, prompts, strict=True)
            for text, answer in Question(tuple(texts), question.answers, question.right).pairs()
        ]
        likelihoods = iter(self.likelihoods(requests))
        marked: list[Marked] = []
        for row, question in zip(rows, questions, strict=True):
            said = [next(likelihoods) for _ in range(question.choices)]
            marked.append((tuple(one.log_probability for one in said), task.mark(row, question, said)))
        return marked

    def _surprises(self, wording: Wording, rows: Sequence[Row]) -> list[Marked]:
        texts = [wording.ask(row).answers[0] for row in rows]
        first = first_id(self.tokenizer)
        cut = [list(windows(without_bos(self.tokenizer, text), first, self.context)) for text in texts]
        likelihoods = iter(self.likelihoods([window for text in cut for window in text]))
        marked: list[Marked] = []
        for text, parts in zip(texts, cut, strict=True):
            total = sum(next(likelihoods).log_probability for _ in parts)
            marked.append(((total,), text_scores(text, total)))
        return marked

    def _conversations(self, task: ChatTask, rows: Sequence[Row]) -> list[Marked]:
        """All first messages at once, then all second ones, each after the reply that it answers to."""
        if self.judge is None:
            raise InputError(
                f"{task.name} needs a judge: --judge MODEL, or judge=… from a text to a verdict."
            )
        talks: list[list[tuple[str, str]]] = [[] for _ in rows]
        marks: list[list[float]] = [[] for _ in rows]
        turns = [task.turns(row) for row in rows]
        for turn in range(max(map(len, turns))):
            places = [place for place, messages in enumerate(turns) if turn < len(messages)]
            prompts = [self._chat(talks[place], turns[place][turn]) for place in places]
            for place, reply in zip(places, self.replies(prompts, (), task.most), strict=True):
                talks[place].append((turns[place][turn], reply.strip()))
                mark = mark_in(self.judge(task.judge_prompt(rows[place], talks[place])))
                marks[place] += [] if mark is None else [mark]
        if not any(marks):
            raise InputError('The judge gave no mark. Its verdicts must end with one, such as "[[7]]".')
        return [
            ("\n\n".join(reply for _, reply in talk), {"judged": Score(sum(given), len(given))})
            for talk, given in zip(talks, marks, strict=True)
        ]

    def _chat(self, talk: Sequence[tuple[str, str]], message: str) -> list[int]:
        messages = []
        for said, reply in talk:
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        return self.tokenizer.encode_chat([*messages, {"role": "user", "content": message}])

    def _run(self, task: CodeTask, row: Row, reply: str) -> dict[str, Score]:
        from tinyphi.evaluate.sandbox import run_python

        run = run_python(task.program(row, reply), timeout=task.seconds, run_code=self.run_code)
        return {"pass@1": Score(float(run.ok))}


def model_judge(model: Phi3, tokenizer: Tokenizer, most: int = 512) -> Judge:
    """Let a model be the judge. It should be a far better one than the one that it judges."""
    return lambda prompt: chat(model, tokenizer, prompt, max_new_tokens=most)


def sample(count: int, limit: int | None, seed: int) -> list[int]:
    """The places of `limit` of `count` rows, drawn at random, in their order; None: all.

    Not the first ones: data is often sorted, MMLU's by subject. Raises InputError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; ask about at least one row, or about all with None.")
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(random.Random(seed).sample(range(count), limit))


def choose_examples(task: Task, pool: Sequence[Row], row: Row, shots: int) -> list[Row]:
    """The first `shots` rows of the row's group that are not the row itself.

    Raises InputError if there are not so many. Source: lm-eval's sampler `first_n`.
    """
    if shots < 0:
        raise InputError(f"shots is {shots}; it must be 0 or more.")
    chosen: list[Row] = []
    for example in pool if shots else ():
        alike = task.group is None or task.examples or example[task.group] == row[task.group]
        if alike and example != row:
            chosen.append(example)
        if len(chosen) == shots:
            return chosen
    if shots:
        raise InputError(
            f"{task.name} should be asked after {shots} solved examples, and there are only {len(chosen)}. "
            "Give more examples, or fewer shots."
        )
    return chosen


@contextmanager
def _layout_of(task: Task) -> Iterator[None]:
    """What goes wrong with a row becomes one sentence about its layout."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"A row is not in the layout of {task.name}: {type(error).__name__} {error}. The layout is "
            "described at the top of the task's file in tinyphi/evaluate/tasks/."
        ) from error


def _wording(task: Task, name: str) -> Wording:
    if name not in task.wordings:
        raise InputError(f"{task.name} has no wording {name!r}; it has {', '.join(task.wordings)}.")
    return task.wordings[name]


def shortened(prompts: Mapping[Name, Sequence[int]], context: int, most: int) -> dict[Name, list[int]]:
    """Prompts with room for a reply of `most` tokens: where one is too long, its beginning is cut."""
    if most >= context:
        raise InputError(f"A reply of {most} tokens leaves no room for a prompt: the model reads {context}.")
    return {name: list(prompt[most - context :]) for name, prompt in prompts.items()}


def by_length(prompts: Mapping[Name, list[int]], most: int) -> list[dict[Name, list[int]]]:
    """Prompts of similar length, the longest first, in groups that are answered at once."""
    groups: list[dict[Name, list[int]]] = []
    longest = 0
    for name, prompt in sorted(prompts.items(), key=lambda item: -len(item[1])):
        if not groups or (len(groups[-1]) + 1) * longest > _TOKENS:
            groups.append({})
            longest = len(prompt) + most
        groups[-1][name] = prompt
    return groups


def _bar(requests: Sized) -> bool | None:
    """tqdm's `disable`: no bar for little work, and None, which means none unless it is in a terminal."""
    return True if len(requests) < _WORTH_A_BAR else None
