"""A tokenizer of single letters, and a reader that answers from the last tokens it can see."""

import re

import pytest

from tinyphi.longcontext import trials

LETTERS = [chr(code) for code in (10, *range(32, 127))]
WORDS = [" " + first + second + third for first in "bdfg" for second in "aeiou" for third in "lmnrst"]


class Letters:
    """Its tokens are letters, and then 120 words that it never encodes to."""

    def __init__(self, adds_bos=False):
        self.adds_bos = adds_bos
        self.stop_ids = (0,)
        self.tokens = ["<s>", *LETTERS, *WORDS]
        self.vocab_size = len(self.tokens)

    def encode(self, text):
        return [0] * self.adds_bos + [1 + LETTERS.index(letter) for letter in text]

    def decode(self, ids):
        return "".join(self.tokens[id] for id in ids)

    def token_bytes(self, id):
        return self.tokens[id].encode()


@pytest.fixture(params=[False, True], ids=["", "bos"])
def letters(request):
    return Letters(request.param)


@pytest.fixture
def oracle(monkeypatch, letters, make_model):
    """Puts readers that see the last `sight` letters in the place of models; returns what they were asked."""

    def see(sight, stops_after=None):
        asked = []

        class Oracle(trials.Reader):
            def answer(self, ids, most, stop_ids):
                if stops_after == len(asked):
                    raise KeyboardInterrupt
                asked.append(ids)
                text = letters.decode(ids[-sight:])
                *text, question = text.split("\n\n")
                text = "\n\n".join(text)
                name = re.search(r"(?:number|numbers) of (\w+) (?:is|are)$", question)
                fact = rf"number of {name[1]} is (\d+)\." if name else r"key is (\d+)\."
                reply = " " + ", ".join(re.findall(fact, text))
                return letters.encode(reply)[letters.adds_bos :][:most]

        monkeypatch.setattr(trials, "Reader", Oracle)
        return asked

    see.model = make_model()
    return see
