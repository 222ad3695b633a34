"""Trace: every intermediate of a forward pass, by name.

Pass one in, `model(ids, trace=trace)`, and look things up afterwards: `trace["layers.3.attention.weights"]`.
A trace is an argument like any other; there are no hooks.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor


class Trace(Mapping[str, Tensor]):
    """An ordered mapping from name to tensor, in the order of computation. Recording copies nothing.

    `axes(name)` gives the letters of a tensor's axes, for example "b h t s"; `events` lists what happened
    besides arithmetic, such as a cache that had to be computed again.
    """

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}
        self._axes: dict[str, str] = {}
        self._prefix = ""
        self.events: list[str] = []

    def record(self, name: str, tensor: Tensor, axes: str) -> None:
        """Keep `tensor` under `name`, prefixed with where this trace stands."""
        self._tensors[self._prefix + name] = tensor
        self._axes[self._prefix + name] = axes

    def note(self, event: str) -> None:
        """Keep a sentence about something that happened besides arithmetic."""
        self.events.append(event)

    def at(self, place: str) -> "Trace":
        """The same trace seen from one part of the model: names recorded there begin with `place.`."""
        part = Trace()
        part._tensors, part._axes, part.events = self._tensors, self._axes, self.events
        part._prefix = f"{self._prefix}{place}."
        return part

    def axes(self, name: str) -> str:
        """The letters of the axes of `name`; the model package's docstring says what they stand for."""
        return self._axes[self._known(name)]

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._known(name)]

    def _known(self, name: str) -> str:
        if name not in self._tensors:
            last = name.rsplit(".", 1)[-1]
            similar = [known for known in self._tensors if known.endswith(last)][:4]
            hint = f"Similar names: {', '.join(similar)}." if similar else "list(trace) shows all names."
            raise KeyError(f"the trace has no {name!r}. {hint}")
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __bool__(self) -> bool:
        """A trace is true even while it is empty; `NO_TRACE` is the false one."""
        return True

    def __repr__(self) -> str:
        return f"Trace({len(self)} tensors, {len(self.events)} events)"


class _NoTrace(Trace):
    """What the model passes around when nobody looks: it is false and keeps nothing."""

    def record(self, name: str, tensor: Tensor, axes: str) -> None:
        pass

    def note(self, event: str) -> None:
        pass

    def at(self, place: str) -> Trace:
        return self

    def __bool__(self) -> bool:
        return False


NO_TRACE = _NoTrace()
