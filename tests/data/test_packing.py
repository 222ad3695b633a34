"""Packing: rows as TRL makes them, logits as if each document were alone, targets where they belong."""

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.packing import (
    NO_TARGET,
    Example,
    Rows,
    best_fit,
    chat_example,
    collate,
    packed,
    padded,
    partly_example,
    text_example,
    wrapped,
)
from tinyphi.errors import InputError, TokenizerError
from tinyphi.tokenizer import from_directory
from tinyphi.tokenizer.chat import STYLES

SPECIALS = "<|endoftext|> <|assistant|> <|system|> <|end|> <|user|> <|im_start|> <|im_end|>".split()
CONTENTS = ["Who are you?", "", "\n a line", "It is 3 < 4.\n\n", "<|end|> is text", "é 🦙", " so "]


@pytest.fixture(scope="module")
def make_tokenizer(tmp_path_factory):
    model = io.BytesIO()
    text = "who are you it is a line so what the end is text 3 4 system user assistant".split()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(text[start:] + text[:start]) for start in range(len(text))] * 9),
        model_writer=model, model_type="bpe", vocab_size=330, byte_fallback=True, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1,
    )  # fmt: skip

    def make(style="phi-3-mini", adds_bos=False):
        folder = tmp_path_factory.mktemp(style)
        (folder / "tokenizer.model").write_bytes(model.getvalue())
        names = {1: "<s>", **dict(enumerate(SPECIALS, 330))}
        config = {
            "add_bos_token": adds_bos, "bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>",
            "chat_template": STYLES[style].jinja,
            "added_tokens_decoder": {
                str(id): {
                    "content": name, "lstrip": False, "rstrip": style == "phi-3-mini" and id > 330,
                    "normalized": False, "single_word": False, "special": True,
                }
                for id, name in names.items()
            },
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return from_directory(folder)

    return make


def some_examples(lengths, seed=0, vocabulary=61):
    generator = np.random.default_rng(seed)
    return [
        Example(generator.integers(1, vocabulary, n).tolist(), (generator.random(n) < 0.7).tolist())
        for n in lengths
    ]


def counted_text(tokenizer, example):
    """The counted stretches, each as text with its special tokens."""
    pairs = zip(example.ids, example.counted, strict=True)
    groups = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [
        tokenizer.decode([id for id, _ in group], skip_special=False) for counted, group in groups if counted
    ]


# Which tokens are targets


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_text_begins_with_bos_and_ends_with_its_end(make_tokenizer, adds_bos):
    tokenizer = make_tokenizer(adds_bos=adds_bos)
    example = text_example(tokenizer, "it is a line <|end|>")
    names = tokenizer.special_tokens
    assert example.ids[0] == names["<s>"] and example.ids[-1] == names["<|endoftext|>"]
    assert example.ids.count(names["<s>"]) == 1 and names["<|end|>"] not in example.ids
    assert tokenizer.decode(example.ids) == "it is a line <|end|>" and all(example.counted)


def test_a_tokenizer_without_an_end_is_refused(make_tokenizer, monkeypatch):
    tokenizer = make_tokenizer()
    monkeypatch.setattr(tokenizer, "eos_id", None)
    monkeypatch.setattr(type(tokenizer), "special_tokens", {})
    with pytest.raises(TokenizerError, match="no EOS"):
        text_example(tokenizer, "a line")


def conversations(contents=CONTENTS):
    contents = itertools.cycle(contents)
    orders = [("user", "assistant"), ("system", "user", "assistant", "user", "assistant")]
    orders += [("user", "assistant", "assistant"), ("user", "assistant", "user")]
    return [[{"role": role, "content": next(contents)} for role in order] for order in orders * len(CONTENTS)]


@pytest.mark.parametrize("style", ["phi-3-mini", "phi-3.5-mini", "phi-3-medium", "phi-3-small", "smollm2"])
def test_only_answers_and_their_ends_are_counted(make_tokenizer, style):
    tokenizer = make_tokenizer(style)
    end = "<|im_end|>" if style == "smollm2" else "<|end|>"
    for messages in conversations():
        example = chat_example(tokenizer, messages)
        assert example.ids == tokenizer.encode_chat(messages, add_generation_prompt=False)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        texts = counted_text(tokenizer, example)
        assert [text.strip() for text in texts] == [(answer + end).strip() for answer in answers], messages
        for place in np.flatnonzero(example.counted):  # what is counted ends where generation would
            if example.counted[place + 1 : place + 2] != [True]:
                assert example.ids[place] in tokenizer.stop_ids


def test_answers_are_counted_as_trl_counts_them(make_tokenizer, tmp_path):
    """TRL's template for training Phi-3 marks what the assistant says; and the EOS after it, unlike us."""
    transformers, trl = pytest.importorskip("transformers"), pytest.importorskip("trl")
    template = Path(trl.__file__).parent / "chat_templates/phi3_training.jinja"
    tokenizer = make_tokenizer()
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    # Of a content that begins with space the header swallows some, which TRL takes for a part of the answer.
    for messages in conversations([text for text in CONTENTS if text[:1] not in ("", " ", "<", "\n")]):
        marked = theirs.apply_chat_template(
            messages, chat_template=template.read_text(), return_dict=True, return_assistant_tokens_mask=True
        )
        example, counted = chat_example(tokenizer, messages), [bool(one) for one in marked["assistant_masks"]]
        assert example.ids == marked["input_ids"]
        assert example.counted[:-1] == counted[:-1] and example.counted[-1] is False
        assert counted[-1] == (messages[-1]["role"] == "assistant")


def test_a_conversation_needs_an_answer(make_tokenizer):
    tokenizer = make_tokenizer()
    with pytest.raises(InputError, match="nothing to learn"):
        chat_example(tokenizer, [{"role": "user", "content": "so"}])
    with pytest.raises(InputError, match="speaks first"):
        chat_example(tokenizer, [{"role": "assistant", "content": "so"}])
    with pytest.raises(InputError, match="roles are"):
        chat_example(tokenizer, [{"role": "robot", "content": "so"}])


@pytest.mark.parametrize(("ids", "counted"), [([], []), ([1, 2], [True])])
def test_an_example_must_fit_itself(ids, counted):
    with pytest.raises(InputError, match="at least one token"):
        Example(ids, counted)


# Rows


def trl_packing(examples, capacity, strategy):
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    table = {"input_ids": [example.ids for example in examples]}
    table["completion_mask"] = [[int(one) for one in example.counted] for example in examples]
    options = {
        "batch_size": None,
        "keep_in_memory": True,
        "new_fingerprint": "none",
        "load_from_cache_file": False,
    }
    datasets.disable_progress_bars()
    return trl.pack_dataset(datasets.Dataset.from_dict(table), capacity, strategy, options)[:]


@pytest.mark.parametrize("capacity", [1, 7, 32, 100])
def test_best_fit_makes_the_rows_of_trl(capacity):
    for seed in range(4):
        lengths = np.random.default_rng([seed, capacity]).integers(
            1, 40, 150
        )  # many are equal, some too long
        examples = some_examples(lengths, seed)
        theirs = trl_packing(examples, capacity, "bfd")
        rows = packed(examples, capacity)
        assert [row.ids.tolist() for row in rows] == theirs["input_ids"]
        assert [np.unique(row.segments, return_counts=True)[1].tolist() for row in rows] == theirs[
            "seq_lengths"
        ]


def test_first_fit_would_make_other_rows(monkeypatch):
    """The comparison notices a rule that takes the oldest row with room instead of the fullest."""
    examples = some_examples(np.random.default_rng(1).integers(1, 40, 150))
    monkeypatch.setattr("tinyphi.data.packing.bisect_left", lambda spaces, length: next(
        (place for place in reversed(range(len(spaces))) if spaces[place] >= length), len(spaces)
    ))  # fmt: skip
    rows = [row.ids.tolist() for row in packed(examples, 40)]
    assert rows != trl_packing(examples, 40, "bfd")["input_ids"]


@pytest.mark.parametrize("capacity", [1, 4, 33])
def test_wrapped_makes_the_rows_of_trl(capacity):
    examples = some_examples([5, 4, 4, 1, 3, 9, 60, 2])
    theirs = trl_packing(examples, capacity, "wrapped")
    rows = wrapped(examples, capacity)
    assert [row.ids.tolist() for row in rows] == theirs["input_ids"]
    for row, mask in zip(rows, theirs["completion_mask"], strict=True):
        first = np.diff(row.segments, prepend=0) > 0
        assert ((row.labels != NO_TARGET) == (np.array(mask, bool) & ~first)).all()


@given(some.lists(some.integers(1, 30), min_size=1, max_size=60), some.integers(1, 25))
def test_best_fit_loses_nothing_and_wastes_little(lengths, capacity):
    rows = best_fit(lengths, capacity)
    assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
    full = [sum(min(lengths[place], capacity) for place in row) for row in rows]
    assert max(full) <= capacity
    fewest = -(-sum(min(length, capacity) for length in lengths) // capacity)
    assert len(rows) <= 1.5 * fewest + 1  # best-fit decreasing is within 11/9 of the best packing


@given(some.lists(some.integers(1, 30), min_size=1, max_size=20), some.integers(1, 25))
def test_wrapped_keeps_every_token_in_order(lengths, capacity):
    examples = some_examples(lengths)
    rows = wrapped(iter(examples), capacity)
    assert np.concatenate([row.ids for row in rows]).tolist() == [id for one in examples for id in one.ids]
    assert all(len(row.ids) == capacity for row in rows[:-1])
    assert all((np.diff(row.segments, prepend=0) <= 1).all() and row.segments[0] == 1 for row in rows)


def test_labels_are_those_of_transformers_flattening():
    transformers = pytest.importorskip("transformers")
    examples = some_examples([9, 1, 14, 3])
    features = [
        {"input_ids": one.ids, "labels": np.where(one.counted, one.ids, NO_TARGET).tolist()}
        for one in examples
    ]
    theirs = transformers.DataCollatorWithFlattening(return_seq_idx=True)(features)
    (row,) = wrapped(examples, 100)
    assert row.ids.tolist() == theirs["input_ids"][0].tolist()
    assert row.labels.tolist() == theirs["labels"][0].tolist()
    assert (row.segments - 1).tolist() == theirs["seq_idx"][0].tolist()
    without_rule = np.concatenate([feature["labels"] for feature in features])
    assert row.labels.tolist() != without_rule.tolist()  # a first token is counted in these examples


@pytest.mark.parametrize("wrong", [[3, 0], [-1]])
def test_best_fit_refuses_empty_documents(wrong):
    with pytest.raises(InputError, match="no token"):
        best_fit(wrong, 5)


@pytest.mark.parametrize("function", [packed, wrapped])
def test_rows_hold_at_least_a_token(function):
    with pytest.raises(InputError, match="at least 1 token"):
        function(some_examples([3]), 0)


# Batches


def test_packed_and_padded_documents_have_the_logits_they_have_alone(make_model):
    model = make_model(sliding_window=6)
    examples = some_examples([13, 3, 8, 20, 2, 9])
    batch = collate(packed(examples, 24), pad_id=0)
    assert batch.segments.max() >= 2
    rows = padded(examples, pad_id=0)
    packed_logits, padded_logits = model(batch.ids, batch.segments), model(rows.ids, rows.segments)
    found = 0
    for number, example in enumerate(examples):
        alone = model(torch.tensor([example.ids]))[0]
        torch.testing.assert_close(padded_logits[number, : len(example.ids)], alone)
        for row, segment in itertools.product(range(len(batch.ids)), range(1, 7)):
            where = batch.segments[row] == segment
            if batch.ids[row, where].tolist() == example.ids:
                torch.testing.assert_close(packed_logits[row, where], alone)
                found += 1
    assert found == len(examples)
    with pytest.raises(AssertionError):  # without segments, documents see those before them
        torch.testing.assert_close(model(batch.ids), packed_logits)


def test_a_batch_counts_targets_and_tokens():
    examples = [Example([5, 6, 7], [True, False, True]), Example([8, 9], [True, True])]
    batch = padded(examples, pad_id=60)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 60]]
    assert batch.labels.tolist() == [[NO_TARGET, NO_TARGET, 7], [NO_TARGET, 9, NO_TARGET]]
    assert batch.segments.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert (batch.count, batch.tokens) == (2, 5)
    assert batch.ids.dtype == batch.labels.dtype == batch.segments.dtype == torch.int64
    assert batch.to("meta").ids.device.type == "meta"


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        collate([], pad_id=0)


def test_each_epoch_has_every_row_once_in_an_order_of_its_own():
    rows = packed(some_examples(range(1, 36)), 1)
    source = Rows(rows, batch_size=3, pad_id=0, accumulate=2, seed=5)
    assert source.steps_per_epoch == 35 / 6
    seen = [row for step in range(1, 36) for batch in source(step) for row in batch.ids[:, 0].tolist()]
    epochs = [seen[start : start + 35] for start in range(0, 210, 35)]
    everything = sorted(int(row.ids[0]) for row in rows)
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_batches_depend_on_seed_and_step_alone():
    rows = packed(some_examples(range(1, 36)), 20)
    again, other = Rows(rows, 4, 0, seed=5), Rows(rows, 4, 0, seed=6)
    source = Rows(rows, 4, 0, seed=5)
    batches = [source(step)[0].ids.tolist() for step in (1, 40, 7)]
    assert [again(step)[0].ids.tolist() for step in (40, 7)] == batches[1:]
    assert other(1)[0].ids.tolist() != batches[0]


def test_impossible_sources_are_refused():
    rows = packed(some_examples([3]), 5)
    for arguments in ([], 1, 0), (rows, 0, 0), (rows, 1, 0, 0):
        with pytest.raises(InputError, match="Batches need rows"):
            Rows(*arguments)
    with pytest.raises(InputError, match="count from 1"):
        Rows(rows, 1, 0)(0)


@pytest.mark.parametrize("adds_bos", [True, False])
def test_only_some_parts_are_counted(make_tokenizer, adds_bos):
    tokenizer = make_tokenizer(adds_bos=adds_bos)
    parts = [("it is", False), (" a line", True), (".", False), (" who are you", True)]
    example = partly_example(tokenizer, parts)
    assert example.ids == text_example(tokenizer, "it is a line. who are you").ids
    counted = [token for token, known in zip(example.ids, example.counted, strict=True) if known]
    assert tokenizer.decode(counted[:-1]).split() == "a line who are you".split()
    assert counted[-1] == example.ids[-1] and not example.counted[0]
