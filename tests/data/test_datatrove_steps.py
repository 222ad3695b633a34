"""datatrove's local executor keeps the very documents that the pipeline keeps, with any number of tasks."""

import json
import random

import pytest

pytest.importorskip("datatrove", reason="datatrove is not installed")

from datatrove.executor import LocalPipelineExecutor

from tinyphi.data.datatrove_steps import stages
from tinyphi.data.pipeline import Settings, run
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World

SETTINGS = Settings(least_score=0.05)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, chance, world = tmp_path_factory.mktemp("in"), random.Random(0), World()
    pages = [" ".join(web_page(world, chance).text for _ in range(3)) for _ in range(120)]
    pages += [*pages[:20], *(page + " And so on." for page in pages[20:40])]
    chance.shuffle(pages)
    for number in range(5):
        lines = "".join(json.dumps({"text": page}) + "\n" for page in pages[number::5])
        (folder / f"{number}.jsonl").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def kept(files, tmp_path_factory):
    report = run([files], tmp_path_factory.mktemp("ours"), SETTINGS)
    assert {"duplicate", "near_duplicate"} <= report["dropped"].keys() and report["kept"]["documents"] > 20
    return report


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_same_documents_are_kept(files, kept, tmp_path, tasks):
    for number, steps in enumerate(stages([files], tmp_path / "theirs", SETTINGS)):
        LocalPipelineExecutor(
            steps,
            tasks=1 if number == 1 else tasks,
            workers=1,
            logging_dir=str(tmp_path / "logs" / str(number)),
        ).run()
    run([files], tmp_path / "ours", SETTINGS)
    ours = [json.loads(line) for line in (tmp_path / "ours" / "kept.jsonl").read_text().splitlines()]
    theirs = [
        json.loads(line)
        for path in sorted((tmp_path / "theirs").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    assert {f"{row['file']}@{row['start']}" for row in ours} == {row["id"] for row in theirs}
    assert len(ours) == len(theirs) == kept["kept"]["documents"]
    assert {row["text"] for row in ours} == {row["text"] for row in theirs}
    stats = json.loads((tmp_path / "logs" / "0" / "stats.json").read_text())
    assert stats[1]["stats"]["total"] == kept["documents"]
