"""The time machine: its digest, what it sends to the browser, and how right the sum of the others stays."""

import base64
import math
from types import SimpleNamespace

import pytest
import torch

import tinyphi
from tinyphi.errors import InputError
from tinyphi.generation.decode import GenerationTrace, Lens, Step
from tinyphi.show import generation
from tinyphi.show.generation import TOP, _distribution, _groups

VOCABULARY = 3000
GREEDY = tinyphi.Greedy()


def random_logits(seed, vocabulary=VOCABULARY):
    return 3 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed))


def random_trace(count, sampler=GREEDY, layers=0, vocabulary=VOCABULARY):
    trace = GenerationTrace([[1, 2, 3]], [[]], sampler)
    for number in range(count):
        logits = random_logits(number, vocabulary)
        choice = sampler.choose(logits, torch.tensor([[1, 2]]), torch.Generator().manual_seed(number))
        chosen, cuts = int(choice.ids[0]), {name: cut[0] for name, cut in choice.cuts.items()}
        lens = None
        if layers:
            ids = (chosen + torch.arange(layers - 1, -1, -1)[:, None] + torch.arange(5)) % vocabulary
            lens = Lens(ids, torch.rand(layers, 5, generator=torch.Generator().manual_seed(number)))
        trace.rows[0].append(
            Step(
                chosen, "", choice.before_temperature[0], choice.logits[0], choice.kept[0], cuts,
                2000 * number, 0.1, lens,
            )
        )  # fmt: skip
    return trace


def unpacked(packed):
    dtype = {"float32": torch.float32, "int32": torch.int32, "float16": torch.float16}[packed["dtype"]]
    raw = bytearray(base64.b64decode(packed["base64"]))
    return torch.frombuffer(raw, dtype=dtype).reshape(packed["shape"])


TRACES = {
    "greedy": lambda: random_trace(10),
    "sampled": lambda: random_trace(10, tinyphi.Sampler(1.3, top_k=40, top_p=0.9, min_p=0.01, seed=1)),
    "one step": lambda: random_trace(1),
    "with the lens": lambda: random_trace(5, layers=4),
    "a small vocabulary": lambda: random_trace(3, vocabulary=2),
    "long": lambda: random_trace(200),
}


@pytest.mark.parametrize("name", TRACES)
def test_its_faces(name, examine, strange):
    view = examine(lambda: generation(TRACES[name](), strange))
    assert set(view._repr_mimebundle_()[0]) == {"text/plain", "image/png"}


def step(logits, chosen, kept, lens=None):
    logits = torch.tensor(logits)
    return Step(chosen, "", logits, logits, torch.tensor(kept), {}, 3 * 1024, 0.1, lens)


def test_the_digest_has_a_row_for_each_step():
    two = [step([0.0, math.log(3)], 1, [False, True])] * 2
    text = generation(GenerationTrace(rows=[two]), "ab".__getitem__).text.splitlines()
    assert text[0] == "2 steps"
    assert text[1].split() == ["step", "prob.", "bits", "cut", "cache", "id", "token"]
    assert text[3].split() == ["1", "0.750", "0.81", "0.250", "3.0", "KiB", "1", "b"]


@pytest.mark.parametrize(
    ("best", "settled"), [([1, 1, 1], "0"), ([0, 1, 1], "1"), ([1, 0, 1], "2"), ([1, 1, 0], "–")]
)
def test_the_digest_says_from_which_layer_on_the_lens_shows_the_token(best, settled):
    lens = Lens(torch.tensor(best)[:, None], torch.ones(3, 1))
    text = generation(
        GenerationTrace(rows=[[step([0.0, 1.0], 1, [True, True], lens)]]), "ab".__getitem__
    ).text
    assert "settled" in text.splitlines()[1]
    assert text.splitlines()[2].split()[6] == settled


def test_a_long_generation_says_what_is_left_out(strange):
    view = generation(TRACES["long"](), strange)
    assert view.text.startswith("200 steps, the last 64 shown\n")
    assert len(view.text.splitlines()) == 2 + 64
    assert len(view.text) < 9000


def test_hundreds_of_steps_with_the_lens_stay_below_three_megabytes():
    view = generation(random_trace(520, layers=32, vocabulary=32064), lambda token: f" token{token}")
    assert view.live.data["first"] == 20
    assert len(view.html().encode()) < 3_000_000


def test_the_browser_gets_the_best_logits_of_equals_the_lower_id():
    logits = torch.tensor([1.0, 3.0, 3.0, -math.inf])
    (ids, values), _ = _distribution(logits)
    assert ids.tolist() == [1, 2, 0, 3]
    assert values.tolist() == [3.0, 3.0, 1.0, -197.0]  # what JSON and the browser can hold


def test_the_settings_are_those_of_the_sampler(strange):
    data = generation(TRACES["sampled"](), strange).live.data
    cuts = {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    assert data["settings"] == {**cuts, "repetition_penalty": 1.0, "greedy": False}
    assert generation(TRACES["greedy"](), strange).live.data["settings"]["greedy"] is True
    assert (
        generation(GenerationTrace(rows=TRACES["one step"]().rows), strange).live.data["settings"]["greedy"]
        is False
    )


def test_the_texts_of_all_shown_tokens_are_sent(strange):
    view = generation(TRACES["with the lens"](), strange)
    shown = {*unpacked(view.live.data["ids"]).flatten().tolist(), *view.live.data["chosen"]}
    shown |= set(unpacked(view.live.data["lens"]["ids"]).flatten().tolist())
    assert set(view.live.data["texts"]) == shown


def test_the_groups_are_all_ranks_below_the_top():
    for vocabulary in (1, TOP, TOP + 1, 3000, 200_064):
        ranks = [rank for start, end in _groups(vocabulary) for rank in range(start, end)]
        assert ranks == list(range(min(TOP, vocabulary), vocabulary))
    assert len(_groups(49152)) == 30


def estimate(logits, temperature):
    """The sum over the vocabulary as show/js/generation.js finds it, as a logarithm."""
    (_, top), others = _distribution(logits)
    edge, terms = top[-1].item() / temperature, (top.double() / temperature).tolist()
    for (start, end), (centre, spread) in zip(_groups(len(logits)), others.tolist(), strict=True):
        middle = min(centre / temperature + spread / temperature**2 / 2, edge)
        terms.append(math.log(end - start) + middle)
        edge = centre / temperature
    return torch.tensor(terms).double().logsumexp(0).item()


def error(logits, temperature):
    exact = (logits.double() / temperature).logsumexp(0).item()
    return abs(math.expm1(estimate(logits, temperature) - exact))


TEMPERATURES = [0.1, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("slope", [1.0, 2.0, 3.0])
def test_the_sum_of_the_others_is_right_to_one_part_in_50_000(temperature, slope):
    """Logits fall about with the logarithm of the rank in a real model, with outliers at the far end."""
    ranks = torch.arange(1, 49153)
    noise = 0.3 * torch.randn(49152, generator=torch.Generator().manual_seed(0))
    logits = 20 - slope * ranks.log() + noise
    logits[-5:] = -40.0
    assert error(logits, temperature) < 2e-5


@pytest.mark.slow
def test_so_it_is_on_a_real_model():
    model, tokenizer = tinyphi.load("smollm2-135m")
    with torch.no_grad():
        rows = model(torch.tensor([tokenizer.encode("Once upon a time there was a llama called")]))[0]
    assert max(error(logits, temperature) for temperature in TEMPERATURES for logits in rows) < 2e-5


def test_outliers_far_below_their_group_promise_nothing():
    """Half of a group is nothing: without the bound by the group before, its spread would promise much."""
    logits = torch.linspace(10, 9, 3000)
    start, end = _groups(3000)[-1]
    logits[(start + end) // 2 :] = -150.0
    centre, spread = _distribution(logits)[1][-1].tolist()
    assert math.exp(centre / 0.2 + spread / 0.2**2 / 2 - 10 / 0.2) > 1000
    assert error(logits, 0.2) < 0.05
    assert error(torch.full((3000,), 2.5), 0.2) < 2e-5


@pytest.mark.parametrize("bad", [GenerationTrace(), None, [1, 2], SimpleNamespace(steps=[])])
def test_what_is_no_trace_is_refused(bad, strange):
    with pytest.raises(InputError):
        generation(bad, strange)
