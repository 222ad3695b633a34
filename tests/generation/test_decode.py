"""The decoding loop: batches, stops, streams and what a GenerationTrace keeps."""

import copy
import math

import pytest
import torch

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import InputError
from tinyphi.generation.chat import Conversation
from tinyphi.generation.decode import decode_one, left_pad, prefill
from tinyphi.model.transformer import Phi3

PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7]]


class Letters:
    """A tokenizer whose token i is the letter number i; id 0 stops."""

    stop_ids = (0,)

    def stream(self, after=()):
        return self

    def push(self, token):
        return chr(ord("a") + token % 26)

    def finish(self):
        return ""

    def encode_chat(self, messages, add_generation_prompt=True):
        return [1 + ord(letter) % 50 for message in messages for letter in message["content"] or "?"]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    config = PhiConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = Phi3(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_((1.0 if "norm" in name else 0.0) + 0.3 * torch.randn_like(parameter))
    return model


def uncached(model, ids, new):
    grown = list(ids)
    for _ in range(new):
        with torch.no_grad():
            grown.append(int(model(torch.tensor([grown]))[0, -1].argmax()))
    return grown[len(ids) :]


def test_prefill_and_decode_one_give_the_model_s_logits(model):
    ids, cache = torch.tensor([PROMPTS[2]]), model.new_cache()
    with torch.no_grad():
        logits = model(ids)
    torch.testing.assert_close(prefill(model, ids[:, :-1], cache), logits[:, -2], atol=1e-4, rtol=1e-4)
    last = decode_one(model, ids[:, -1], cache)
    torch.testing.assert_close(last, logits[:, -1], atol=1e-4, rtol=1e-4)
    last += 1  # a normal tensor, which may be changed


def test_greedy_equals_the_uncached_loop_single_and_ragged(model):
    expected = [uncached(model, ids, 9) for ids in PROMPTS]
    assert tinyphi.generate(model, PROMPTS, max_new_tokens=9).ids == expected
    for ids, text in zip(PROMPTS, expected, strict=True):
        assert tinyphi.generate(model, ids, max_new_tokens=9).ids == [text]
        assert tinyphi.generate(model, torch.tensor([ids]), max_new_tokens=9).ids == [text]
        assert [step.id for step in tinyphi.stream(model, ids, max_new_tokens=9)] == text


def test_rows_that_end_early_leave_the_others_alone(model):
    expected = [uncached(model, ids, 9) for ids in PROMPTS]
    stop = expected[0][2]
    out = tinyphi.generate(model, PROMPTS, max_new_tokens=9, stop_ids=[stop])
    for found, full in zip(out.ids, expected, strict=True):
        assert found == (full[: full.index(stop)] if stop in full else full)


def test_a_stop_id_ends_the_stream_and_is_its_last_step(model):
    text = uncached(model, PROMPTS[0], 9)
    steps = list(tinyphi.stream(model, PROMPTS[0], max_new_tokens=9, stop_ids=[text[4]]))
    assert [step.id for step in steps] == text[: text.index(text[4]) + 1]


def test_stop_strings_never_show(model):
    everything = tinyphi.generate(
        model, PROMPTS[0], tokenizer=Letters(), max_new_tokens=20, stop_ids=()
    ).texts[0]
    assert len(everything) == 20
    for start, length in ((5, 1), (7, 3), (10, 4)):
        stop = everything[start : start + length]
        shown = ""
        for step in tinyphi.stream(
            model,
            PROMPTS[0],
            tokenizer=Letters(),
            max_new_tokens=20,
            stop_ids=(),
            stop_strings=["zzzzz", stop],
        ):
            shown += step.text
            assert stop not in shown
        assert shown == everything[: everything.index(stop)]


def test_text_that_only_looked_like_a_stop_is_released(model):
    text = tinyphi.generate(model, PROMPTS[0], tokenizer=Letters(), max_new_tokens=12, stop_ids=()).texts[0]
    almost = text[-3:] + "never"
    out = tinyphi.generate(
        model, PROMPTS[0], tokenizer=Letters(), max_new_tokens=12, stop_ids=(), stop_strings=[almost]
    )
    assert out.texts == [text]


def test_the_same_seed_gives_the_same_text(model):
    def run(seed):
        return tinyphi.generate(
            model, PROMPTS, max_new_tokens=12, sampler=tinyphi.Sampler(2.0, seed=seed)
        ).ids

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_a_trace_keeps_every_step(model):
    trace = tinyphi.GenerationTrace()
    sampler = tinyphi.Sampler(temperature=1.3, top_k=20, top_p=0.9, min_p=0.02, seed=5)
    out = tinyphi.generate(model, PROMPTS, max_new_tokens=6, sampler=sampler, trace=trace)
    assert trace.prompts == PROMPTS
    assert trace.sampler is sampler
    assert [[step.id for step in row] for row in trace.rows] == out.ids
    assert trace.steps is trace.rows[0]
    for step in trace.steps:
        assert step.probabilities.sum().item() == pytest.approx(1, abs=1e-5)
        exact = -sum(p * math.log2(p) for p in step.probabilities.double().tolist() if p > 0)
        assert step.entropy == pytest.approx(exact, abs=1e-4)
        torch.testing.assert_close(step.logits * 1.3, step.before_temperature)
        assert step.lens is None
        assert list(step.cuts) == ["top_k", "top_p", "min_p"]
        removed = step.cuts["top_k"] | step.cuts["top_p"] | step.cuts["min_p"]
        assert torch.equal(step.kept, ~removed)
        assert step.kept[step.id]
        assert step.cache_bytes > 0
        assert step.seconds > 0


def test_the_lens_is_the_head_on_every_layer_s_output(model):
    trace, ids = tinyphi.GenerationTrace(lens=3), PROMPTS[0]
    tinyphi.generate(model, PROMPTS, max_new_tokens=4, trace=trace)
    for place, step in enumerate(trace.rows[0]):
        seen = tinyphi.Trace()
        with torch.no_grad():
            model(torch.tensor([ids + [step.id for step in trace.rows[0][:place]]]), trace=seen)
            last = torch.stack([seen[f"layers.{layer}.output"][0, -1] for layer in range(2)])
            expected = model.logits(model.norm(last)).softmax(-1).topk(3)
        assert torch.equal(step.lens.ids, expected.indices)
        torch.testing.assert_close(step.lens.probabilities, expected.values, atol=1e-5, rtol=1e-4)
    assert step.lens.ids[-1, 0] == step.id  # greedy: the last layer's answer


@pytest.mark.parametrize("sampler", [tinyphi.Greedy(), tinyphi.Sampler(1.5, top_p=0.9, seed=3)])
def test_the_lens_changes_no_bit(model, sampler):
    def run(lens):
        trace = tinyphi.GenerationTrace(lens=lens)
        tinyphi.generate(model, PROMPTS, max_new_tokens=12, sampler=sampler, trace=trace)
        return trace

    without, within = run(0), run(2)
    for mine, theirs in zip(without.rows, within.rows, strict=True):
        assert [step.id for step in mine] == [step.id for step in theirs]
        assert all(torch.equal(a.logits, b.logits) for a, b in zip(mine, theirs, strict=True))


def test_the_lens_may_show_the_whole_vocabulary_and_no_more(model):
    trace = tinyphi.GenerationTrace(lens=1000)
    tinyphi.generate(model, PROMPTS[0], max_new_tokens=1, trace=trace)
    assert trace.steps[0].lens.ids.shape == (2, 61)
    torch.testing.assert_close(trace.steps[0].lens.probabilities.sum(-1), torch.ones(2))


@pytest.mark.parametrize("lens", [-1, 2.0, None, True])
def test_a_wrong_lens_is_refused(lens):
    with pytest.raises(InputError, match="lens is"):
        tinyphi.GenerationTrace(lens=lens)


@pytest.mark.parametrize(
    "prompt", [[], [[1], []], torch.zeros(1, 0, dtype=torch.int64), ["text"], "text", None, 3]
)
def test_wrong_prompts_are_refused(model, prompt):
    with pytest.raises(InputError):
        tinyphi.generate(model, prompt)


@pytest.mark.parametrize(
    "arguments", [{"max_new_tokens": 0}, {"max_new_tokens": 1.5}, {"stop_strings": ["x"]}]
)
def test_wrong_arguments_are_refused(model, arguments):
    with pytest.raises(InputError):
        tinyphi.generate(model, [1, 2], **arguments)


def test_keys_and_values_in_8_bits(model):
    """The cache shrinks; the text is that of a loop over such a cache."""
    prompt = [1, 2, 3, 4, 5]
    plain, small = tinyphi.GenerationTrace(), tinyphi.GenerationTrace()
    tinyphi.generate(model, prompt, max_new_tokens=6, trace=plain)
    found = tinyphi.generate(model, prompt, max_new_tokens=6, cache_bits=8, trace=small)
    assert small.steps[-1].cache_bytes < 0.5 * plain.steps[-1].cache_bytes
    cache, expected = model.new_cache(bits=8), []
    logits = prefill(model, torch.tensor([prompt]), cache)
    for _ in range(6):
        expected.append(int(logits.argmax()))
        logits = decode_one(model, torch.tensor(expected[-1:]), cache)
    assert found.ids == [expected]
    with pytest.raises(InputError, match="8"):
        tinyphi.generate(model, prompt, cache_bits=4)


def test_stream_follows_one_prompt_only(model):
    with pytest.raises(InputError, match="one prompt"):
        tinyphi.stream(model, PROMPTS)


def test_logits_that_are_no_numbers_are_told(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    for sampler in (tinyphi.Greedy(), tinyphi.Sampler()):
        with pytest.raises(InputError, match="NaN"):
            tinyphi.generate(broken, [1, 2], sampler=sampler)


def test_a_refused_message_leaves_the_conversation_as_it_was(model):
    class Strict(Letters):
        def encode_chat(self, messages, add_generation_prompt=True):
            if not all(isinstance(message["content"], str) for message in messages):
                raise InputError("not a text")
            return super().encode_chat(messages)

    conversation = Conversation(model, Strict(), max_new_tokens=2)
    with pytest.raises(InputError):
        list(conversation.stream(123))
    assert conversation.messages == []
    assert "".join(conversation.stream("hello"))


def test_left_padding():
    ids, segments = left_pad([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [0, 0, 4]]
    assert segments.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_a_conversation_remembers_and_survives_an_interruption(model):
    conversation = Conversation(model, Letters(), system="be brief", max_new_tokens=8)
    reply = conversation.stream("hello")
    said = next(reply) + next(reply)
    reply.close()  # as Ctrl-C does
    assert conversation.messages == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": said},
    ]
    whole = "".join(conversation.stream("go on"))
    assert conversation.messages[-1] == {"role": "assistant", "content": whole}
    assert tinyphi.chat(model, Letters(), "hello", max_new_tokens=8)
