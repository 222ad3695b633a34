"""The real model: greedy text of SmolLM2 from its GGUF file, beside transformers reading the same file."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tinyphi
from tinyphi.errors import FetchError
from tinyphi.weights.fetch import resolve

NEW = 48
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "In 1969, the first humans",
    "The three laws of thermodynamics state that",
    "Dear Sir or Madam,\n\nI am writing to",
    "import numpy as np\n\nx = np.",
    "Photosynthesis is the process by which",
    "1, 1, 2, 3, 5, 8, 13,",
    "Q: What is the largest planet?\nA:",
    "To make a good cup of tea, first",
    "Il était une fois",
    "The cat sat on the",
    "SELECT name FROM users WHERE",
    "Roses are red,",
    "🙂 means that somebody is",
]
QUESTIONS = [
    "What is gravity? Answer in one sentence.",
    "Name three fruits.",
    "Why is the sky blue?",
    "Write a Python function that reverses a string.",
]


@pytest.fixture(scope="module")
def path():
    try:
        return resolve("smollm2-135m")
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")


@pytest.fixture(scope="module")
def reference(path):
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    return model.eval()


@pytest.fixture(scope="module")
def mine(path):
    return tinyphi.load(path)


@pytest.fixture(scope="module")
def prompts(mine):
    _, tokenizer = mine
    chats = [tokenizer.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    return [*map(tokenizer.encode, PROMPTS), *chats]


def reference_text(reference, ids):
    out = reference.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return out[0, len(ids) :].tolist()


def test_the_prompts_have_the_reference_s_ids(path, mine, prompts):
    reference = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert [reference(text)["input_ids"] for text in PROMPTS] == prompts[: len(PROMPTS)]
    for question, ids in zip(QUESTIONS, prompts[len(PROMPTS) :], strict=True):
        chat = reference.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        assert reference(chat)["input_ids"] == ids


def test_greedy_text_equals_the_reference_s(mine, reference, prompts):
    model, _ = mine
    assert len(prompts) == 20
    for ids in prompts:
        assert tinyphi.generate(model, ids, max_new_tokens=NEW).ids[0] == reference_text(reference, ids)


def test_logits_equal_the_reference_s(mine, reference, prompts):
    model, _ = mine
    ids = torch.tensor([[token for ids in prompts for token in ids]])
    with torch.no_grad():
        theirs = reference(ids).logits
        difference = (model(ids) - theirs).abs().max()
    assert difference <= 1e-5 * theirs.abs().max()


def test_a_planted_mistake_changes_the_text(path, reference, prompts):
    """Queries of a single layer left in the order of the GGUF file."""
    broken = tinyphi.load_model(path)
    with torch.no_grad():
        queries = broken.layers[7].attention.qkv_proj.weight[:576]
        queries.copy_(queries.view(9, 2, 32, 576).transpose(1, 2).reshape(576, 576))
    texts = [tinyphi.generate(broken, ids, max_new_tokens=NEW).ids[0] for ids in prompts[:3]]
    assert texts != [reference_text(reference, ids) for ids in prompts[:3]]
