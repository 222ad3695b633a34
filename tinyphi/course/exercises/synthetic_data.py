"""Exercises of notebook 27: fill a grid, measure openings, check sums, go on after an interruption."""

import math
import random

from tinyphi.course.exercise import Exercise, fail_if, misconception, number_of

# --------------------------------------------------------------------------------------------------------------
grid = Exercise(
    "synthetic_data.grid",
    notebook="27_synthetic_data",
    title="The grid of what is asked",
    difficulty=1,
    minutes=10,
    task="""
    `prompt` is a text with or without the places `{topic}` and `{persona}`. Write
    `cells(prompt, topics, personas, seeds)`: a list of pairs `(message, seed)`, each combination once, with seeds
    from 0 to `seeds − 1`. A place that is not in the prompt must not multiply the messages.
    """,
    hints=[
        "Three loops, one inside the other, or `itertools.product`.",
        'If the prompt has no `{persona}`, let its list be `[""]`: one turn of the loop, and nothing to replace.',
        '`text.replace("{topic}", topic)` leaves other braces alone; `str.format` would stumble over them.',
    ],
)


@grid.stub
def cells(prompt, topics, personas, seeds):
    """str, two lists of str, int → list of (str, int)"""
    ...  # your code


@grid.solution
def cells(prompt, topics, personas, seeds):
    topics = topics if "{topic}" in prompt else [""]
    personas = personas if "{persona}" in prompt else [""]
    return [
        (prompt.replace("{topic}", topic).replace("{persona}", persona), seed)
        for topic in topics
        for persona in personas
        for seed in range(seeds)
    ]


def _pairs(value):
    fail_if(not isinstance(value, list), f"A list is asked; yours is of type {type(value).__name__}.")
    fail_if(
        any(not isinstance(one, tuple) or len(one) != 2 for one in value),
        "Each cell is a pair of a message and a seed.",
    )
    return value


@grid.judge
def judge_grid(f):
    topics, personas = ["rain", "snow", "wind"], ["a nurse", "a judge", "a cook"]
    got = _pairs(f("Explain {topic} to {persona}.", list(topics), list(personas), 2))
    fail_if(
        any("{" in message for message, _ in got), f"A place was not filled: {got[0][0] if got else ''!r}."
    )
    fail_if(
        len(got) in (3, 6) and len({message for message, _ in got}) == 3,
        "Topics and personas go in step, so 3 and 3 make 3. In a grid each meets each: 9 messages.",
    )
    fail_if(
        len(got) == 9 and len({seed for _, seed in got}) == 1,
        "Each message stands there once. Each is asked with every seed.",
    )
    fail_if({seed for _, seed in got} - {0, 1}, "With seeds = 2 they are 0 and 1.")
    right = {(f"Explain {topic} to {who}.", seed) for topic in topics for who in personas for seed in (0, 1)}
    fail_if(set(got) != right, f"Of 18 combinations you have {len(right & set(got))}.")
    for prompt, count in (("Tell a story about {topic}.", 6), ("Tell a story.", 2)):
        got = _pairs(f(prompt, list(topics), list(personas), 2))
        fail_if(
            len(got) > len(set(got)),
            f"{prompt!r} has no place for a persona, and yet is asked for each of them: the same text, paid for "
            "again.",
        )
        fail_if(len(set(got)) != count, f"{prompt!r} makes {count} cells with 2 seeds; you have {len(got)}.")
    try:
        got = _pairs(f('Fill {"topic": "{topic}"}.', list(topics), [], 1))
    except (KeyError, ValueError, IndexError):
        misconception("A prompt may hold braces of its own, as JSON does. `str.format` stumbles over them.")
    fail_if(len(got) != 3, "Without personas, and without a place for them, topics and seeds are left.")


@grid.wrong("in step", says="each meets each")
def cells(prompt, topics, personas, seeds):
    pairs = zip(topics, personas)
    return [
        (prompt.replace("{topic}", topic).replace("{persona}", persona), seed)
        for topic, persona in pairs
        for seed in range(seeds)
    ]


@grid.wrong("no seeds", says="with every seed")
def cells(prompt, topics, personas, seeds):
    return [
        (prompt.replace("{topic}", topic).replace("{persona}", persona), 0)
        for topic in topics
        for persona in personas
    ]


@grid.wrong("always multiplied", says="paid for again")
def cells(prompt, topics, personas, seeds):
    return [
        (prompt.replace("{topic}", topic).replace("{persona}", persona), seed)
        for topic in topics
        for persona in personas
        for seed in range(seeds)
    ]


@grid.wrong("the topic only", says="A place was not filled")
def cells(prompt, topics, personas, seeds):
    return [(prompt.replace("{topic}", topic), seed) for topic in topics for seed in range(seeds)]


# --------------------------------------------------------------------------------------------------------------
openings = Exercise(
    "synthetic_data.openings",
    notebook="27_synthetic_data",
    title="How many ways to begin?",
    difficulty=2,
    minutes=10,
    task="""
    Write `opening_bits(texts, n)`: the entropy of the first n words of the texts, in bits. Words are what stands
    between spaces; capital letters make no difference. Texts that all begin alike have 0 bits, 8 texts with 8
    beginnings have 3.
    """,
    hints=[
        "`collections.Counter` counts the beginnings. A list cannot be counted, a tuple or a string can.",
        "H = −Σ p log2 p, where p is a beginning's share of the texts.",
    ],
)


@openings.stub
def opening_bits(texts, n):
    """list of str, int → a number, in bits"""
    ...  # your code


@openings.solution
def opening_bits(texts, n):
    from collections import Counter

    counts = Counter(tuple(text.lower().split()[:n]) for text in texts)
    return sum(-count / len(texts) * math.log2(count / len(texts)) for count in counts.values())


def _bits(counts, log=math.log2):
    return sum(-count / sum(counts) * log(count / sum(counts)) for count in counts)


@openings.judge
def judge_openings(f):
    from collections import Counter

    texts = [
        "In the old town a fox ran",
        "In the old mill",
        "in The old town it rained",
        "In a town",
        "As I ran",
    ]
    texts += ["As I stood there", "As I ran away", "The sun had set"]
    for n in (1, 3):
        got = number_of(f(list(texts), n), name="entropy")
        begin = Counter(tuple(text.lower().split()[:n]) for text in texts)
        if abs(got - _bits(begin.values())) < 1e-6:
            continue
        fail_if(abs(got + _bits(begin.values())) < 1e-6, "The sign is wrong: an entropy is never below 0.")
        fail_if(
            abs(got - _bits(begin.values(), math.log)) < 1e-6,
            "These are nats. With the logarithm to base 2 they become bits.",
        )
        cased = Counter(tuple(text.split()[:n]) for text in texts)
        fail_if(abs(got - _bits(cased.values())) < 1e-6, "'In The' and 'in the' are one beginning.")
        letters = Counter(text.lower()[:n] for text in texts)
        fail_if(
            abs(got - _bits(letters.values())) < 1e-6, f"These are the first {n} letters. Words are asked."
        )
        words = Counter(word for text in texts for word in text.lower().split()[:n])
        fail_if(
            abs(got - _bits(words.values())) < 1e-6,
            "You count single words. A beginning is the first n words together: 'in the old' is one of them.",
        )
        fail_if(
            abs(got - math.log2(len(begin))) < 1e-6 or abs(got - len(begin)) < 1e-6,
            "You count how many beginnings there are. One that nearly all texts share weighs more than a rare one.",
        )
        misconception(f"For n = {n} it is {_bits(begin.values()):.3f} bits; yours says {got:.3f}.")


@openings.wrong("nats", says="These are nats")
def opening_bits(texts, n):
    from collections import Counter

    counts = Counter(tuple(text.lower().split()[:n]) for text in texts)
    return sum(-count / len(texts) * math.log(count / len(texts)) for count in counts.values())


@openings.wrong("single words", says="single words")
def opening_bits(texts, n):
    from collections import Counter

    counts = Counter(word for text in texts for word in text.lower().split()[:n])
    total = sum(counts.values())
    return sum(-count / total * math.log2(count / total) for count in counts.values())


@openings.wrong("how many", says="weighs more than a rare one")
def opening_bits(texts, n):
    return math.log2(len({tuple(text.lower().split()[:n]) for text in texts}))


@openings.wrong("letters", says="Words are asked")
def opening_bits(texts, n):
    from collections import Counter

    counts = Counter(text.lower()[:n] for text in texts)
    return sum(-count / len(texts) * math.log2(count / len(texts)) for count in counts.values())


@openings.wrong("capitals", says="are one beginning")
def opening_bits(texts, n):
    from collections import Counter

    counts = Counter(tuple(text.split()[:n]) for text in texts)
    return sum(-count / len(texts) * math.log2(count / len(texts)) for count in counts.values())


# --------------------------------------------------------------------------------------------------------------
sums = Exercise(
    "synthetic_data.sums",
    notebook="27_synthetic_data",
    title="Do the sums again",
    difficulty=2,
    minutes=15,
    task="""
    Write `wrong_sums(text)`: a list of all statements `a + b = c` or `a - b = c` in the text that are wrong, as
    they stand there. The numbers are whole, with any spaces between. What belongs to a longer sum, such as the
    `7 + 3 = 22` in `12 + 7 + 3 = 22`, states nothing about two numbers; leave it out.
    """,
    hints=[
        r"`re.finditer(r\"(\\d+) *([+-]) *(\\d+) *= *(\\d+)\", text)`; a match's `[0]` is the whole statement.",
        "A match begins at `match.start()`. What is the last character before it that is not a space?",
        '`text[: match.start()].rstrip().endswith(("+", "-"))` tells that the sum began earlier.',
    ],
)


@sums.stub
def wrong_sums(text):
    """str → list of str"""
    ...  # your code


@sums.solution
def wrong_sums(text):
    import re

    wrong = []
    for match in re.finditer(r"(\d+) *([+-]) *(\d+) *= *(\d+)", text):
        a, b, c = int(match[1]), int(match[3]), int(match[4])
        longer = text[: match.start()].rstrip().endswith(("+", "-"))
        if not longer and (a + b if match[2] == "+" else a - b) != c:
            wrong.append(match[0])
    return wrong


@sums.judge
def judge_sums(f):
    def got(text):
        value = f(text)
        fail_if(
            not isinstance(value, list),
            f"A list is asked, an empty one too; yours is {type(value).__name__}.",
        )
        return value

    fail_if(got("3 + 4 = 7, and 9 - 4 = 5."), "In '3 + 4 = 7, and 9 - 4 = 5.' all is right.")
    fail_if(
        got("So 27 + 5 = 32.") != [],
        "27 + 5 = 32 is right. Compare numbers, not digits: a pattern such as \\d reads one of them.",
    )
    found = got("We add: 27 + 15 = 43.")
    fail_if(not found, "27 + 15 = 43 is wrong, and you let it pass.")
    fail_if(
        found != ["27 + 15 = 43"], f"The statement as it stands there is '27 + 15 = 43'; yours is {found}."
    )
    fail_if(
        got("9 - 4 = 6") != ["9 - 4 = 6"],
        "9 - 4 = 6 is wrong, and you let it pass: differences count as well.",
    )
    found = got("3 + 4 = 7, then 7 + 2 = 10, then 10 + 1 = 12")
    fail_if(not found, "You look at the first statement only; a right one hides the wrong ones behind it.")
    fail_if(found == ["7 + 2 = 10"], "You stop at the first wrong one. All of them are asked.")
    fail_if(found != ["7 + 2 = 10", "10 + 1 = 12"], f"Of three statements two are wrong; you found {found}.")
    fail_if(
        got("12 + 7 + 3 = 22"),
        "12 + 7 + 3 = 22 is right! You cut 7 + 3 = 22 out of it. A checker that accuses good texts costs data, "
        "and nobody notices.",
    )
    fail_if(not got("5+5=11"), "5+5=11 has no spaces, and is wrong all the same.")
    a = random.randrange(100, 900)
    fail_if(got(f"{a} + {a} = {2 * a}"), f"{a} + {a} = {2 * a} is right.")


@sums.wrong("sums only", says="differences count as well")
def wrong_sums(text):
    import re

    found = re.finditer(r"(\d+) *\+ *(\d+) *= *(\d+)", text)
    return [match[0] for match in found if int(match[1]) + int(match[2]) != int(match[3])]


@sums.wrong("the first one", says="a right one hides")
def wrong_sums(text):
    import re

    match = re.search(r"(\d+) *([+-]) *(\d+) *= *(\d+)", text)
    if not match:
        return []
    a, b, c = int(match[1]), int(match[3]), int(match[4])
    return [match[0]] if (a + b if match[2] == "+" else a - b) != c else []


@sums.wrong("cut out of a longer sum", says="accuses good texts")
def wrong_sums(text):
    import re

    wrong = []
    for match in re.finditer(r"(\d+) *([+-]) *(\d+) *= *(\d+)", text):
        a, b, c = int(match[1]), int(match[3]), int(match[4])
        if (a + b if match[2] == "+" else a - b) != c:
            wrong.append(match[0])
    return wrong


@sums.wrong("one digit", says="Compare numbers, not digits")
def wrong_sums(text):
    import re

    wrong = []
    for match in re.finditer(r"(\d) *([+-]) *(\d) *= *(\d)", text):
        a, b, c = int(match[1]), int(match[3]), int(match[4])
        if (a + b if match[2] == "+" else a - b) != c:
            wrong.append(match[0])
    return wrong


@sums.wrong("with spaces only", says="has no spaces")
def wrong_sums(text):
    import re

    wrong = []
    for match in re.finditer(r"(\d+) ([+-]) (\d+) = (\d+)", text):
        a, b, c = int(match[1]), int(match[3]), int(match[4])
        longer = text[: match.start()].rstrip().endswith(("+", "-"))
        if not longer and (a + b if match[2] == "+" else a - b) != c:
            wrong.append(match[0])
    return wrong


# --------------------------------------------------------------------------------------------------------------
resuming = Exercise(
    "synthetic_data.going_on",
    notebook="27_synthetic_data",
    title="Where to go on",
    difficulty=2,
    minutes=15,
    task="""
    A run writes one line for each cell, in order, `batch` cells at a time; then it was killed. `data` is what the
    file holds, as bytes; its last line may be torn. The texts of a batch depend on one another, so a batch that is
    not there as a whole has to be written again. Write `going_on(data, batch)` → `(keep, done)`: how many bytes of
    the file stay, and how many cells are done.
    """,
    hints=[
        'A line is whole if it ends with b"\\n". `data.splitlines(keepends=True)` keeps the ends.',
        "Of 18 whole lines in batches of 8 the first 16 stay: `18 // 8 * 8`.",
        "Count bytes, not characters: `len` of what stays, as bytes.",
    ],
)


@resuming.stub
def going_on(data, batch):
    """bytes, int → (bytes to keep, cells done)"""
    ...  # your code


@resuming.solution
def going_on(data, batch):
    whole = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    done = len(whole) // batch * batch
    return sum(map(len, whole[:done])), done


@resuming.judge
def judge_going_on(f):
    def got(data, batch):
        value = f(data, batch)
        fail_if(
            not isinstance(value, (tuple, list)) or len(value) != 2,
            "A pair is asked: bytes to keep, and cells.",
        )
        return tuple(value)

    lines = [f'{{"text": "{"né" * (place % 5)}"}}\n'.encode() for place in range(20)]
    whole = b"".join(lines)
    sizes = [sum(map(len, lines[:count])) for count in range(21)]
    torn = whole[: sizes[11] + 6]
    keep, done = got(torn, 4)
    fail_if(
        done == 12,
        "You count the torn line as a cell: a batch of 4 seems whole, and one text of it ends in the middle.",
    )
    fail_if(
        done == 11,
        "You go on within a batch. The 9th to 11th cell were written with a 12th; write all four again.",
    )
    fail_if((keep, done) == (0, 0), "You begin anew. Two batches are there as a whole, and took hours.")
    fail_if(done != 8, f"Of 11 whole lines in batches of 4, 8 cells are done; yours says {done}.")
    fail_if(
        keep == len(torn),
        "The rest of the begun batch stays in the file, and its cells will stand there twice.",
    )
    fail_if(
        keep == len(torn[: sizes[8]].decode()),
        "You count characters. With é in a text there are fewer of them than bytes, and the file is cut too early.",
    )
    fail_if(keep != sizes[8], f"The first 8 lines have {sizes[8]} bytes; yours says {keep}.")
    fail_if(got(b"", 4) != (0, 0), "Of an empty file nothing stays, and nothing is done.")
    fail_if(got(whole, 4) != (sizes[20], 20), "If all batches are whole, everything stays.")
    fail_if(got(whole[:-1], 4) != (sizes[16], 16), "Without its last newline, the last line may be torn.")


@resuming.wrong("the torn line counts", says="the torn line as a cell")
def going_on(data, batch):
    lines = data.splitlines(keepends=True)
    done = len(lines) // batch * batch
    return sum(map(len, lines[:done])), done


@resuming.wrong("line by line", says="go on within a batch")
def going_on(data, batch):
    whole = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    return sum(map(len, whole)), len(whole)


@resuming.wrong("nothing is cut", says="stand there twice")
def going_on(data, batch):
    whole = [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]
    return len(data), len(whole) // batch * batch


@resuming.wrong("characters", says="You count characters")
def going_on(data, batch):
    text = data.decode("utf-8", "ignore")
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    done = len(whole) // batch * batch
    return sum(map(len, whole[:done])), done


@resuming.wrong("anew", says="You begin anew")
def going_on(data, batch):
    return (
        (len(data), data.count(b"\n")) if data.endswith(b"\n") and data.count(b"\n") % batch == 0 else (0, 0)
    )
