"""The same items, the same model: lm-eval and our harness agree one by one, and so does transformers.

The tasks are written as lm-eval's own files say them, with local data; nothing is downloaded.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import tinyphi
from tinyphi.errors import FetchError, InputError
from tinyphi.evaluate.harness import Harness
from tinyphi.evaluate.tasks import TASKS

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install lm-eval")
THEIR_TASKS = Path(lm_eval.__file__).parent / "tasks"
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed; lm-eval brings it")

CHOICE = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
ACC = {"output_type": "multiple_choice", "metric_list": [{"metric": "acc"}]}
ARC = {
    **CHOICE,
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}",
    "doc_to_choice": "{{choices.text}}",
}
MMLU = {
    **ACC,
    "doc_to_text": "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
    "D. {{choices[3]}}\nAnswer:",
    "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_target": "answer",
    "description": "The following are multiple choice questions (with answers) about small sums.\n\n",
}
SPLIT = {"validation_split": "train", "test_split": "train", "fewshot_split": "train"}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture(scope="module")
def adapter(reader, world_tokenizer):
    from tinyphi.evaluate.lm_eval import TinyphiLM

    return TinyphiLM(reader, world_tokenizer)


@pytest.fixture
def theirs(tmp_path, adapter):
    """Let lm-eval evaluate some rows with a task of its own; the samples, in the order of the rows."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    def run(rows, task, shots=0, lm=adapter, functions=None):
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = {
            "task": "ours",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"train": str(data)}},
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": shots,
            **SPLIT,
            **task,
        }
        text = yaml.safe_dump(config, sort_keys=False)
        for name in functions or {}:  # functions are named by a tag that safe_dump does not know
            text = text.replace(f"'!{name}'", f"!function helpers.{name}")
        (tmp_path / "ours.yaml").write_text(text)
        (tmp_path / "helpers.py").write_text("\n".join((functions or {}).values()))
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        found = simple_evaluate(
            lm, tasks=["ours"], task_manager=manager, bootstrap_iters=0, log_samples=True, verbosity="ERROR"
        )
        return sorted(found["samples"]["ours"], key=lambda sample: sample["doc_id"]), found["results"]["ours"]

    return run


@pytest.fixture
def ours(reader, world_tokenizer):
    harness = Harness(reader, world_tokenizer)
    return lambda task, rows, **options: harness.evaluate(
        TASKS[task] if isinstance(task, str) else task, rows, **options
    )


def same(samples, result, metrics):
    assert len(samples) == len(result.answers)
    for sample, answer in zip(samples, result.answers, strict=True):
        logs = [response[0] for (response, *_) in sample["resps"]]
        assert answer.said == pytest.approx(logs, abs=1e-4)
        for metric in metrics:
            assert answer.scores[metric].value == sample[metric], metric


@pytest.mark.parametrize("shots", [0, 2])
def test_arc(theirs, ours, arc_rows, shots):
    samples, _ = theirs(arc_rows, ARC, shots)
    same(samples, ours("arc_easy", arc_rows, shots=shots), ("acc", "acc_norm"))


def test_hellaswag(theirs, ours, hellaswag_rows):
    utils = (THEIR_TASKS / "hellaswag" / "utils.py").read_text()
    task = {
        **CHOICE,
        "process_docs": "!process_docs",
        "doc_to_text": "{{query}}",
        "doc_to_target": "{{label}}",
        "doc_to_choice": "choices",
    }
    samples, _ = theirs(hellaswag_rows, task, functions={"process_docs": utils})
    same(samples, ours("hellaswag", hellaswag_rows), ("acc", "acc_norm"))


def test_piqa(theirs, ours):
    rows = [
        {"goal": "cool soup", "sol1": "wait", "sol2": "heat it on the stove for long", "label": 0},
        {"goal": "open a door", "sol1": "eat the key", "sol2": "turn the key", "label": 1},
    ]
    task = {
        **CHOICE,
        "doc_to_text": "Question: {{goal}}\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": "{{[sol1, sol2]}}",
    }
    samples, _ = theirs(rows, task)
    same(samples, ours("piqa", rows), ("acc", "acc_norm"))


@pytest.mark.parametrize("shots", [0, 1])
def test_winogrande(theirs, ours, winogrande_rows, shots):
    source = (THEIR_TASKS / "winogrande" / "preprocess_winogrande.py").read_text()
    names = ("doc_to_text", "doc_to_target", "doc_to_choice")
    task = {**ACC, **{name: f"!{name}" for name in names}}
    functions = dict.fromkeys(names, "") | {"doc_to_text": source}
    samples, _ = theirs(winogrande_rows, task, shots, functions=functions)
    same(samples, ours("winogrande", winogrande_rows, shots=shots), ("acc",))


def test_boolq(theirs, ours):
    rows = [
        {"passage": "Snow is cold and white.", "question": "is snow warm", "label": 0},
        {"passage": "Cows eat grass.", "question": "do cows eat grass", "label": 1},
    ]
    task = {
        **ACC,
        "doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": ["no", "yes"],
    }
    samples, _ = theirs(rows, task)
    named = [{**row, "answer": bool(row["label"])} for row in rows]
    same(samples, ours("boolq", named), ("acc",))


def test_mmlu_with_its_examples(theirs, ours, mmlu_rows):
    rows = [row for row in mmlu_rows if row["subject"] == "small_sums"]
    samples, _ = theirs(rows, MMLU, shots=3)
    result = ours("mmlu", mmlu_rows, shots=3)
    same(samples, type(result)("mmlu", "lm-eval", 3, result.answers[: len(rows)]), ("acc",))


@pytest.mark.parametrize("task", ["truthfulqa_mc1", "truthfulqa_mc2"])
def test_truthfulqa(theirs, ours, truthful_rows, task):
    folder = THEIR_TASKS / "truthfulqa"
    prompt = yaml.safe_load((folder / "truthfulqa_mc1.yaml").read_text())["doc_to_text"]
    targets = task.removeprefix("truthfulqa_") + "_targets"
    config = {**ACC, "doc_to_text": prompt, "doc_to_target": 0, "doc_to_choice": f"{{{{{targets}.choices}}}}"}
    functions = {}
    if task == "truthfulqa_mc2":
        source = (folder / "utils.py").read_text()
        start = source.index("def process_results_mc2")
        functions = {"process": "import numpy as np\n" + source[start : source.index("def process_docs_gen")]}
        functions["process"] = functions["process"].replace("process_results_mc2", "process")
        config["process_results"] = "!process"
    samples, _ = theirs(truthful_rows, config, functions=functions)
    result = ours(task, truthful_rows)
    for sample, answer in zip(samples, result.answers, strict=True):
        assert answer.said == pytest.approx([response[0] for (response, *_) in sample["resps"]], abs=1e-4)
        assert answer.scores["acc"].value == pytest.approx(sample["acc"], abs=1e-6)


def test_perplexity_of_texts_longer_than_the_context(theirs, ours):
    rows = [
        {"text": "The old man went to the sea. " * 60 + "He came back."},
        {"text": "Rain fell,\n and fell."},
    ]
    metrics = ["word_perplexity", "byte_perplexity", "bits_per_byte"]
    task = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in metrics],
    }
    samples, totals = theirs(rows, task)
    result = ours("perplexity", rows)
    for sample, answer in zip(samples, result.answers, strict=True):
        assert answer.said == pytest.approx([sample["filtered_resps"][0]], rel=1e-6)
    for metric in metrics:
        assert result.value(metric) == pytest.approx(totals[f"{metric},none"], rel=1e-5)


def test_what_is_written(theirs, ours):
    """Greedy replies of an untrained model are nonsense; both must cut and mark the same nonsense."""
    rows = [
        {"question": "Who wrote it", "answer": {"aliases": ["Ada", "ada lovelace"]}},
        {"question": "What is a very long river in a land of hills", "answer": {"aliases": ["Nile"]}},
    ]
    task = {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}?\nAnswer:",
        "doc_to_target": "{{answer.aliases}}",
        "generation_kwargs": {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": 40},
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    }
    samples, _ = theirs(rows, task)
    result = ours(replace(TASKS["triviaqa"], most=40), rows)
    for sample, answer in zip(samples, result.answers, strict=True):
        assert answer.said == sample["resps"][0][0]
        assert answer.scores["exact_match"].value == sample["exact_match"]


@pytest.fixture(scope="module")
def saved(reader, world_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    tinyphi.save(reader, world_tokenizer, folder)
    return folder


def test_lm_evals_own_model_agrees(saved, adapter, theirs, arc_rows):
    """transformers reads the saved model, and lm-eval's "hf" scores it: no line of ours is in that path."""
    from lm_eval.models.huggingface import HFLM

    hf = HFLM(pretrained=str(saved), dtype="float32", device="cpu", batch_size=3)
    assert hf.prefix_token_id == adapter.prefix_token_id and hf.max_length == adapter.max_length
    for shots in (0, 3):
        mine, _ = theirs(arc_rows, ARC, shots)
        other, _ = theirs(arc_rows, ARC, shots, lm=hf)
        for a, b in zip(mine, other, strict=True):
            logs = [[response[0][0] for response in sample["resps"]] for sample in (a, b)]
            assert logs[0] == pytest.approx(logs[1], abs=1e-4)
            assert [response[0][1] for response in a["resps"]] == [response[0][1] for response in b["resps"]]
            assert a["acc_norm"] == b["acc_norm"]
    task = {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "x",
        "generation_kwargs": {"until": ["."], "do_sample": False, "max_gen_toks": 24},
        "metric_list": [{"metric": "exact_match"}],
    }
    mine, _ = theirs(arc_rows, task)
    other, _ = theirs(arc_rows, task, lm=hf)
    # Where bytes form no character the two decoders differ: transformers gives up a whole run of byte tokens
    # with the spaces in it, see `Tokenizer.decode`.
    texts = [
        [re.sub(r"[\s\ufffd]+", " ", sample["resps"][0][0]).strip() for sample in samples]
        for samples in (mine, other)
    ]
    assert texts[0] == texts[1]


def test_the_command_line(saved, tmp_path, arc_rows):
    """`tinyphi eval lm-eval --model tinyphi …` in a process of its own, as a user starts it."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in arc_rows))
    config = {
        "task": "ours",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"train": str(tmp_path / "rows.jsonl")}},
        **SPLIT,
        **ARC,
    }
    (tmp_path / "ours.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "tinyphi.cli", "eval", "lm-eval", "--model", "tinyphi"]
    command += ["--model_args", f"pretrained={saved}", "--tasks", "ours", "--include_path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "acc_norm" in done.stdout and "ours" in done.stdout


def test_unknown_options_of_generation_are_refused(adapter):
    from lm_eval.api.instance import Instance

    request = Instance("generate_until", {}, ("Hello", {"until": ["."], "num_beams": 4}), 0)
    with pytest.raises(InputError, match="num_beams"):
        adapter.generate_until([request])


def test_a_conversation_is_encoded_as_the_tokenizer_does_it(adapter, world_tokenizer):
    messages = [{"role": "user", "content": "Hello there."}]
    text = adapter.apply_chat_template(messages)
    assert adapter.tok_encode(text) == world_tokenizer.encode_chat(messages)


def test_the_comparison_notices_a_mistake(theirs, ours, arc_rows):
    """Planted: answers without the space before them."""
    task = TASKS["arc_easy"]
    wrong = replace(task, wordings={"lm-eval": replace(task.wordings["lm-eval"], delimiter="")})
    samples, _ = theirs(arc_rows, ARC)
    with pytest.raises(AssertionError):
        same(samples, ours(wrong, arc_rows), ("acc", "acc_norm"))


def test_the_real_model(theirs, arc_rows):
    """SmolLM2 in lm-eval through the adapter, and in our harness."""
    from tinyphi.evaluate.lm_eval import TinyphiLM

    try:
        model, tokenizer = tinyphi.load("smollm2-135m")
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")
    samples, _ = theirs(arc_rows, ARC, 1, lm=TinyphiLM(model, tokenizer))
    same(
        samples, Harness(model, tokenizer).evaluate(TASKS["arc_easy"], arc_rows, shots=1), ("acc", "acc_norm")
    )
