"""Mixtures keep their weights, spend their budgets, and go on exactly where they stopped."""

import json
import warnings
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data.mixture import Mixture, Phase, rough_tokens
from tinyphi.errors import InputError


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    found = {}
    for name, count in (("web", 60), ("books", 20), ("made", 9)):
        (folder / name).mkdir()
        for part in range(2):
            lines = [json.dumps({"text": f"{name} {part} {i} " + "x" * (7 * i % 50)}) for i in range(count)]
            (folder / name / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        found[name] = [folder / name]
    return found


PHASES = [
    Phase("one", 400, {"web": 3, "books": 1}),
    Phase("two", 300, {"web": 1, "books": 1, "made": 2}),
]


def drawn(mixture, count=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(islice(mixture, count))


def test_each_source_gets_its_share_of_each_phase(sources):
    found = drawn(Mixture(sources, PHASES))
    for phase in PHASES:
        read = {}
        for one in found:
            if one.phase == phase.name:
                read[one.source] = read.get(one.source, 0) + rough_tokens(one.document.text)
        assert phase.tokens <= sum(read.values()) < phase.tokens + 20
        for name, weight in phase.weights.items():
            assert abs(read[name] - sum(read.values()) * weight / sum(phase.weights.values())) < 20
        assert read.keys() == phase.weights.keys()


def test_a_source_is_read_in_order_and_on_in_the_next_phase(sources):
    texts = [one.document.text for one in drawn(Mixture(sources, PHASES)) if one.source == "web"]
    assert [text.split()[1:3] for text in texts] == [["0", str(i)] for i in range(60)][: len(texts)]


@settings(deadline=None)  # the machine may be busy
@given(some.integers(0, 80))
def test_it_goes_on_where_it_stopped(sources, stop):
    whole = drawn(Mixture(sources, PHASES))
    first = Mixture(sources, PHASES)
    begun = drawn(first, stop)
    second = Mixture(sources, PHASES)
    second.restore(json.loads(json.dumps(first.state())))
    assert begun + drawn(second) == whole


def test_a_source_that_runs_out_is_read_again_with_a_warning(sources):
    mixture = Mixture({"made": sources["made"]}, [Phase("only", 300, {"made": 1})])
    with pytest.warns(UserWarning, match="'made' has run out and is read again, for the 2. time"):
        found = list(mixture)
    assert found[18].epoch == 2 and found[17].epoch == 1
    assert found[18].document == found[0].document


def test_tokens_are_counted_by_the_given_function(sources):
    found = list(Mixture(sources, [Phase("p", 12, {"web": 1, "books": 1})], count=lambda text: 1))
    assert [one.source for one in found] == ["web", "books"] * 6


def test_what_cannot_work_is_refused(sources, tmp_path):
    with pytest.raises(InputError, match="reads 'news'"):
        Mixture(sources, [Phase("p", 10, {"news": 1})])
    for tokens, weights in ((0, {"web": 1}), (10, {}), (10, {"web": 0})):
        with pytest.raises(InputError, match="weights above 0"):
            Phase("p", tokens, weights)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InputError, match="has no document"):
        list(Mixture({"empty": [tmp_path / "empty.txt"]}, [Phase("p", 10, {"empty": 1})]))
    with pytest.raises(InputError, match="no state"):
        Mixture(sources, PHASES).restore({"phase": 1})
    with pytest.raises(InputError, match="the sources are"):
        Mixture({"web": sources["web"]}, PHASES[:0]).restore(Mixture(sources, PHASES).state())
