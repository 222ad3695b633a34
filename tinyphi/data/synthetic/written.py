"""Texts that a model writes after a plan, with where each comes from; a run can be interrupted.

Writing takes hours, checking seconds. So every reply is kept as it came, and all checks are made afterwards:

    plan.json        what this folder is for: the plan, the model, the version
    written.jsonl    one line for each cell, in the plan's order; it is its own checkpoint
    kept.jsonl       the lines that nothing is wrong with, and that are not like an earlier one
    rejected.jsonl   the others, each with its reason
    report.json      how many are kept or rejected for which reason, and how various they are

A line has the text, what the model was told, and its provenance: all that is needed to write it again. Some
cells are written at once, always the same ones. They share a pass through the model, and the last digits of
its logits depend on who shares it; so after an interruption a batch is written as a whole or not at all.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

import tinyphi
from tinyphi.data.dedup import clusters, signatures
from tinyphi.data.pages import Pages
from tinyphi.data.synthetic.checks import FORMS, Reply, first_fault
from tinyphi.data.synthetic.diversity import distinct, opening_entropy
from tinyphi.data.synthetic.plan import Cell, Plan
from tinyphi.errors import InputError
from tinyphi.files import noted, write_text
from tinyphi.generation.chat import ChatTokenizer
from tinyphi.generation.decode import generate
from tinyphi.generation.sampling import Choice, Sampler
from tinyphi.model.fingerprint import fingerprint
from tinyphi.model.transformer import Phi3

Row = dict[str, Any]
"""A line of a file: id, text, prompt, form, provenance."""

_BATCH = 16  # cells that are written at once
_DUPLICATE = "like an earlier text"


class Writer(Protocol):
    """Who writes. origin: what the provenance says of it."""

    origin: dict[str, Any]

    def __call__(self, cells: Sequence[Cell], plan: Plan) -> list[tuple[str, int, int]]:
        """For each cell the text, and the tokens of what was told and of what was said."""
        ...


@dataclass(frozen=True)
class SeededRows(Sampler):
    """A `Sampler` in which each row of a batch draws from a generator of its own."""

    generators: tuple[torch.Generator, ...] = ()

    def choose(self, logits: Tensor, previous: Tensor, generator: torch.Generator) -> Choice:
        """logits (b v) float32, previous (b s) → a `Choice`; one generator of `generators` for each row."""
        choice = super().choose(logits, previous, generator)
        chances = choice.logits.masked_fill(~choice.kept, float("-inf")).softmax(dim=-1)
        drawn = [
            torch.multinomial(row, 1, generator=own)
            for row, own in zip(chances, self.generators, strict=True)
        ]
        return choice._replace(ids=torch.cat(drawn))


class ModelWriter:
    """A chat model that answers each cell's message. name: what the provenance calls it."""

    def __init__(self, model: Phi3, tokenizer: ChatTokenizer, name: str) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.origin = {"model": name, "fingerprint": fingerprint(model)}

    def __call__(self, cells: Sequence[Cell], plan: Plan) -> list[tuple[str, int, int]]:
        device = self._model.norm.weight.device
        generators = tuple(torch.Generator(device).manual_seed(cell.seed) for cell in cells)
        told = [self._tokenizer.encode_chat([{"role": "user", "content": cell.message}]) for cell in cells]
        said = generate(
            self._model,
            told,
            tokenizer=self._tokenizer,
            max_new_tokens=plan.max_new_tokens,
            sampler=SeededRows(**plan.sampling, generators=generators),
        )
        return [
            (text, len(before), len(after))
            for text, before, after in zip(said.texts, told, said.ids, strict=True)
        ]


def write(plan: Plan, writer: Writer, to: str | Path) -> dict[str, Any]:
    """Write all cells into a folder and check them; the report. Run it again after an interruption.

    Raises InputError if the folder holds the work of another plan, model or version, or is damaged.
    """
    to = Path(to)
    _agree(to, plan, writer)
    _write_missing(plan, writer, to / "written.jsonl")
    rows = list(_rows(to / "written.jsonl"))
    reasons = faults(rows)
    chosen = {
        "kept": [row for row, reason in zip(rows, reasons, strict=True) if not reason],
        "rejected": [row | {"reason": reason} for row, reason in zip(rows, reasons, strict=True) if reason],
    }
    for name, those in chosen.items():
        save_rows(those, to / f"{name}.jsonl")
    found = report(chosen["kept"], [row["reason"] for row in chosen["rejected"]])
    write_text(to / "report.json", json.dumps(found, indent=1))
    return found


def save_rows(rows: Iterable[Row], path: Path) -> None:
    """Write rows to a file, one line of JSON each; the file is whole or as it was before."""
    scratch = path.with_name(f"{path.name}.partial")
    try:
        with scratch.open("w", encoding="utf-8") as out:
            out.writelines(map(_line, rows))
        os.replace(scratch, path)
    except OSError as error:
        raise InputError(f"The texts cannot be written to {path} ({error}). Name another file.") from error


def faults(rows: Sequence[Row]) -> list[str | None]:
    """What is wrong with each text by the checks of its form, or as a near-duplicate; None: it is kept."""
    reasons = []
    for row in rows:
        own = row["provenance"]
        reply = Reply(row["text"], row["prompt"], own["tokens"] < own["max_new_tokens"])
        reasons.append(first_fault(reply, FORMS[row["form"]]))
    good = [place for place, reason in enumerate(reasons) if reason is None]
    if good:
        first = clusters(signatures(Pages([rows[place]["text"] for place in good])))
        for place, like in zip(good, first.tolist(), strict=True):
            if good[like] != place:
                reasons[place] = f"{_DUPLICATE}: {rows[good[like]]['id']}"
    return reasons


def report(kept: Sequence[Row], reasons: Sequence[str]) -> dict[str, Any]:
    """Counts by the first words of a reason, before its colon; how various the kept texts are."""
    texts = [row["text"] for row in kept]
    return {
        "texts": len(kept) + len(reasons),
        "kept": len(kept),
        "rejected": dict(Counter(reason.partition(":")[0] for reason in reasons).most_common()),
        "tokens kept": sum(row["provenance"]["tokens"] for row in kept),
        "distinct 3-grams": round(distinct(texts), 4) if texts else None,
        "bits in the first 3 words": round(opening_entropy(texts), 2),
    }


def sample() -> list[Row]:
    """What SmolLM2-135M-Instruct wrote after the package's plan, unchecked: `written.jsonl` of that run."""
    return list(_rows(files("tinyphi.data.synthetic") / "sample.jsonl"))


def _agree(to: Path, plan: Plan, writer: Writer) -> None:
    """Note what this folder is for, or check that it is for the same."""
    meant = json.dumps(
        {"plan": plan.as_json(), **writer.origin, "tinyphi": tinyphi.__version__},
        indent=1,
        ensure_ascii=False,
    )
    if not noted(to / "plan.json", meant):
        raise InputError(
            f"{to} holds texts of another plan, model or version; name another folder, or remove it."
        )


def _write_missing(plan: Plan, writer: Writer, path: Path) -> None:
    """Append the batches that are not there; what an interruption left of one is cut off before."""
    cells = list(plan.cells())
    with path.open("a+b") as out:
        out.seek(0)
        lines = [line for line in out.read().splitlines(keepends=True) if line.endswith(b"\n")]
        done = len(cells) if len(lines) >= len(cells) else len(lines) // _BATCH * _BATCH
        out.truncate(sum(map(len, lines[:done])))
        with tqdm(total=len(cells), initial=done, unit="text", desc="written", disable=None) as bar:
            for start in range(done, len(cells), _BATCH):
                batch = cells[start : start + _BATCH]
                replies = writer(batch, plan)
                rows = [_row(cell, plan, writer, *one) for cell, one in zip(batch, replies, strict=True)]
                out.write("".join(map(_line, rows)).encode("utf-8"))
                out.flush()
                bar.update(len(batch))


def _row(cell: Cell, plan: Plan, writer: Writer, text: str, told: int, said: int) -> Row:
    provenance = {
        **writer.origin,
        "tinyphi": tinyphi.__version__,
        "prompt": cell.prompt.id,
        "topic": cell.topic,
        "persona": cell.persona,
        "seed": cell.seed,
        "sampling": plan.sampling,
        "max_new_tokens": plan.max_new_tokens,
        "prompt_tokens": told,
        "tokens": said,
    }
    form = cell.prompt.form
    return {
        "id": cell.id,
        "text": text.strip(),
        "prompt": cell.message,
        "form": form,
        "provenance": provenance,
    }


def _rows(path: Any) -> Iterator[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line:
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}, is damaged: {error}. Remove it and the lines below."
                ) from error


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
