"""The rules are datatrove's Gopher filters where both define the same; and each drops what it is for."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tinyphi.data import rules
from tinyphi.data.pages import Pages
from tinyphi.data.rules import QUALITY, REPETITION, RULES, Rule, judge

GOOD = (
    "The river carries water from the hills to the sea. Where it is slow, sand sinks to the bottom. "
    "Plants grow on the banks, and with their roots they hold the earth that the river would take away. "
    "In spring there is more water because the snow melts, so that fields near the shore may be flooded. "
    "People have built walls of stone against this for hundreds of years, and not every wall has held."
)
NAMES = {  # ours → datatrove's reason
    "words": "gopher_short_doc",
    "word_length": ("gopher_below_avg_threshold", "gopher_above_avg_threshold"),
    "hashes": "gopher_too_many_hashes",
    "ellipses": "gopher_too_many_ellipsis",
    "bullet_lines": "gopher_too_many_bullets",
    "ellipsis_lines": "gopher_too_many_end_ellipsis",
    "alphabetic_words": "gopher_below_alpha_threshold",
    "stop_words": "gopher_enough_stop_words",
    "repeated_paragraphs": "dup_para_frac",
    "repeated_paragraph_characters": "dup_para_char_frac",
    "repeated_lines": "dup_line_frac",
    "repeated_line_characters": "dup_line_char_frac",
}


def verdict(text, among=RULES):
    return judge(Pages([text]), among)[0]


def test_a_decent_page_is_kept():
    assert verdict(GOOD).kept and verdict(GOOD).rule == ""


def text_with(**kinds):
    return " ".join(" ".join([word] * count) for word, count in kinds.items())


@pytest.mark.parametrize(
    ("rule", "page"),
    [
        ("words", "Only a few words, to be brief, with the end here."),
        ("word_length", " ".join(f"a{i} of" for i in range(60))),
        ("hashes", GOOD.replace(". ", ". # # # # ")),
        ("ellipses", GOOD.replace(" ", " ... ", 20)),
        ("bullet_lines", "\n".join(f"- {line}" for line in GOOD.split(". "))),
        ("ellipsis_lines", "\n".join(f"{line} …" for line in GOOD.split(". ") * 2)),
        ("alphabetic_words", GOOD + " 12 34 56" * 20),
        ("stop_words", " ".join(f"word{i} thing" for i in range(60))),
        ("repeated_paragraphs", GOOD + "\n\nYes.\n\nYes.\n\nYes."),
        ("repeated_paragraph_characters", "\n\n".join([GOOD, GOOD, "Another.", "And this.", "And that."])),
        ("repeated_lines", GOOD.replace(". ", ".\nRead on.\n")),
        ("repeated_line_characters", "\n".join([GOOD, GOOD, "Another.", "And this.", "And that."])),
        ("top_2_gram", GOOD + " very nice" * 20),
        ("top_4_gram", GOOD + " I do like it" * 5 + " a b c I do like it d e f I do like it"),
        ("other_scripts", GOOD + " Это предложение написано кириллицей." + "д" * 200),
        ("english", "Der Fluss trägt das Wasser von den Bergen und es ist nicht that to " + " ".join(
            f"die Stadt{i} ist nicht mit der Straße{i}" for i in range(20))),
        ("boilerplate", GOOD + " Privacy policy. Terms of use. Click here to sign up. Contact us."),
        ("ended_lines", GOOD.replace(".", "").replace(", ", "\n").replace(" the ", "\nthe ")),
    ],
)  # fmt: skip
def test_each_rule_names_itself(rule, page):
    found = verdict(page, [one for one in RULES if one.name == rule])
    assert found.rule == rule and not found.kept
    assert verdict(page).rule  # and the whole list drops it, by this or an earlier rule


def test_the_value_is_what_was_measured():
    text = "one two\none two\nthree"
    assert rules.repeated_lines(Pages([text])).tolist() == [1 / 3]
    assert rules.repeated_line_characters(Pages([text])).tolist() == [7 / len(text)]
    assert rules.top_ngram(2)(Pages([text])).tolist() == [14 / len(text)]
    assert rules.words(Pages([text, "- , a"])).tolist() == [5, 1]
    assert rules.word_length(Pages(["a bbb ü"])).tolist() == [5 / 3]
    assert rules.repeated_ngrams(5)(Pages(["a b c d e f a b c d e f"])).tolist() == [6 / 23]


def test_the_first_broken_rule_is_told():
    never = Rule("never", lambda pages: np.full(pages.count, 7.0), most=1)
    assert verdict(GOOD, [never, Rule("also", rules.words, most=1)]) == ("never", 7.0)


def pages_of(seed, count=150):
    """Texts with all sorts of repetition."""
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        words = [
            chance.choice("the of and river stone tree with house that of to be sea".split())
            for _ in range(300)
        ]
        words = [word + str(chance.randrange(9)) * chance.choice([0, 1]) for word in words]
        lines, start = [], 0
        while start < len(words):
            size = chance.randrange(3, 40)
            lines.append(" ".join(words[start : start + size]))
            start += size
        lines += chance.choices(lines, k=chance.choice([0, 1, 3, 9, 30]))
        lines += [chance.choice(["- ", "• ", "# ", "... ", ""]) * chance.choice([0, 1, 40]) + "the end " * 3]
        chance.shuffle(lines)
        ends = chance.choice([["\n"], ["\n", "\n\n"], ["\n\n", "\n\n\n"]])
        made.append("".join(line.strip() + chance.choice(ends) for line in lines).strip())
    return made


@pytest.fixture(scope="module")
def gopher():
    """datatrove's filters, with words as we take them: what stands between spaces."""
    pytest.importorskip("datatrove", reason="datatrove is not installed")
    from datatrove.data import Document
    from datatrove.pipeline.filters import gopher_quality_filter, gopher_repetition_filter

    patch = pytest.MonkeyPatch()
    for module in (gopher_quality_filter, gopher_repetition_filter):
        patch.setattr(module, "split_into_words", lambda text, language: text.split())

    def reason(kind, text):
        made = {
            "quality": gopher_quality_filter.GopherQualityFilter,
            "repetition": gopher_repetition_filter.GopherRepetitionFilter,
        }[kind]()
        found = made.filter(Document(text, "0"))
        return "" if found is True else found[1]

    yield reason
    patch.undo()


def same(ours, theirs):
    if ours.startswith("top_"):
        return theirs == ours
    if ours.startswith("repeated_") and ours.endswith("_grams"):
        return theirs == f"duplicated_{ours.split('_')[1]}_n_grams"
    return theirs in ("", NAMES.get(ours)) if not ours else theirs in np.atleast_1d(NAMES[ours])


@pytest.mark.parametrize("seed", [1, 2])
def test_repetition_is_datatroves(gopher, seed):
    """The verdicts agree, but where we count words in overlapping runs that datatrove skips."""
    reasons, more = set(), 0
    for text in pages_of(seed):
        ours, theirs = verdict(text, REPETITION).rule, gopher("repetition", text)
        if ours.endswith("_grams") and ours.startswith("repeated") and not same(ours, theirs):
            more += 1  # ours is never less: it drops at least what datatrove drops
            continue
        assert same(ours, theirs), (ours, theirs)
        reasons.add(ours)
    assert len(reasons) >= 4 and more < 40


def greedy(words, n):
    """datatrove's find_all_duplicate: characters of repeated runs, skipping to the end of each."""
    seen, place, repeated = set(), 0, 0
    while place < len(words) - n + 1:
        run = "".join(words[place : place + n])
        if run in seen:
            repeated, place = repeated + len(run), place + n
        else:
            seen.add(run)
            place += 1
    return repeated


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.sampled_from(["aa", "b", "cc", "ddd"]), min_size=1, max_size=60), some.integers(5, 8))
def test_repeated_runs_are_at_least_datatroves_and_each_word_counts_once(words, n):
    text = " ".join(words)
    share = rules.repeated_ngrams(n)(Pages([text]))[0]
    seen, covered = set(), set()
    for place in range(len(words) - n + 1):
        run = tuple(words[place : place + n])
        covered |= set(range(place, place + n)) if run in seen else set()
        seen.add(run)
    assert share == pytest.approx(sum(len(words[word]) for word in covered) / len(text))
    assert share * len(text) >= greedy(words, n) - 1e-9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_quality_is_datatroves(gopher, seed):
    chance, reasons = random.Random(seed), set()
    for _ in range(200):
        words = GOOD.lower().split() if chance.random() < 0.7 else "word thing of stone".split() * 20
        extra = chance.choice(["#", "...", "12", "a", "averyverylongwordindeed", "—", "it"])
        words = words[: chance.choice([20, 90])]
        for _ in range(chance.choice([0, 5, 60])):
            words.insert(chance.randrange(len(words) + 1), extra)
        start, end = chance.choice([("", ""), ("- ", ""), ("", " …"), ("", "...")])
        lines = [start + " ".join(words[i : i + 9]) + end for i in range(0, len(words), 9)]
        text = "\n".join(lines)
        ours, theirs = verdict(text, QUALITY).rule, gopher("quality", text)
        assert same(ours, theirs), (ours, theirs, text)
        reasons.add(ours)
    assert len(reasons) >= 6


def test_a_wrong_limit_would_be_noticed(gopher):
    planted = [Rule(rule.name, rule.measure, rule.least, rule.most * 2) for rule in REPETITION]
    texts = pages_of(1)
    assert any(not same(verdict(text, planted).rule, gopher("repetition", text)) for text in texts)


@settings(deadline=None)  # the machine may be busy
@given(some.lists(some.text(max_size=80), min_size=1, max_size=4))
def test_any_text_has_a_verdict_and_a_batch_changes_nothing(texts):
    assert judge(Pages(texts)) == [verdict(text) for text in texts]
    for rule in RULES:
        assert np.isfinite(rule.measure(Pages(texts))).all()
