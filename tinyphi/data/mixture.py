"""What a model reads when: sources mixed by weight, phase after phase, and resumed at the very document.

Phi-3 was trained in two phases: first mostly web text for knowledge and language, then a harder filtered web
with synthetic text for reasoning (arXiv 2404.14219, sec. 2). A phase has a budget of tokens and a weight for
each source. Nothing is drawn at random: the next document comes from the source that is furthest behind its
share of what the phase has read so far. So after every document each source is within about one document of
its weight, and the state is a few numbers.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tinyphi.data.reading import Document, documents, text_files
from tinyphi.errors import InputError


@dataclass(frozen=True)
class Phase:
    """A part of the training: its budget of tokens, and the weight of each source by name."""

    name: str
    tokens: int
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.tokens < 1 or not self.weights or min(self.weights.values()) <= 0:
            raise InputError(
                f"Phase {self.name!r} needs a budget of tokens and sources with weights above 0; leave out "
                f"a source that it does not read."
            )


class Drawn(NamedTuple):
    """A document, and from which source and for which phase; epoch counts from 1."""

    document: Document
    source: str
    phase: str
    epoch: int


@dataclass
class _Place:
    """How far a source has been read, over all phases."""

    epoch: int = 1
    file: int = 0
    end: int = 0
    documents: int = 0  # in this epoch


@dataclass
class _State:
    phase: int = 0
    read: dict[str, int] = field(default_factory=dict)  # tokens in this phase, by source
    places: dict[str, _Place] = field(default_factory=dict)


def rough_tokens(text: str) -> int:
    """Tokens of an English text, as a rule of thumb: a fourth of its bytes, at least one."""
    return max(1, len(text.encode("utf-8", "replace")) // 4)


class Mixture:
    """Documents of several sources in turn.

    sources: for each name, files or folders of .txt and .jsonl files; read in order, and again from the
    start, with a warning, when they run out. count: the tokens of a text; give it your tokenizer's. Raises
    InputError for a source that has no file, and for a phase with a source that is not there.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[str | Path]],
        phases: Sequence[Phase],
        count: Callable[[str], int] = rough_tokens,
    ) -> None:
        self._files = {name: text_files(paths) for name, paths in sources.items()}
        self._phases, self._count = list(phases), count
        for phase in phases:
            for name in phase.weights.keys() - self._files.keys():
                raise InputError(
                    f"Phase {phase.name!r} reads {name!r}; the sources are {', '.join(sources)}."
                )
        self._state = _State(places={name: _Place() for name in self._files})
        self._readers: dict[str, Iterator[Document]] = {}

    def __iter__(self) -> Iterator[Drawn]:
        """Documents until the last budget is spent; the last one of a phase may exceed it."""
        while self._state.phase < len(self._phases):
            phase = self._phases[self._state.phase]
            while (total := sum(self._state.read.values())) < phase.tokens:
                name = self._furthest_behind(phase, total)
                document = self._next(name)
                read = self._state.read
                read[name] = read.get(name, 0) + self._count(document.text)
                yield Drawn(document, name, phase.name, self._state.places[name].epoch)
            self._state.phase += 1
            self._state.read = {}

    def state(self) -> dict[str, Any]:
        """Where the mixture stands after the last document, for `restore` and for a JSON file."""
        return asdict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Raises InputError if it belongs to other sources."""
        try:
            places = {name: _Place(**place) for name, place in state["places"].items()}
            self._state = _State(int(state["phase"]), dict(state["read"]), places)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"This is no state of a mixture: {error!r}.") from error
        if places.keys() != self._files.keys():
            raise InputError(
                f"The state is of {', '.join(places)}; the sources are {', '.join(self._files)}."
            )
        self._readers = {}

    def _furthest_behind(self, phase: Phase, total: int) -> str:
        """The source that has read least for its weight; of equals, the first named."""
        whole = sum(phase.weights.values())

        def behind(name: str) -> float:
            return total * phase.weights[name] / whole - self._state.read.get(name, 0)

        return max(phase.weights, key=behind)

    def _next(self, name: str) -> Document:
        place = self._state.places[name]
        while True:
            if name not in self._readers:
                self._readers[name] = documents(self._files[name][place.file], place.end)
            document = next(self._readers[name], None)
            if document is not None:
                place.end, place.documents = document.end, place.documents + 1
                return document
            del self._readers[name]
            place.file, place.end = place.file + 1, 0
            if place.file == len(self._files[name]):
                self._start_again(name, place)

    def _start_again(self, name: str, place: _Place) -> None:
        if not place.documents:
            raise InputError(f"Source {name!r} has no document.")
        place.epoch, place.file, place.documents = place.epoch + 1, 0, 0
        warnings.warn(
            f"Source {name!r} has run out and is read again, for the {place.epoch}. time; repeated text "
            f"teaches less and less. Lower its weight or add to it.",
            stacklevel=4,
        )
