"""The small web: what is worth reading says so, and is about three pages in ten."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tinyphi.data.synthetic import web
from tinyphi.data.synthetic.lessons import lesson
from tinyphi.data.synthetic.web import web_page
from tinyphi.data.synthetic.world import World

# How a reader knows a page of each kind, but for articles.
SIGNS = {
    "advertisement": r"BUY NOW!!!|% today\.",
    "results": r"Results of round \d+: (\w+ \d : \d \w+( \| )?){4,7}",
    "gossip": r"omg|I heard that|, says |haha|lol",
    "boilerplate": r"cookies|All rights reserved|newsletter",
    "keywords": r"(?!.*[.!?])(\w+ ){39,}\w+",
}


@given(some.integers(0, 2**32))
def test_what_is_worth_reading_is_an_article(seed):
    page = web_page(World(), random.Random(seed))
    assert page == web_page(World(), random.Random(seed))
    assert page.educational is (page.kind == "article")
    assert page.text.strip() == page.text != "" and "{" not in page.text
    is_like = {kind for kind, sign in SIGNS.items() if re.match(f"(?s).*?({sign})", page.text)}
    assert is_like == ({page.kind} if page.kind != "article" else set())


def test_three_in_ten_are_worth_reading(world):
    chance = random.Random(0)
    kinds = Counter(web_page(world, chance).kind for _ in range(5000))
    assert kinds["article"] / 5000 == pytest.approx(0.3, abs=0.025)
    assert kinds.keys() == {*SIGNS, "article"} and min(kinds.values()) > 300
    assert sum(web._KINDS.values()) == pytest.approx(1)


def test_articles_wear_the_clothes_of_the_web(world):
    texts = [web._dressed(lesson(world, random.Random(seed)), random.Random(seed)) for seed in range(200)]
    plain = [lesson(world, random.Random(seed)) for seed in range(200)]
    assert all(text in dressed for text, dressed in zip(plain, texts, strict=True))
    assert 0.6 < sum(text != dressed for text, dressed in zip(plain, texts, strict=True)) / 200 < 0.9
