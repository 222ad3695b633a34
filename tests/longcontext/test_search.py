"""The search on a cheap fitness with a known optimum, its state file, and the real fitness."""

import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import tinyphi
from tinyphi.config import PhiConfig
from tinyphi.errors import ConfigError, InputError
from tinyphi.longcontext import search as search_module
from tinyphi.longcontext.extension import METHODS, Extension, extended
from tinyphi.longcontext.search import SMOLLM2_12K, PerplexityFitness, SearchResult, Sizes, replay, search

CONFIG = PhiConfig(
    vocab_size=61,
    hidden_size=64,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    original_max_position_embeddings=64,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
LENGTH = 128
BEST = (1.0, 1.0, 1.1, 1.3, 1.6, 1.9, 2.2, 2.4)  # what the cheap fitness is looking for
SMALL = Sizes(population=12, generations=6, parents=6, mutations=6, crossovers=6)


def distance(extension):
    """Least at BEST and 16 start tokens."""
    far = sum((mine - best) ** 2 for mine, best in zip(extension.factors, BEST, strict=True))
    return 1 + far + 0.001 * abs(extension.start_tokens - 16)


class Counted:
    """A fitness that lists what it was asked, and stops like Ctrl-C at the n-th question."""

    def __init__(self, stop=None, fingerprint="distance"):
        self.asked, self.stop, self.fingerprint = [], stop, fingerprint

    def __call__(self, extension):
        if len(self.asked) == self.stop:
            raise KeyboardInterrupt
        self.asked.append(extension)
        return distance(extension)


def test_the_search_comes_near_the_optimum_and_beats_its_baselines():
    result = search(CONFIG, LENGTH, distance, Sizes(), seed=1)
    assert sum(map(len, result.generations)) == 1344
    assert result.best.perplexity < 1.03
    assert result.best.perplexity < min(judged.perplexity for judged in result.baselines.values())
    best_so_far = [min(judged.perplexity for judged in generation) for generation in result.generations]
    assert min(best_so_far[20:]) < min(best_so_far[:3])
    assert "found" in str(result) and "generation 40" in str(result)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from([65, 100, 128, 1000]), st.sampled_from([(0,), (0, 4, 16)]))
def test_every_candidate_keeps_the_rules_and_is_asked_once(seed, length, start_tokens):
    fitness = Counted()
    result = search(CONFIG, length, fitness, replace(SMALL, start_tokens=start_tokens), seed)
    candidates = [judged.extension for generation in result.generations for judged in generation]
    assert fitness.asked == [*(judged.extension for judged in result.baselines.values()), *candidates]
    assert len(set(candidates)) == len(candidates)
    largest = 1.25 * length / 64
    for candidate in candidates:
        assert list(candidate.factors) == sorted(candidate.factors)
        assert candidate.factors[0] >= 1 and candidate.factors[-1] <= largest + 1e-9
        assert all(math.isclose(100 * factor, round(100 * factor)) for factor in candidate.factors)
        assert candidate.start_tokens in start_tokens
        assert candidate.attention_factor == math.sqrt(1 + math.log(length / 64) / math.log(64))


def test_a_planted_crossover_without_the_monotonic_rule_is_noticed(monkeypatch):
    def new(self, factors, start_tokens):
        return search_module._Candidate(tuple(factors), start_tokens)

    monkeypatch.setattr(search_module._Nursery, "_new", new)
    result = search(CONFIG, LENGTH, distance, replace(SMALL, mutations=0, generations=20), seed=0)
    candidates = [judged.extension.factors for generation in result.generations for judged in generation]
    assert any(list(factors) != sorted(factors) for factors in candidates)
    assert len(set(candidates)) < len(candidates)


def test_the_population_starts_from_the_three_methods():
    result = search(CONFIG, LENGTH, distance, SMALL)
    for judged, name in zip(result.generations[0], ("PI", "NTK", "YaRN"), strict=False):
        exact = METHODS[name](CONFIG, LENGTH)
        assert result.baselines[name] == (exact, distance(exact))
        assert judged.extension.factors == pytest.approx(exact.factors, abs=0.0051)


def test_the_seed_decides():
    first, again, other = (search(CONFIG, LENGTH, distance, SMALL, seed) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("stop", [0, 2, 3, 14, 40, 86])
def test_a_search_that_was_interrupted_ends_as_one_that_was_not(stop, tmp_path):
    state, whole = tmp_path / "state.json", Counted()
    expected = search(CONFIG, LENGTH, whole, SMALL, 5)
    assert len(whole.asked) == 3 + 12 + 6 * 12
    with pytest.raises(KeyboardInterrupt):
        search(CONFIG, LENGTH, Counted(stop), SMALL, 5, state)
    rest = Counted()
    assert search(CONFIG, LENGTH, rest, SMALL, 5, state) == expected
    assert rest.asked == whole.asked[stop:]  # only the running evaluation is lost
    done = Counted()
    assert search(CONFIG, LENGTH, done, SMALL, 5, state) == expected and done.asked == []
    assert replay(state) == expected
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_more_generations_can_be_added(tmp_path):
    state, fitness = tmp_path / "state.json", Counted()
    search(CONFIG, LENGTH, fitness, replace(SMALL, generations=2), 5, state)
    assert search(CONFIG, LENGTH, fitness, SMALL, 5, state) == search(CONFIG, LENGTH, distance, SMALL, 5)
    assert len(fitness.asked) == len(set(fitness.asked))


def test_a_state_of_another_search_is_refused(tmp_path):
    state = tmp_path / "state.json"
    with pytest.raises(InputError, match="not the state of a search"):
        replay(state)
    with pytest.raises(KeyboardInterrupt):
        search(CONFIG, LENGTH, Counted(9), SMALL, 5, state)
    with pytest.raises(InputError, match="not finished"):
        replay(state)
    with pytest.raises(InputError, match="another fitness"):
        search(CONFIG, LENGTH, Counted(fingerprint="other texts"), SMALL, 5, state)
    with pytest.raises(InputError, match="another length"):
        search(CONFIG, 200, Counted(), SMALL, 5, state)
    with pytest.raises(InputError, match="another config"):
        search(replace(CONFIG, rope_theta=5e4), LENGTH, Counted(), SMALL, 5, state)


@pytest.mark.parametrize(
    "change", ["[]", "{", '{"search": {}}', '{"search": 3}', "evaluated", "baselines", "sizes"]
)
def test_a_damaged_state_is_refused(change, tmp_path):
    state = tmp_path / "state.json"
    search(CONFIG, LENGTH, Counted(), SMALL, 5, state)
    content = json.loads(state.read_text())
    if change in content:
        content[change] = {"PI": "x"} if change == "baselines" else [[1, 2]]
        change = json.dumps(content)
    elif change in content["search"]:
        content["search"][change] = {"start_tokens": [0], "nonsense": 1}
        change = json.dumps(content)
    state.write_text(change)
    with pytest.raises(InputError, match="not the state of a search"):
        replay(state)


def test_a_state_that_cannot_be_written_is_said_to_be_before_the_work(tmp_path):
    fitness = Counted()
    with pytest.raises(InputError, match="cannot be written"):
        search(CONFIG, LENGTH, fitness, SMALL, 5, tmp_path / "nowhere" / "state.json")
    assert fitness.asked == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((64, distance), "reads 64 tokens"),
        ((128.5, distance), "reads 64 tokens"),
        ((128, lambda extension: math.nan), "finite"),
        ((128, lambda extension: math.inf), "finite"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(InputError, match=words):
        search(CONFIG, *arguments, SMALL)


@pytest.mark.parametrize(
    "sizes",
    [
        {"population": 1},
        {"parents": 1},
        {"generations": -1},
        {"mutations": 1.5},
        {"crossovers": -1},
        {"probability": 0},
        {"probability": 1.1},
        {"probability": "x"},
        {"start_tokens": ()},
        {"start_tokens": (1.5,)},
    ],
)
def test_impossible_sizes(sizes):
    with pytest.raises(InputError, match=next(iter(sizes))):
        Sizes(**sizes)


def test_a_single_candidate_has_no_children():
    still = replace(CONFIG, max_position_embeddings=65, long_factor=(1.0,) * 8, short_factor=(1.0,) * 8)
    sizes = replace(SMALL, probability=1e-12, start_tokens=(0,))
    assert [len(row) for row in search(still, 64, distance, sizes).generations] == [1] + [0] * 6


def test_a_space_that_runs_out_ends_quietly():
    tiny = replace(CONFIG, partial_rotary_factor=0.125)  # one pair: 26 candidates up to 1.25
    sizes = Sizes(population=30, generations=3, start_tokens=(0,))
    result = search(tiny, 65, lambda extension: extension.factors[0], sizes)
    assert sum(map(len, result.generations)) <= 27


def test_the_search_that_ships_beats_what_it_started_from():
    result = replay(SMOLLM2_12K)
    assert (result.config.original_max_position_embeddings, result.length) == (8192, 12288)
    assert result.best.perplexity < min(judged.perplexity for judged in result.baselines.values())
    first = min(judged.perplexity for judged in result.generations[0])  # YaRN, sharpened
    assert result.best.perplexity < first
    assert result.config_with(result.config).long_factor == result.best.extension.factors


# --- a model that has long factors already ---

EXTENDED = replace(CONFIG, max_position_embeddings=128, long_factor=BEST, short_factor=(1.0,) * 8)
SAVABLE = replace(SMALL, start_tokens=(0,))


def test_an_extended_model_is_extended_further(tmp_path):
    result = search(EXTENDED, 256, distance, SAVABLE, 2, tmp_path / "state.json")
    twice, whole = replace(CONFIG, original_max_position_embeddings=128), METHODS["YaRN"](CONFIG, 256)
    for name, judged in result.baselines.items():
        more = METHODS[name](twice, 256).factors
        assert judged.extension.factors == pytest.approx([a * b for a, b in zip(BEST, more, strict=True)])
    assert result.baselines["YaRN"].extension.attention_factor == whole.attention_factor
    assert result.generations[0][0].extension.factors[-1] == pytest.approx(2 * BEST[-1])
    config = result.config_with(EXTENDED)
    assert (config.original_max_position_embeddings, config.max_position_embeddings) == (64, 256)
    assert config.long_factor == result.best.extension.factors
    assert result.best.extension.attention_factor == config.attention_factor
    assert replay(tmp_path / "state.json") == result


def test_short_factors_of_an_extended_model(tmp_path):
    def fitness(extension):
        return 1 + sum((factor - 1.3) ** 2 for factor in extension.factors)

    result = search(EXTENDED, 48, fitness, SAVABLE, 2, tmp_path / "state.json")
    starts = {name: judged.extension for name, judged in result.baselines.items()}
    assert starts["as trained"].factors == (1.0,) * 8 and starts["long"].factors == BEST
    assert starts["halfway"].factors == pytest.approx([factor**0.5 for factor in BEST])
    stretch = EXTENDED.attention_factor
    assert {judged.extension.attention_factor for row in result.generations for judged in row} == {stretch}
    assert result.best.perplexity < min(judged.perplexity for judged in result.baselines.values())
    config = result.config_with(EXTENDED)
    assert config == replace(EXTENDED, short_factor=result.best.extension.factors)
    assert replay(tmp_path / "state.json") == result


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.3, 90.0), min_size=8, max_size=8), st.sampled_from([2, 48, 64, 129, 300]))
def test_any_factors_of_a_model_are_a_start(factors, length):
    config = replace(EXTENDED, long_factor=tuple(factors))
    largest = 1.25 * max(length, 128) / 64
    for generation in search(config, length, distance, replace(SMALL, generations=1)).generations:
        for extension, _ in generation:
            assert list(extension.factors) == sorted(extension.factors)
            assert extension.factors[0] >= 1 and extension.factors[-1] <= largest + 1e-9


@pytest.mark.parametrize("length", [1, 65, 128, 90.5])
def test_what_an_extended_model_reads_already_is_refused(length):
    with pytest.raises(InputError, match=r"reads 128 tokens as it is; .* at most 64 to find short factors"):
        search(EXTENDED, length, distance, SMALL)


# --- the real fitness, and the model that comes out ---


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    made = tinyphi.Phi3(CONFIG).eval()
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3)
    return made


TEXTS = [torch.arange(150).mul(7).remainder(61).tolist(), torch.arange(140).pow(2).remainder(61).tolist()]


def test_perplexity_is_that_of_all_tokens_of_all_texts(model):
    extension = METHODS["YaRN"](CONFIG, LENGTH)
    ids = torch.tensor([text[:LENGTH] for text in TEXTS])
    with extended(model, extension), torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    fitness = PerplexityFitness(model, TEXTS, LENGTH)
    assert fitness(extension) == pytest.approx(loss.exp().item(), rel=1e-5)
    assert model.rotation is None


def test_the_fingerprint_tells_models_and_texts_apart(model):
    known = PerplexityFitness(model, TEXTS, LENGTH).fingerprint
    assert PerplexityFitness(model, [[*text, 1] for text in TEXTS], LENGTH).fingerprint == known
    assert PerplexityFitness(model, TEXTS[:1], LENGTH).fingerprint != known
    assert PerplexityFitness(model, TEXTS, LENGTH - 1).fingerprint != known
    other = copy.deepcopy(model)
    assert PerplexityFitness(other, TEXTS, LENGTH).fingerprint == known
    tinyphi.quant.quantize(other, "int8")
    assert PerplexityFitness(other, TEXTS, LENGTH).fingerprint != known
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[0, 0] += 1
    assert PerplexityFitness(model, TEXTS, LENGTH).fingerprint != known


@pytest.mark.parametrize("texts", [[], [[1] * 127], [[1] * 128, [2] * 5]])
def test_short_texts_are_refused(model, texts):
    with pytest.raises(InputError, match="texts, the shortest"):
        PerplexityFitness(model, texts, LENGTH)


@torch.no_grad()
def test_what_was_found_opens_in_transformers_and_gives_the_same_on_both_sides(model, tmp_path):
    fitness = PerplexityFitness(model, TEXTS, LENGTH)
    result = search(CONFIG, LENGTH, fitness, replace(SMALL, generations=1, start_tokens=(0,)))
    config = result.config_with(CONFIG)
    twin = tinyphi.Phi3(config).eval()
    twin.load_state_dict(model.state_dict())
    tinyphi.save(twin, None, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    again = tinyphi.load_model(str(tmp_path / "model"))
    ids = torch.tensor(TEXTS[:1])
    for length in (40, 64, 65, 128, 140):
        mine, reference = again(ids[:, :length]), theirs(ids[:, :length]).logits
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)
    with extended(model, result.best.extension):
        torch.testing.assert_close(twin(ids), model(ids), rtol=0, atol=0)
    assert (twin(ids) - model(ids)).abs().max() > 0.1


def test_a_configuration_keeps_its_short_factors_and_cannot_have_start_tokens():
    best = Extension(BEST, 1.0).factors
    found = SearchResult(CONFIG, LENGTH, {}, [[search_module.Judged(Extension(best), 2.0)]])
    config = found.config_with(CONFIG)
    assert (config.short_factor, config.long_factor) == ((1.0,) * 8, BEST)
    assert (config.original_max_position_embeddings, config.max_position_embeddings) == (64, 128)
    assert found.config_with(replace(config, short_factor=BEST)).short_factor == BEST
    with pytest.raises(ConfigError, match="8 entries"):
        found.config_with(replace(CONFIG, partial_rotary_factor=0.5))
    started = SearchResult(CONFIG, LENGTH, {}, [[search_module.Judged(Extension(best, 1.0, 4), 2.0)]])
    with pytest.raises(InputError, match="4 start tokens"):
        started.config_with(CONFIG)
