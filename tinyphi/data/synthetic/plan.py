"""What a model is asked to write: prompts × topics × personas × seeds, each combination a cell of a grid.

A model that is asked the same thing a hundred times writes a few texts a hundred times. What it writes
becomes various when what it is asked does. TinyStories named words that had to occur (Eldan and Li 2023,
arXiv 2305.07759, sec. 2); Persona Hub says for whom or by whom a text is (Ge et al. 2024, arXiv 2406.20094).
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyphi.data.synthetic.checks import FORMS
from tinyphi.errors import InputError
from tinyphi.generation.sampling import Sampler


@dataclass(frozen=True)
class Prompt:
    """A way to ask.

    text: with {topic} and {persona}, or without; each of them that is there multiplies the cells.
    form: one of `FORMS`, which says how a reply is checked.
    seeds: how often everything is asked, with seeds from 0.
    """

    id: str
    text: str
    form: str = "prose"
    topics: tuple[str, ...] = ()
    seeds: int = 1


@dataclass(frozen=True)
class Cell:
    """One combination, which becomes one text."""

    prompt: Prompt
    topic: str | None
    persona: str | None
    seed: int

    @property
    def id(self) -> str:
        return " / ".join(map(str, (self.prompt.id, self.topic or "–", self.persona or "–", self.seed)))

    @property
    def message(self) -> str:
        """What the model is told."""
        return self.prompt.text.replace("{topic}", self.topic or "").replace("{persona}", self.persona or "")


@dataclass(frozen=True)
class Plan:
    """A whole grid. sampling: the arguments of a `Sampler`, without its seed, which belongs to the cell.

    Raises InputError for two prompts of one id, a form that there is not, a place in a prompt that nothing
    fills, or settings that no sampler takes.
    """

    prompts: tuple[Prompt, ...]
    personas: tuple[str, ...]
    sampling: dict[str, Any]
    max_new_tokens: int

    def __post_init__(self) -> None:
        if len({prompt.id for prompt in self.prompts}) < len(self.prompts) or not self.prompts:
            raise InputError("A plan needs prompts, and each needs an id of its own.")
        for prompt in self.prompts:
            if prompt.form not in FORMS:
                raise InputError(f"{prompt.id} has the form {prompt.form!r}; there are {', '.join(FORMS)}.")
            for place, values in (("{topic}", prompt.topics), ("{persona}", self.personas)):
                if place in prompt.text and not values:
                    raise InputError(f"{prompt.id}: nothing is there to stand for {place}; list some.")
        if "seed" in self.sampling:
            raise InputError("The sampling of a plan has no seed: each cell has its own.")
        try:
            Sampler(**self.sampling)
        except TypeError as error:
            raise InputError(f"No sampler takes the sampling {self.sampling}: {error}.") from error
        if len({cell.id for cell in self.cells()}) < sum(1 for _ in self.cells()):
            raise InputError("A topic or persona is listed twice; each cell must be another one.")

    def cells(self) -> Iterator[Cell]:
        """All cells, prompt by prompt: the order in which they are written."""
        for prompt in self.prompts:
            topics = prompt.topics if "{topic}" in prompt.text else (None,)
            personas = self.personas if "{persona}" in prompt.text else (None,)
            for topic in topics:
                for persona in personas:
                    yield from (Cell(prompt, topic, persona, seed) for seed in range(prompt.seeds))

    def as_json(self) -> dict[str, Any]:
        """The form in which a plan stands in a file."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Plan":
        """The plan in a JSON file; None: the one of the package, of which `written.sample` is the outcome.

        Raises InputError for a file that cannot be read, or holds no plan.
        """
        source = files("tinyphi.data.synthetic") / "plan.json" if path is None else Path(path)
        try:
            plan = json.loads(source.read_text(encoding="utf-8"))
            prompts = [Prompt(**{**row, "topics": tuple(row.get("topics", ()))}) for row in plan["prompts"]]
            return cls(**{**plan, "prompts": tuple(prompts), "personas": tuple(plan["personas"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            names = ", ".join(field.name for field in fields(cls))
            raise InputError(
                f"{path} cannot be read as a plan, a JSON object with {names}: {error!r}. "
                "tinyphi/data/synthetic/plan.json shows one."
            ) from error
