"""A run of the grid: interrupted or killed it ends as if nothing had happened; each line says its source."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import tinyphi
from tinyphi.data import command
from tinyphi.data.reading import documents
from tinyphi.data.synthetic import written
from tinyphi.data.synthetic.plan import Plan, Prompt
from tinyphi.data.synthetic.written import ModelWriter, SeededRows, faults, sample, write
from tinyphi.errors import InputError
from tinyphi.generation.decode import generate
from tinyphi.generation.sampling import Sampler

PLAN = Plan(
    prompts=(
        Prompt("story", "Tell a story.", seeds=20),
        Prompt("lesson", "Explain {topic} to {persona}.", topics=("rain", "snow", "wind"), seeds=2),
    ),
    personas=("a nurse", "a judge"),
    sampling={"temperature": 0.9, "top_p": 0.95},
    max_new_tokens=60,
)
FILES = ("plan.json", "written.jsonl", "kept.jsonl", "rejected.jsonl", "report.json")
TALE = (
    "On day {0} a fox numbered {0} met the {1} hen near a mill, and both of them spoke of the {2} that they "
    "had seen in the village of {1} {2}, where {0} people live and where all of the {1} bread is eaten."
)


def tale(number):
    colours, things = "red blue green grey".split(), "snow mice clocks boats storms".split()
    return TALE.format(number, colours[number % 4], things[number % 5])


class Scripted:
    """Writes what it is told to: by default a tale of its own for each cell."""

    def __init__(self, planted=None, stop=None):
        self.origin = {"model": "scripted", "fingerprint": "none"}
        self.planted, self.stop, self.batches = planted or {}, stop, 0

    def __call__(self, cells, plan):
        self.batches += 1
        if self.batches == self.stop:
            raise KeyboardInterrupt
        numbers = {cell.id: number for number, cell in enumerate(plan.cells())}
        return [(self.planted.get(cell.id, tale(numbers[cell.id])), 5, 40) for cell in cells]


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_good_is_kept_and_the_rest_has_its_reason(tmp_path):
    planted = {
        "story / – / – / 3": tale(0),
        "story / – / – / 4": tale(1).replace("a mill", "the mill"),
        "story / – / – / 5": "As an AI language model I do not tell stories.",
        "lesson / rain / a nurse / 1": "Explain rain to a nurse. " + tale(50),
    }
    report = write(PLAN, Scripted(planted), tmp_path)
    kept, rejected = rows_of(tmp_path / "kept.jsonl"), rows_of(tmp_path / "rejected.jsonl")
    cells = [cell.id for cell in PLAN.cells()]
    assert [row["id"] for row in kept] == [cell for cell in cells if cell not in planted]
    assert {row["id"]: row["reason"] for row in rejected} == {
        "story / – / – / 3": "like an earlier text: story / – / – / 0",
        "story / – / – / 4": "like an earlier text: story / – / – / 1",
        "story / – / – / 5": "refuses: 'As an AI'",
        "lesson / rain / a nurse / 1": "echoes the prompt: 'explain rain to a nurse'",
    }
    assert report["texts"] == 32 and report["kept"] == 28 and report["tokens kept"] == 28 * 40
    assert report["rejected"] == {"like an earlier text": 2, "refuses": 1, "echoes the prompt": 1}
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    assert [document.text for document in documents(tmp_path / "kept.jsonl")] == [row["text"] for row in kept]


def test_a_line_says_all_that_is_needed_to_write_it_again(tmp_path):
    write(PLAN, Scripted(), tmp_path)
    row = {row["id"]: row for row in rows_of(tmp_path / "kept.jsonl")}["lesson / snow / a judge / 1"]
    assert row["prompt"] == "Explain snow to a judge." and row["form"] == "prose"
    assert row["provenance"] == {
        "model": "scripted",
        "fingerprint": "none",
        "tinyphi": tinyphi.__version__,
        "prompt": "lesson",
        "topic": "snow",
        "persona": "a judge",
        "seed": 1,
        "sampling": {"temperature": 0.9, "top_p": 0.95},
        "max_new_tokens": 60,
        "prompt_tokens": 5,
        "tokens": 40,
    }


@pytest.mark.parametrize("rest", [b"", b'{"id": "story / \xe2', b'{"id": "whole", "text": ""}\n', b"\n" * 2])
@pytest.mark.parametrize("stop", [1, 2])
def test_an_interruption_changes_nothing(tmp_path, stop, rest):
    write(PLAN, Scripted(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        write(PLAN, Scripted(stop=stop), tmp_path / "cut")
    assert not (tmp_path / "cut" / "kept.jsonl").exists()
    with (tmp_path / "cut" / "written.jsonl").open("ab") as out:
        out.write(rest)  # what a killed process may leave of a batch
    writer = Scripted()
    write(PLAN, writer, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert writer.batches == 3 - stop  # what is there is not written again
    write(PLAN, writer, tmp_path / "cut")
    assert writer.batches == 3 - stop


def test_a_batch_that_was_begun_is_written_again_as_a_whole(tmp_path):
    """Here the texts depend on who shares the batch, as the last digits of a model's logits do."""

    class ByPlace(Scripted):
        def __call__(self, cells, plan):
            return [(tale(place) + cells[0].id, 5, 40) for place, _ in enumerate(cells)]

    write(PLAN, ByPlace(), tmp_path)
    lines = (tmp_path / "written.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "written.jsonl").write_bytes(b"".join(lines[:18]))
    write(PLAN, ByPlace(), tmp_path)
    assert (tmp_path / "written.jsonl").read_bytes() == b"".join(lines)


def test_a_torn_line_does_not_complete_a_batch(tmp_path):
    write(PLAN, Scripted(), tmp_path)
    path = tmp_path / "written.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:15]) + lines[15][:-1])  # only the newline of the 16th line is missing
    write(PLAN, Scripted(), tmp_path)
    assert path.read_bytes() == whole


PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_written import PLAN, Scripted
from tinyphi.data.synthetic.written import write
class Slow(Scripted):
    def __call__(self, cells, plan):
        if self.batches:
            time.sleep(60)
        return super().__call__(cells, plan)
write(PLAN, Slow(), sys.argv[2])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_run_goes_on(tmp_path):
    write(PLAN, Scripted(), tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, os.path.dirname(__file__), str(tmp_path / "cut")]
    )
    path = tmp_path / "cut" / "written.jsonl"
    for _ in range(1200):
        if path.exists() and path.stat().st_size:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert len(rows_of(path)) == 16
    write(PLAN, Scripted(), tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_folder_is_for_one_plan_and_one_model(tmp_path):
    write(PLAN, Scripted(), tmp_path)
    other = Scripted()
    other.origin = {"model": "scripted", "fingerprint": "another"}
    fewer = Plan(PLAN.prompts[:1], PLAN.personas, PLAN.sampling, PLAN.max_new_tokens)
    for plan, writer in ((PLAN, other), (fewer, Scripted())):
        with pytest.raises(InputError, match="holds texts of another plan, model or version"):
            write(plan, writer, tmp_path)


def test_a_damaged_line_is_named(tmp_path):
    write(PLAN, Scripted(), tmp_path)
    path = tmp_path / "written.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([lines[0][:-1], *lines[1:]]), encoding="utf-8")
    with pytest.raises(InputError, match="line 1, is damaged"):
        write(PLAN, Scripted(), tmp_path)


@pytest.fixture(scope="module")
def writer(make_model, world_tokenizer):
    model = make_model(vocab_size=world_tokenizer.vocab_size, max_position_embeddings=256)
    return ModelWriter(model, world_tokenizer, "random")


SHORT = Plan(PLAN.prompts, PLAN.personas, PLAN.sampling, max_new_tokens=6)


def test_a_model_goes_on_as_if_nothing_had_happened(tmp_path, writer, monkeypatch):
    write(SHORT, writer, tmp_path / "whole")
    calls = []

    class Interrupted:
        origin = writer.origin

        def __call__(self, cells, plan):
            calls.append(cells)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return writer(cells, plan)

    with pytest.raises(KeyboardInterrupt):
        write(SHORT, Interrupted(), tmp_path / "cut")
    write(SHORT, writer, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    rows = rows_of(tmp_path / "whole" / "written.jsonl")
    assert len({row["text"] for row in rows[:20]}) == 20  # one prompt, twenty seeds
    assert all(row["provenance"]["tokens"] <= 6 for row in rows)
    assert len(rows[0]["provenance"]["fingerprint"]) == 32


def test_a_cell_is_written_again_alone_from_its_seed(writer, make_model, world_tokenizer):
    """The seed is the cell's, not the batch's: the usual sampler, given that seed, writes the same text."""
    cells = list(SHORT.cells())[24:28]
    told = [world_tokenizer.encode_chat([{"role": "user", "content": cell.message}]) for cell in cells]
    model = make_model(vocab_size=world_tokenizer.vocab_size, max_position_embeddings=256)
    for cell, ids, (text, before, _) in zip(cells, told, writer(cells, SHORT), strict=True):
        alone = generate(
            model,
            ids,
            tokenizer=world_tokenizer,
            max_new_tokens=6,
            sampler=Sampler(**SHORT.sampling, seed=cell.seed),
        )
        assert alone.texts == [text] and before == len(ids)


def test_rows_with_one_seed_draw_alike_and_rows_with_others_do_not():
    logits = torch.zeros(3, 1000)
    generators = tuple(torch.Generator().manual_seed(seed) for seed in (7, 7, 8))
    ids = SeededRows(generators=generators).choose(logits, logits.long(), torch.Generator()).ids.tolist()
    assert ids[0] == ids[1] != ids[2]
    kept = SeededRows(top_k=1, generators=generators).choose(
        logits + torch.arange(1000.0), logits.long(), None
    )
    assert kept.ids.tolist() == [999] * 3


def test_the_sample_is_the_outcome_of_the_plan():
    plan, rows = Plan.load(), sample()
    assert [(row["id"], row["prompt"]) for row in rows] == [(cell.id, cell.message) for cell in plan.cells()]
    assert {row["provenance"]["model"] for row in rows} == {"smollm2-135m"}
    assert len({row["provenance"]["fingerprint"] for row in rows}) == 1
    for row in rows:
        assert row["provenance"]["sampling"] == plan.sampling
        assert row["provenance"]["tokens"] <= plan.max_new_tokens == row["provenance"]["max_new_tokens"]
    reasons = faults(rows)
    assert {None} < set(reasons)  # some are kept, some are not


def test_the_command_writes_and_says_what_became_of_it(tmp_path, capsys, monkeypatch, writer, make_model):
    model = make_model(vocab_size=writer._tokenizer.vocab_size, max_position_embeddings=256)
    monkeypatch.setattr("tinyphi.weights.load.load", lambda *source, **how: (model, writer._tokenizer))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(SHORT.as_json()), encoding="utf-8")
    call = ["write", "--model", "any", "--plan", str(path), "--to", str(tmp_path / "out")]
    assert command.main(call) == 0
    said = capsys.readouterr().out
    assert "32 texts" in said and "too short" in said and "kept.jsonl" in said
    assert written.report([], [])["kept"] == 0
