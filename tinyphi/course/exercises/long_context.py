"""Exercises of notebook 19: joining two halves, bytes of a cache, the mask of a piece, hiding a needle."""

import itertools
from dataclasses import replace

import torch

from tinyphi.config import PhiConfig
from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of
from tinyphi.model.cache import KeyValueCache

# --------------------------------------------------------------------------------------------------------------
joining = Exercise(
    "long_context.join",
    notebook="19_long_context_in_practice",
    title="Two halves of one answer",
    difficulty=3,
    minutes=20,
    task="""
    A text is so long that two machines share its keys and values. Each computes attention over its own half, to
    the end, and sends three things: the mix `(t v)`, *already divided by its sum*; for each query the largest
    score `(t 1)`; and the sum of the exponentials relative to that score `(t 1)`. Write `join(left, right)`, two
    such triples, which returns the mix over all keys `(t v)`. Scores may be in the hundreds.
    """,
    hints=[
        "A half counts for as much as all its exponentials together. Multiply its mix by that, to begin with.",
        "The two sums are relative to different scores. Make both relative to the larger of the two.",
        "`sum * (largest - larger).exp()` is what a half counts for. The joint mix is a weighted mean.",
    ],
)


@joining.stub
def join(left, right):
    """two triples of (t v), (t 1), (t 1) → (t v)"""
    ...  # your code


@joining.solution
def join(left, right):
    (mix_a, high_a, sum_a), (mix_b, high_b, sum_b) = left, right
    high = torch.maximum(high_a, high_b)
    count_a, count_b = sum_a * (high_a - high).exp(), sum_b * (high_b - high).exp()
    return (mix_a * count_a + mix_b * count_b) / (count_a + count_b)


def _half(scores, values):
    """Attention over some of the keys, and what the other half must know of it."""
    high = scores.amax(dim=-1, keepdim=True)
    return scores.softmax(-1) @ values, high, (scores - high).exp().sum(dim=-1, keepdim=True)


@joining.judge
def judge_joining(f):
    for keys, cut, size in ((12, 3, 2.0), (6, 4, 1.0), (10, 5, 200.0)):
        scores, values = size * torch.randn(5, keys), torch.randn(keys, 4)
        left, right = _half(scores[:, :cut], values[:cut]), _half(scores[:, cut:], values[cut:])
        got = tensor_of(f(left, right), shape=(5, 4))
        if near(got, scores.softmax(-1) @ values, 1e-4):
            continue
        (a, high_a, sum_a), (b, high_b, sum_b) = left, right
        high = torch.maximum(high_a, high_b)
        e_a, e_b = (high_a - high).exp(), (high_b - high).exp()
        case = f"With {cut} of {keys} keys in the left half: "
        fail_if(
            not got.isfinite().all(),
            f"{case}there are infinities or NaN. Take no exponential of a score itself, only of a difference "
            "that is not positive.",
        )
        fail_if(
            near(got, (a + b) / 2),
            f"{case}this is the mean of both mixes. A half with larger scores must count for more.",
        )
        fail_if(
            near(got, (a * sum_a + b * sum_b) / (sum_a + sum_b)),
            f"{case}you weigh by the sums alone, but each is relative to a largest score of its own.",
        )
        fail_if(
            near(got, (a * e_a + b * e_b) / (e_a + e_b)),
            f"{case}you weigh by the largest scores alone. Ten keys with that score count ten times as much as "
            "one.",
        )
        fail_if(
            near(got, (a * e_a + b * e_b) / (sum_a * e_a + sum_b * e_b)),
            f"{case}you divide once too often. The mixes that come were divided by their sums already.",
        )
        misconception(f"{case}the mix is not what attention over all {keys} keys gives.")


@joining.wrong("the mean of both", says="this is the mean of both mixes")
def join(left, right):
    return (left[0] + right[0]) / 2


@joining.wrong("the sums alone", says="relative to a largest score of its own")
def join(left, right):
    (mix_a, _, sum_a), (mix_b, _, sum_b) = left, right
    return (mix_a * sum_a + mix_b * sum_b) / (sum_a + sum_b)


@joining.wrong("the largest alone", says="Ten keys with that score")
def join(left, right):
    (mix_a, high_a, _), (mix_b, high_b, _) = left, right
    share = (high_a - high_b).sigmoid()
    return share * mix_a + (1 - share) * mix_b


@joining.wrong("divided twice", says="you divide once too often")
def join(left, right):
    (mix_a, high_a, sum_a), (mix_b, high_b, sum_b) = left, right
    high = torch.maximum(high_a, high_b)
    factor_a, factor_b = (high_a - high).exp(), (high_b - high).exp()
    return (mix_a * factor_a + mix_b * factor_b) / (sum_a * factor_a + sum_b * factor_b)


@joining.wrong("exponentials of scores", says="there are infinities or NaN")
def join(left, right):
    (mix_a, high_a, sum_a), (mix_b, high_b, sum_b) = left, right
    count_a, count_b = sum_a * high_a.exp(), sum_b * high_b.exp()
    return (mix_a * count_a + mix_b * count_b) / (count_a + count_b)


# --------------------------------------------------------------------------------------------------------------
room = Exercise(
    "long_context.cache_bytes",
    notebook="19_long_context_in_practice",
    title="Every byte of a cache",
    difficulty=2,
    minutes=15,
    task="""
    Write `cache_bytes(config, tokens, bits)`: the bytes of `model.new_cache(max_tokens=tokens, bits=bits)`, for
    one text and a model in bfloat16 with this `PhiConfig`.

    - `bits` None: two bytes a number. 8: one byte a number, and one scale of four bytes for each key and each
      value of each head.
    - With a sliding window (`config.sliding_window`, otherwise None) there is never room for more than the
      window and 256 tokens.
    """,
    hints=[
        "How many bytes does one key of one head take, with its scale if it has one? `config.head_dim` numbers.",
        "How many such vectors are there for each token? Layers, key/value heads, and a value for each key.",
        "How many tokens have room? `tokens`, or window + 256 if there is a window and that is less.",
    ],
)


@room.stub
def cache_bytes(config, tokens, bits):
    """a PhiConfig, a number of tokens, None or 8 → bytes"""
    ...  # your code


@room.solution
def cache_bytes(config, tokens, bits):
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window + 256)
    return 2 * config.num_hidden_layers * config.num_key_value_heads * held * vector


def _bytes(config, held, bits, scales=1.0, heads=None):
    """The right answer, or one with as many scales for each vector, or with so many heads."""
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4 * scales
    return 2 * config.num_hidden_layers * (heads or config.num_key_value_heads) * held * vector


@room.judge
def judge_room(f):
    full = replace(PhiConfig.preset("phi-3-medium-128k"), num_hidden_layers=3)
    narrow = replace(PhiConfig.preset("phi-3-mini-4k"), num_hidden_layers=2, num_key_value_heads=8)
    cases = ((full, 100, None), (narrow, 5000, None), (narrow, 2100, None), (full, 30, 8), (narrow, 9000, 8))
    for config, tokens, bits in cases:
        right = KeyValueCache(config, 1, tokens, torch.bfloat16, torch.device("meta"), bits).bytes
        got = number_of(f(config, tokens, bits), name="number of bytes")
        window, groups = config.sliding_window, config.num_key_value_heads
        case = f"{tokens} tokens, bits={bits}, window {window}: "
        exact = tokens if window is None else min(tokens, window)
        held = tokens if window is None else min(tokens, window + 256)
        fail_if(got == right / 2, f"{case}half of it is missing. Each key has a value.")
        fail_if(
            got == _bytes(config, held, bits, heads=config.num_attention_heads) != right,
            f"{case}you count {config.num_attention_heads} query heads. What is kept belongs to the {groups} "
            "key/value heads.",
        )
        fail_if(
            window and got == _bytes(config, tokens, bits) != right,
            f"{case}you keep all tokens, but the window lets go of most of them.",
        )
        fail_if(
            window and got == _bytes(config, exact, bits) != right,
            f"{case}that is the window alone. The room is larger by 256 tokens, so that old ones can go in "
            "batches.",
        )
        fail_if(
            bits and got == _bytes(config, held, bits, scales=0),
            f"{case}the scales are missing, and without them nobody knows what the 8 bits stand for.",
        )
        fail_if(
            bits and got == _bytes(config, held, bits, scales=1 / groups),
            f"{case}you have one scale for all heads of a token. Each of its {groups} heads has its own.",
        )
        fail_if(got != right, f"{case}the cache has {right:,} bytes; yours says {got:,.0f}.")


@room.wrong("no scales", says="the scales are missing")
def cache_bytes(config, tokens, bits):
    each = 2 if bits is None else 1
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window + 256)
    return 2 * config.num_hidden_layers * config.num_key_value_heads * held * config.head_dim * each


@room.wrong("one scale a token", says="one scale for all heads")
def cache_bytes(config, tokens, bits):
    row = config.num_key_value_heads * config.head_dim
    row = 2 * row if bits is None else row + 4
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window + 256)
    return 2 * config.num_hidden_layers * held * row


@room.wrong("query heads", says="What is kept belongs to")
def cache_bytes(config, tokens, bits):
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window + 256)
    return 2 * config.num_hidden_layers * config.num_attention_heads * held * vector


@room.wrong("no window", says="the window lets go of most of them")
def cache_bytes(config, tokens, bits):
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4
    return 2 * config.num_hidden_layers * config.num_key_value_heads * tokens * vector


@room.wrong("exactly the window", says="larger by 256 tokens")
def cache_bytes(config, tokens, bits):
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window)
    return 2 * config.num_hidden_layers * config.num_key_value_heads * held * vector


@room.wrong("keys only", says="Each key has a value")
def cache_bytes(config, tokens, bits):
    vector = 2 * config.head_dim if bits is None else config.head_dim + 4
    held = tokens if config.sliding_window is None else min(tokens, config.sliding_window + 256)
    return config.num_hidden_layers * config.num_key_value_heads * held * vector


# --------------------------------------------------------------------------------------------------------------
piece = Exercise(
    "long_context.piece_mask",
    notebook="19_long_context_in_practice",
    title="What a piece may see",
    difficulty=2,
    minutes=15,
    task="""
    A long prompt is read in pieces. `stored` tokens lie in the cache, all of them; now a piece of `new` tokens
    comes. Write `piece_mask(stored, new, window)`: `(new, stored + new)` bool, True where a token of the piece
    may see a key. `window` is None, or how many tokens a token sees, itself included.
    """,
    hints=[
        "At which position does token i of the piece stand? Not at i.",
        "`torch.arange(stored + new)` are the positions of the keys; its last `new` are those of the queries.",
        "Two comparisons of `(new, 1)` with `(s)`: the key is not later, and less than `window` earlier.",
    ],
)


@piece.stub
def piece_mask(stored, new, window):
    """two whole numbers, and a third or None → (new, stored + new) bool"""
    ...  # your code


@piece.solution
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    back = there[stored:, None] - there
    return (back >= 0) & (back < (stored + new if window is None else window))


@piece.judge
def judge_piece(f):
    for stored, new, window in itertools.product((8, 3, 0), (5, 4, 1), (None, 3, 6)):
        got = tensor_of(f(stored, new, window), shape=(new, stored + new), dtype=torch.bool, name="mask")
        there = torch.arange(stored + new)
        back = there[stored:, None] - there
        near_by = window or stored + new
        right = (back >= 0) & (back < near_by)
        if torch.equal(got, right):
            continue
        case = f"stored {stored}, new {new}, window {window}: "
        fail_if(
            torch.equal(got, ~right), f"{case}True and False are exchanged: True is what a token may see."
        )
        top_left = there[:new, None] - there
        fail_if(
            torch.equal(got, (top_left >= 0) & (top_left < near_by)),
            f"{case}the triangle begins at the top left, as if the piece were the beginning of the text. Its "
            f"first token stands at position {stored}.",
        )
        fail_if(
            torch.equal(got, right & (there >= stored)),
            f"{case}the piece sees only itself. What is in the cache was put there to be seen.",
        )
        fail_if(
            torch.equal(got, back < near_by) or torch.equal(got, right | (there >= stored)),
            f"{case}tokens see later ones of their own piece, which they are to predict.",
        )
        fail_if(
            torch.equal(got, (back >= 0) & (back <= near_by)),
            f"{case}some tokens see {near_by + 1} tokens. The window counts the token itself.",
        )
        fail_if(
            torch.equal(got, back >= 0),
            f"{case}there is no window. Far tokens must be hidden, the more the further the query stands.",
        )
        fail_if(
            torch.equal(got, (back >= 0) & (there > stored - near_by))
            or torch.equal(got, (back >= 0) & (there >= stored + new - near_by)),
            f"{case}the window has the same left edge for all. It moves along: one key for each query.",
        )
        misconception(f"{case}{int((got != right).sum())} of {right.numel()} places are wrong.")


@piece.wrong("from the top left", says="begins at the top left")
def piece_mask(stored, new, window):
    back = torch.arange(new)[:, None] - torch.arange(stored + new)
    return (back >= 0) & (back < (stored + new if window is None else window))


@piece.wrong("only itself", says="the piece sees only itself")
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    back = there[stored:, None] - there
    return (back >= 0) & (back < (stored + new if window is None else window)) & (there >= stored)


@piece.wrong("its whole piece", says="later ones of their own piece")
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    return there[stored:, None] - there < (stored + new if window is None else window)


@piece.wrong("one more", says="The window counts the token itself")
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    back = there[stored:, None] - there
    return (back >= 0) & (back <= (stored + new if window is None else window))


@piece.wrong("no window", says="Far tokens must be hidden")
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    return there[stored:, None] >= there


@piece.wrong("a window that stands", says="It moves along")
def piece_mask(stored, new, window):
    there = torch.arange(stored + new)
    first = 0 if window is None else stored - window + 1
    return (there[stored:, None] >= there) & (there >= first)


# --------------------------------------------------------------------------------------------------------------
hiding = Exercise(
    "long_context.hide",
    notebook="19_long_context_in_practice",
    title="A needle at its depth",
    difficulty=2,
    minutes=15,
    task="""
    Write `hide(straw, needle, question, tokens, depth)`, all but the last two lists of ids. Return a prompt of
    exactly `tokens` ids: the beginning of `straw`, with the whole needle in it, and the question at the end.
    `depth` is the per cent of the straw *in the prompt* that stands before the needle, rounded with `round`: 0
    puts it first, 100 just before the question. The straw is long enough.
    """,
    hints=[
        "How much straw fits? Needle and question need room as well.",
        "The place is so many per cent of that straw, not of the prompt.",
        "Cut the straw there: `straw[:place] + needle + …`. Nothing of it gets lost in between.",
    ],
)


@hiding.stub
def hide(straw, needle, question, tokens, depth):
    """three lists of ids, a number of tokens, per cent → a list of `tokens` ids"""
    ...  # your code


@hiding.solution
def hide(straw, needle, question, tokens, depth):
    room = tokens - len(needle) - len(question)
    place = round(depth / 100 * room)
    return straw[:place] + needle + straw[place:room] + question


@hiding.judge
def judge_hiding(f):
    straw, needle, question = list(range(1000, 1200)), [1, 2, 3, 4, 5, 6, 7], [11, 12, 13]
    for tokens, depth in itertools.product((110, 64), (50, 0, 100, 25, 80)):
        got = f(straw, needle, question, tokens, depth)
        fail_if(got is None, "There is no result: it is None. `return` the prompt.")
        fail_if(not isinstance(got, list), f"Return a list of ids; yours is of type {type(got).__name__}.")
        room = tokens - len(needle) - len(question)
        place = round(depth / 100 * room)
        if got == straw[:place] + needle + straw[place:room] + question:
            continue
        case = f"{tokens} tokens, depth {depth} %: "
        fail_if(
            len(got) > tokens,
            f"{case}the prompt has {len(got)}. Needle and question take room from the straw.",
        )
        fail_if(len(got) < tokens, f"{case}the prompt has only {len(got)}.")
        fail_if(got[-3:] != question, f"{case}the prompt does not end with the question.")
        at = next((n for n in range(tokens) if got[n : n + 7] == needle), None)
        fail_if(at is None, f"{case}the needle is not there in one piece.")
        fail_if(
            got[:at] + got[at + 7 : -3] != straw[:room],
            f"{case}some of the straw is lost, or stands in another order. Cut it, and lay the needle between.",
        )
        fail_if(
            at == room - place,
            f"{case}the needle is as far from the end as it should be from the beginning.",
        )
        fail_if(
            at == min(room, round(depth / 100 * tokens)),
            f"{case}the needle stands after {at} tokens of straw; you took the per cent of the whole prompt.",
        )
        fail_if(
            at == room and depth < 100,
            f"{case}the needle stands at the very end. `depth` is in per cent: 50, not 0.5, is the middle.",
        )
        misconception(f"{case}{place} tokens should stand before the needle; in yours there are {at}.")


@hiding.wrong("no room for the needle", says="take room from the straw")
def hide(straw, needle, question, tokens, depth):
    place = round(depth / 100 * tokens)
    return straw[:place] + needle + straw[place:tokens] + question


@hiding.wrong("instead of straw", says="some of the straw is lost")
def hide(straw, needle, question, tokens, depth):
    room = tokens - len(question)
    place = round(depth / 100 * (room - len(needle)))
    return straw[:place] + needle + straw[place + len(needle) : room] + question


@hiding.wrong("from the end", says="as far from the end")
def hide(straw, needle, question, tokens, depth):
    room = tokens - len(needle) - len(question)
    place = room - round(depth / 100 * room)
    return straw[:place] + needle + straw[place:room] + question


@hiding.wrong("of the whole prompt", says="you took the per cent of the whole prompt")
def hide(straw, needle, question, tokens, depth):
    room = tokens - len(needle) - len(question)
    place = min(room, round(depth / 100 * tokens))
    return straw[:place] + needle + straw[place:room] + question


@hiding.wrong("not per cent", says="the needle stands at the very end")
def hide(straw, needle, question, tokens, depth):
    room = tokens - len(needle) - len(question)
    place = min(room, round(depth * room))
    return straw[:place] + needle + straw[place:room] + question


@hiding.wrong("cut off at the end", says="does not end with the question")
def hide(straw, needle, question, tokens, depth):
    place = round(depth / 100 * tokens)
    return (straw[:place] + needle + straw[place:] + question)[:tokens]
