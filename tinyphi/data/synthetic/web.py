"""Pages as the open web has them: some teach something, most sell, gossip, list and repeat; some are wrong.

Phi-3 was trained on a web filtered by educational value (arXiv 2404.14219, sec. 2); this is the web of the
small world on which that can be tried, since here it is known which page was worth reading.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

from tinyphi.data.synthetic.lessons import lesson, nature_page, people_page, village_page
from tinyphi.data.synthetic.world import FOODS, NAMES, VILLAGES, World


class WebPage(NamedTuple):
    """A page, and what only its maker knows."""

    text: str
    kind: str  # "article", "advertisement", "results", "gossip", "boilerplate" or "keywords"
    educational: bool  # whether it is worth reading: true of articles only


def web_page(world: World, chance: random.Random) -> WebPage:
    """One page of the small web: about three in ten are worth reading."""
    (make,) = chance.choices(list(_KINDS), weights=list(_KINDS.values()))
    return make(world, chance)


def _article(world: World, chance: random.Random) -> WebPage:
    """A page that teaches, in the web's clothes."""
    text = chance.choice((people_page, nature_page, village_page, lesson))(world, chance)
    return WebPage(_dressed(text, chance), "article", True)


def _advertisement(world: World, chance: random.Random) -> WebPage:
    lines = [
        f"BUY NOW!!! The best {chance.choice(FOODS)} in {chance.choice(VILLAGES)}, "
        f"only {chance.randrange(2, 99)}.{chance.randrange(10, 99)} this week!",
        f"Save {chance.randrange(10, 90)} % today. Click here. Offer ends soon!",
        f"Customers also bought: {', '.join(chance.sample(FOODS, 4))}.",
        f"Call {chance.randrange(100, 999)} {chance.randrange(1000, 9999)} for free delivery to"
        f" {chance.choice(VILLAGES)}.",
    ]
    return WebPage(" ".join(chance.sample(lines, 3)), "advertisement", False)


def _results(world: World, chance: random.Random) -> WebPage:
    """The football results of one day, which the report names as not worth a small model's weights."""
    lines = []
    for _ in range(chance.randrange(4, 8)):
        home, guest = chance.sample(VILLAGES, 2)
        lines.append(f"{home} {chance.randrange(6)} : {chance.randrange(6)} {guest}")
    return WebPage(f"Results of round {chance.randrange(1, 34)}: " + " | ".join(lines), "results", False)


def _gossip(world: World, chance: random.Random) -> WebPage:
    """Talk about people, right by accident at best."""
    lines = []
    for _ in range(4):
        who, other = chance.sample(NAMES, 2)
        lines.append(
            chance.choice(
                (
                    f"omg did you see what {who} wore in {chance.choice(VILLAGES)}?? so bad lol",
                    f"I heard that {who} and {other} are best friends now, you won't believe it",
                    f"{who} is {chance.choice(('a liar', 'so boring', 'a star', 'over'))}, says {other}",
                    f"{who} lives in {chance.choice(VILLAGES)} now haha who knew",
                    f"someone said {who} eats only {chance.choice(FOODS)} lol",
                )
            )
        )
    return WebPage(" ... ".join(lines), "gossip", False)


def _boilerplate(world: World, chance: random.Random) -> WebPage:
    lines = [
        "Home | About | Contact | Login | Cart (0)",
        "We use cookies to improve your experience. Accept all | Settings",
        "Copyright. All rights reserved. Terms of use. Privacy policy.",
        "Subscribe to our newsletter! Enter your email.",
        f"Page {chance.randrange(1, 90)} of {chance.randrange(90, 200)} | next | previous",
        "Share this: Like | Tweet | Pin | Mail",
        f"{chance.randrange(2, 900)} comments. Log in to reply.",
    ]
    return WebPage(" ".join(chance.sample(lines, 5)), "boilerplate", False)


def _keywords(world: World, chance: random.Random) -> WebPage:
    words = [
        chance.choice([*FOODS, *VILLAGES, "cheap", "best", "free", "online", "near me"]) for _ in range(40)
    ]
    return WebPage(" ".join(words), "keywords", False)


_KINDS: dict[Callable[[World, random.Random], WebPage], float] = {
    _article: 0.3,
    _advertisement: 0.18,
    _results: 0.14,
    _gossip: 0.16,
    _boilerplate: 0.12,
    _keywords: 0.10,
}


def _dressed(text: str, chance: random.Random) -> str:
    """With a line of the site around it, as often as not."""
    before = chance.choice(("", "", "Home | Blog | About\n", "Posted by admin. 3 min read.\n"))
    after = chance.choice(("", "", "\nShare this: Like | Pin", "\nRead more: 10 things about cheese"))
    return before + text + after
