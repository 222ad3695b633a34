"""Pages for looking up: whatever is said to be known stands in the page before, and in one way only."""

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.packing import partly_example
from tinyphi.data.synthetic import lookup
from tinyphi.data.synthetic.lookup import PAGES, lookup_page

seeds = some.integers(0, 2**32)


def text_of(parts):
    return "".join(part.text for part in parts)


@given(seeds)
def test_pairs_are_known_the_second_time(seed):
    seen = {}
    parts = lookup.pairs_page(random.Random(seed))
    for before, word, _ in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        key = before.text
        assert word.known == (key in seen) and seen.setdefault(key, word.text) == word.text


@given(seeds)
def test_notes_are_asked_for_as_they_stand(seed):
    parts = lookup.notes_page(random.Random(seed))
    notes = dict(
        re.findall(r"(\w+) has (\d+) \w+\.", text_of(part for part in parts if "?" not in part.text))
    )
    asked = re.findall(r"How many \w+ has (\w+)\? (\w+) has (\d+) ", text_of(parts))
    assert len(asked) == 2 * len(notes)
    assert all(name == said and notes[name] == number for name, said, number in asked)
    assert [part.text.strip() for part in parts if part.known] == [number for *_, number in asked]


@given(seeds)
def test_places_and_owners_are_those_of_the_page(seed):
    page = text_of(lookup.places_page(random.Random(seed)))
    put = re.findall(r"(\w+) (?:put|left|hid) the (\w+) in(?:to)? the (\w+)\.", page)
    where = {thing: place for _, thing, place in put}
    who = {thing: name for name, thing, _ in put}
    places = re.findall(r"Where is the (\w+)\? The \1 is in the (\w+)\.", page)
    owners = re.findall(r"Who had the (\w+)\? (\w+) had the \1\.", page)
    assert len(places) + len(owners) == 2 * len(put)
    assert all(where[thing] == place for thing, place in places)
    assert all(who[thing] == name for thing, name in owners)


@given(seeds)
def test_a_list_is_said_twice(seed):
    page = text_of(lookup.list_page(random.Random(seed)))
    first, second = re.fullmatch(r"Say this list twice: (.+)\. Once more: (.+)\.", page).groups()
    assert first == second and 2 <= first.count(",") < 24


@given(seeds)
def test_a_thing_stays_in_its_place(seed):
    parts = lookup.where_page(random.Random(seed))
    where = {}
    for before, place, _ in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        thing = re.search(r"[Tt]he (\w+) (?:is )?in(?:to)? the$", before.text)[1]
        assert place.known == (thing in where) and where.setdefault(thing, place.text) == place.text


@given(seeds)
def test_the_friend_who_was_named_is_named_again(seed):
    parts = lookup.friend_page(random.Random(seed))
    named = re.findall(r"The best friend of (\w+) is (\w+)\. (\w+) \w+ the \w+\.", text_of(parts))
    assert 6 <= len(named) == len(parts) / 3
    assert all(asked != friend == again for asked, friend, again in named)
    assert [part.text.strip() for part in parts if part.known] == [friend for _, friend, _ in named]


@given(seeds)
def test_a_thing_keeps_its_owner(seed):
    parts = lookup.who_page(random.Random(seed))
    told = re.findall(r"(\w+) (?:put|hid|has) the (\w+)", text_of(parts))
    who = {thing: name for name, thing in told}
    assert all(who[thing] == name for name, thing in told)
    for asked, name in itertools.pairwise(parts):
        assert not name.known or who[re.search(r"[Tt]he (\w+)", asked.text)[1]] == name.text.strip()


def test_belongings_are_asked_for_in_three_ways():
    pages = [text_of(lookup.belongings_page(random.Random(seed))) for seed in range(60)]
    assert not any(page.startswith(" ") for page in pages)
    for asks in (r"Who had", r"The \w+ is that of", r"Where is"):
        assert sum(bool(re.search(asks, page)) for page in pages) > 8


@pytest.mark.parametrize("page", [*PAGES, lookup.where_page, lookup.who_page, lookup.friend_page])
def test_a_page_is_learnt_in_its_known_parts_only(page, world_tokenizer, monkeypatch):
    monkeypatch.setattr(lookup, "PAGES", {page: 1})
    for seed in range(20):
        parts = lookup_page(random.Random(seed))
        example = partly_example(world_tokenizer, parts)
        ids = [token for token, known in zip(example.ids, example.counted, strict=True) if known][:-1]
        known = text_of(part for part in parts if part.known)
        assert world_tokenizer.decode(ids).split() == known.split()
        assert not text_of(parts).startswith(" ")
