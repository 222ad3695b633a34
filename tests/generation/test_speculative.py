"""A draft changes how fast a text comes and nothing else: the same greedy ids, the same distribution."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyphi
from tinyphi import cli
from tinyphi.errors import FetchError, InputError
from tinyphi.generation import speculative
from tinyphi.generation.decode import decode_one, prefill
from tinyphi.generation.speculative import (
    DraftModel,
    Lookahead,
    PromptLookup,
    Proposal,
    accept_or_redraw,
    final_distribution,
)
from tinyphi.model import cache as cache_module
from tinyphi.model.attention import Attention
from tinyphi.model.transformer import Phi3

LONGROPE = {
    "original_max_position_embeddings": 16,
    "short_factor": (1.0, 1.1, 1.2, 1.3),
    "long_factor": (1.0, 2.0, 4.0, 8.0),
}
PROMPTS = [[3, 1, 4, 1, 5], [9], [6, 5, 3, 5, 8, 9, 7], [7, 8, 9, 7, 8, 9, 7, 8]]
NEVER = torch.Generator()


@pytest.fixture(autouse=True)
def little_slack(monkeypatch):
    """So that a windowed cache drops old tokens while a short text is written."""
    monkeypatch.setattr(cache_module, "_SLACK", 8)


@pytest.fixture(scope="module")
def make(small_config):
    """Models in float64, where rounding decides nothing.

    They look back and think only a little, so that their texts go in circles for a while and copying helps.
    """

    def make(spread=0.1, **changes):
        torch.manual_seed(4)
        model = Phi3(replace(small_config, **changes)).eval().double()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_((1.0 if "norm" in name else 0.0) + spread * torch.randn_like(parameter))
                parameter *= 0.3 if "o_proj" in name else 1.0
        return model

    return make


def similar(model, noise=0.01):
    """A draft model that is often right: the same one with some noise."""
    torch.manual_seed(5)
    draft = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += noise * torch.randn_like(parameter)
    return draft


def both(model, prompt, draft, **settings):
    """Traces without and with a draft; the ids must be the same and the logits nearly."""
    traces = [tinyphi.GenerationTrace(), tinyphi.GenerationTrace()]
    for trace, used in zip(traces, (None, draft), strict=True):
        tinyphi.generate(model, prompt, draft=used, trace=trace, **settings)
    plain, ahead = (trace.steps for trace in traces)
    assert [step.id for step in ahead] == [step.id for step in plain]
    for mine, theirs in zip(ahead, plain, strict=True):
        torch.testing.assert_close(mine.before_temperature, theirs.before_temperature, atol=1e-5, rtol=1e-5)
    return traces[1]


CONFIGS = {
    "plain": {},
    "window": {"sliding_window": 6},
    "longrope": LONGROPE,
    "window and longrope": {"sliding_window": 6, **LONGROPE},
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("kind", ["lookup", "short lookup", "similar model", "other model"])
def test_greedy_text_is_the_same(make, changes, kind):
    model = make(**changes)
    draft = {
        "lookup": lambda: PromptLookup(ngram=2, tokens=5),
        "short lookup": lambda: PromptLookup(ngram=1, tokens=3),
        "similar model": lambda: DraftModel(similar(model)),
        "other model": lambda: DraftModel(make(spread=0.4, num_hidden_layers=1), tokens=2),
    }[kind]()
    traces = [both(model, prompt, draft, max_new_tokens=40) for prompt in PROMPTS]  # one draft for all
    accepted = sum(step.proposed for trace in traces for step in trace.steps)
    assert accepted > 0 or kind == "other model"
    assert sum(trace.proposed for trace in traces) > accepted or kind == "lookup"


def test_a_pass_that_crosses_the_longrope_boundary_would_be_noticed(make, monkeypatch):
    model = make(**LONGROPE)
    draft = DraftModel(model, tokens=7)
    both(model, PROMPTS[0], draft, max_new_tokens=30)
    monkeypatch.setattr(speculative, "uses_long_factors", lambda config, longest: False)
    with pytest.raises(AssertionError):
        both(model, PROMPTS[0], draft, max_new_tokens=30)


def test_forgetting_to_roll_back_would_be_noticed(make, monkeypatch):
    model = make()
    draft = DraftModel(similar(model, 0.1))
    both(model, PROMPTS[0], draft, max_new_tokens=30)
    monkeypatch.setattr(Lookahead, "waiting", property(lambda self: 0))  # all proposals count as read
    with pytest.raises(AssertionError):
        both(model, PROMPTS[0], draft, max_new_tokens=30)


def test_of_equally_probable_tokens_the_same_is_chosen(make):
    model = make()
    with torch.no_grad():
        model.lm_head.weight[30:60] = model.lm_head.weight[:30]
    for draft in (PromptLookup(1), DraftModel(similar(model))):
        trace = both(model, PROMPTS[0], draft, max_new_tokens=40)
        assert {step.id for step in trace.steps} <= {*range(30), 60}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    new=st.integers(1, 20),
    tokens=st.integers(1, 12),
    stop=st.integers(0, 19),
    prompt=st.sampled_from(PROMPTS),
    lookup=st.booleans(),
)
def test_ends_where_it_would_have_ended(make, new, tokens, stop, prompt, lookup):
    model = make()
    draft = PromptLookup(1, tokens) if lookup else DraftModel(model, tokens)
    stop_ids = [tinyphi.generate(model, prompt, max_new_tokens=20).ids[0][stop]]
    both(model, prompt, draft, max_new_tokens=new, stop_ids=stop_ids)


class Letters:
    """A tokenizer whose token i is the letter number i."""

    stop_ids = ()

    def encode(self, text):
        return [ord(letter) % 26 for letter in text]

    def stream(self, after=()):
        return self

    def push(self, token):
        return chr(ord("a") + token % 26)

    def finish(self):
        return ""


def test_stop_strings_and_streaming(make):
    model = make()
    given = {"tokenizer": Letters(), "max_new_tokens": 24}
    text = tinyphi.generate(model, PROMPTS[0], **given).texts[0]
    stop = text[9:12]
    for draft in (PromptLookup(1), DraftModel(model)):
        steps = list(tinyphi.stream(model, PROMPTS[0], draft=draft, stop_strings=[stop], **given))
        assert "".join(step.text for step in steps) == text[: text.index(stop)]
        assert any(step.proposed for step in steps) or isinstance(draft, PromptLookup)


def test_a_trace_and_its_lens_are_the_same(make):
    model = make()
    for prompt, draft in zip(PROMPTS, (PromptLookup(1), DraftModel(similar(model))) * 2, strict=True):
        plain, ahead = tinyphi.GenerationTrace(lens=2), tinyphi.GenerationTrace(lens=2)
        tinyphi.generate(model, prompt, max_new_tokens=20, trace=plain)
        tinyphi.generate(model, prompt, max_new_tokens=20, trace=ahead, draft=draft)
        assert ahead.prompts == plain.prompts
        assert 0 < sum(step.proposed for step in ahead.steps) <= ahead.proposed
        for mine, theirs in zip(ahead.steps, plain.steps, strict=True):
            assert torch.equal(mine.kept, theirs.kept)
            assert torch.equal(mine.lens.ids, theirs.lens.ids)
            torch.testing.assert_close(mine.lens.probabilities, theirs.lens.probabilities)


def test_an_accepted_token_costs_no_pass(make):
    model, passes = make(), []
    hidden = model.hidden
    model.hidden = lambda ids, *given, **more: passes.append(ids.shape[1]) or hidden(ids, *given, **more)
    trace = tinyphi.GenerationTrace()
    tinyphi.generate(model, PROMPTS[0], max_new_tokens=21, draft=DraftModel(make(), tokens=4), trace=trace)
    # A draft that is always right: after the prompt, four passes that give five tokens each.
    assert passes == [5, 5, 5, 5, 5]
    assert [step.proposed for step in trace.steps] == [False] + [True, True, True, True, False] * 4
    assert trace.proposed == 16


@pytest.mark.parametrize(
    "sampler",
    [
        tinyphi.Sampler(1.5, seed=1),
        tinyphi.Sampler(0.7, top_k=9, top_p=0.9, min_p=0.02, repetition_penalty=1.2, seed=2),
    ],
)
def test_copied_proposals_leave_even_the_draws_as_they_are(make, sampler):
    model = make()
    traces = [both(model, prompt, PromptLookup(1), max_new_tokens=60, sampler=sampler) for prompt in PROMPTS]
    assert sum(step.proposed for trace in traces for step in trace.steps) > 0


def chi_square(found, expected):
    """How far counts are from what is expected, in standard deviations of the statistic.

    Rare cells are joined.
    """
    draws = sum(found.values())
    cells = {cell: share * draws for cell, share in expected.items()}
    if any(expected[cell] == 0 for cell in found):
        return float("inf")
    rare = {cell for cell, count in cells.items() if count < 5}
    pairs = [(found[cell], count) for cell, count in cells.items() if cell not in rare]
    pairs.append((sum(found[cell] for cell in rare), sum(cells[cell] for cell in rare)))
    statistic = sum((seen - count) ** 2 / count for seen, count in pairs if count > 0)
    free = sum(count > 0 for _, count in pairs) - 1
    return (statistic - free) / (2 * free) ** 0.5


def always_accept(wanted, given, proposed, generator):
    return proposed


def redraw_from_all(wanted, given, proposed, generator):
    """The rule without its second half: rejected tokens are replaced by any token of the model's."""
    luck = torch.rand((), generator=generator)
    return proposed if luck * given[proposed] < wanted[proposed] else int(wanted.multinomial(1))


def judged(rule, wanted, given, draws=4000):
    generator = torch.Generator().manual_seed(7)
    torch.manual_seed(8)
    proposed = given.multinomial(draws, replacement=True, generator=generator).tolist()
    found = Counter(rule(wanted, given, token, generator) for token in proposed)
    return chi_square(found, dict(enumerate(wanted.tolist())))


PAIRS = [
    ([0.1, 0.2, 0.3, 0.4, 0.0], [0.4, 0.3, 0.2, 0.0, 0.1]),
    ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]),
    ([0.25, 0.75], [0.25, 0.75]),
    ([0.0, 0.9, 0.1], [0.2, 0.3, 0.5]),
]


@pytest.mark.parametrize(("wanted", "given"), PAIRS)
def test_the_rule_gives_the_wanted_distribution(wanted, given):
    wanted, given = torch.tensor(wanted), torch.tensor(given)
    assert judged(accept_or_redraw, wanted, given) < 4


@pytest.mark.parametrize("rule", [always_accept, redraw_from_all])
def test_a_wrong_rule_would_be_noticed(rule):
    wanted, given = torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert judged(accept_or_redraw, wanted, given) < 4
    assert judged(rule, wanted, given) > 10


def test_the_rule_accepts_as_often_as_is_possible():
    wanted, given = (torch.tensor(each) for each in PAIRS[0])
    generator = torch.Generator().manual_seed(1)
    tokens = given.multinomial(4000, replacement=True, generator=generator).tolist()
    accepted = sum(accept_or_redraw(wanted, given, token, generator) == token for token in tokens)
    share = float(torch.minimum(wanted, given).sum())  # Leviathan et al., theorem 3.5
    assert abs(accepted / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_distributions_that_differ_by_rounding_alone_can_be_judged(monkeypatch):
    wanted, given = torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5 + 2**-23])
    monkeypatch.setattr(torch, "rand", lambda *given, **more: torch.tensor(1 - 2**-24))  # rejected by a hair
    assert not (wanted > given).any()
    assert accept_or_redraw(wanted, given, 1, torch.Generator().manual_seed(0)) in (0, 1)


SAMPLER = tinyphi.Sampler(1.3, top_p=0.95, repetition_penalty=1.3)


@pytest.fixture(scope="module")
def tiny(make):
    """A model of four tokens, a draft that is sometimes right, and the chance of every text of three."""
    shape = {
        "vocab_size": 4,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
    }
    model, draft = make(0.25, **shape), similar(make(0.25, **shape), 0.15)
    chances = {(): 1.0}
    for _ in range(3):
        longer = {}
        for text, chance in chances.items():
            ids = torch.tensor([[1, 2, *text]])
            choice = SAMPLER.choose(prefill(model, ids, model.new_cache()), ids, NEVER)
            for token, share in enumerate(final_distribution(choice).tolist()):
                longer[(*text, token)] = chance * share
        chances = longer
    return model, draft, chances


def sampled(tiny, draws=800):
    """Texts of three tokens, and how many tokens were proposed and accepted."""
    model, draft, chances = tiny
    draft, found, proposed, accepted = DraftModel(draft, tokens=2), Counter(), 0, 0
    for seed in range(draws):
        trace = tinyphi.GenerationTrace()
        sampler = replace(SAMPLER, seed=seed)
        tinyphi.generate(model, [1, 2], max_new_tokens=3, sampler=sampler, draft=draft, trace=trace)
        found[tuple(step.id for step in trace.steps)] += 1
        proposed, accepted = proposed + trace.proposed, accepted + sum(s.proposed for s in trace.steps)
    return chi_square(found, chances), accepted / proposed


def test_sampled_texts_follow_the_model_s_distribution(tiny):
    distance, accepted = sampled(tiny)
    assert distance < 4
    assert 0.3 < accepted < 0.98  # so that both halves of the rule were at work


def test_accepting_everything_would_be_noticed(tiny, monkeypatch):
    monkeypatch.setattr(speculative, "accept_or_redraw", always_accept)
    assert sampled(tiny, 300)[0] > 10


def test_the_same_seed_gives_the_same_text(make):
    model = make()
    draft = DraftModel(similar(model))

    def run(seed):
        sampler = tinyphi.Sampler(1.2, seed=seed)
        return tinyphi.generate(model, PROMPTS[0], max_new_tokens=20, sampler=sampler, draft=draft).ids

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1, 2]),
        ([1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], [5, 1, 2, 3]),  # the last time counts
        ([8, 1, 2, 1, 2, 1, 2], [1, 2, 1, 2]),  # the copy goes on with itself
        ([7, 7, 7, 7], [7, 7, 7, 7]),
        ([1, 2, 3, 4, 5, 2, 3], []),
        ([1, 2, 3], []),
        ([1], []),
    ],
)
def test_what_a_lookup_copies(text, copied):
    proposal = PromptLookup().propose(torch.tensor(text), 4, tinyphi.Greedy(), NEVER)
    assert (proposal.ids.tolist(), proposal.chances) == (copied, None)


def test_a_draft_model_proposes_what_it_would_write(make):
    model = make()
    draft = DraftModel(model, tokens=6)
    for text in ([3, 1, 4], [3, 1, 4, 1, 5], [3, 1], [9, 9], [3], [3, 1, 4, 1, 5, 9, 2, 6]):
        proposal = draft.propose(torch.tensor(text), 6, tinyphi.Greedy(), NEVER)
        assert proposal.ids.tolist() == tinyphi.generate(model, text, max_new_tokens=6).ids[0]
        assert torch.equal(proposal.chances.argmax(-1), proposal.ids)


def test_after_an_interruption_the_same_draft_goes_on(make, monkeypatch):
    model = make()
    draft, steps = DraftModel(similar(model)), []
    original, calls = Attention.forward, []

    def interrupted(self, *given):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return original(self, *given)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Attention, "forward", interrupted)
        for step in tinyphi.stream(model, PROMPTS[0], max_new_tokens=30, draft=draft):
            steps.append(step.id)
    assert 0 < len(steps) < 30
    both(model, PROMPTS[0], draft, max_new_tokens=30)


def test_a_draft_of_one_s_own(make):
    class Sevens:
        tokens = 5

        def propose(self, ids, count, sampler, generator):
            return Proposal(torch.full((count,), 7), None)

    trace = both(make(), PROMPTS[0], Sevens(), max_new_tokens=20)
    assert trace.proposed > 0


def test_lookahead_hands_out_what_decode_one_would(make):
    model = make()
    cache, plain = model.new_cache(), model.new_cache()
    ids = torch.tensor([PROMPTS[3]])
    prefill(model, ids, cache)
    prefill(model, ids, plain)
    ahead = Lookahead(model, cache, PromptLookup(), tinyphi.Greedy(), NEVER)
    for token in (9, 7, 8, 3, 9, 7, 1):  # right, right, right, wrong, …
        ids = torch.cat((ids, torch.tensor([[token]])), dim=1)
        expected = decode_one(model, ids[:, -1], plain)
        torch.testing.assert_close(ahead.decode_one(ids, 3, None), expected, atol=1e-5, rtol=1e-5)


def test_what_does_not_fit_is_refused(make):
    model = make()
    for call in (tinyphi.generate, tinyphi.stream):
        with pytest.raises(InputError, match="one prompt"):
            call(model, PROMPTS, draft=PromptLookup())
        with pytest.raises(InputError, match="4 tokens and the model 61"):
            call(model, [1], draft=DraftModel(make(vocab_size=4)))
        for nonsense in (model, "lookup", PromptLookup):
            with pytest.raises(InputError, match="PromptLookup"):
                call(model, [1], draft=nonsense)
    for wrong in (0, -1, 1.5, None, True):
        for setting in ("ngram", "tokens"):
            with pytest.raises(InputError, match=setting):
                PromptLookup(**{setting: wrong})
        with pytest.raises(InputError, match="tokens"):
            DraftModel(model, wrong)


def test_a_broken_draft_model_is_told(make):
    broken = make()
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match=r"draft model.*NaN"):
        tinyphi.generate(make(), [1, 2], draft=DraftModel(broken))


def test_the_command_line_takes_a_draft(make, monkeypatch, capsys):
    model, asked, used, stream = make(), [], [], tinyphi.stream

    def watched(*given, draft, **more):
        used.append(type(draft))
        return stream(*given, draft=draft, **more)

    monkeypatch.setattr(tinyphi, "load", lambda source, **how: (model, Letters()), raising=False)
    monkeypatch.setattr(
        tinyphi, "load_model", lambda source, **how: asked.append(source) or model, raising=False
    )
    monkeypatch.setattr(tinyphi, "stream", watched)
    outputs = []
    for more in ([], ["--draft", "lookup"], ["--draft", "some/model"]):
        assert cli.main(["generate", "hello", "--max-tokens", "20", *more]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2] != ""
    assert (used, asked) == ([type(None), PromptLookup, DraftModel], ["some/model"])


@pytest.mark.slow
def test_float32_texts_of_the_real_model_are_the_same():
    """64 tokens each, alone and with drafts; no near tie is met on the way."""
    try:
        model, tokenizer = tinyphi.load("smollm2-135m")
    except FetchError as error:
        pytest.skip(f"the real model cannot be fetched here: {error}")
    code = "def area(width, height):\n    return width * height\n\n\ndef length(width, height):\n    return"
    question = {"role": "user", "content": f"Repeat this program:\n\n{code}"}
    prompts = [
        tokenizer.encode_chat([question]),
        tokenizer.encode("Once upon a time, in a small village by the sea,"),
        tokenizer.encode("1, 1, 2, 3, 5, 8, 13,"),
        tokenizer.encode(code),
    ]
    worse = DraftModel(copy.deepcopy(model).bfloat16())
    for number, prompt in enumerate(prompts):
        wanted = tinyphi.generate(model, prompt, max_new_tokens=64).ids
        drafts = [PromptLookup(2)] + [worse] * (number == 1)
        for draft in drafts:
            trace = tinyphi.GenerationTrace()
            assert tinyphi.generate(model, prompt, max_new_tokens=64, draft=draft, trace=trace).ids == wanted
            assert any(step.proposed for step in trace.steps)
