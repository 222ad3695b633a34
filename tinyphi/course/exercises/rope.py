"""Exercises of notebook 06: RoPE and LongRoPE."""

import math

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, tensor_of
from tinyphi.model.rope import rotate as turned

# --------------------------------------------------------------------------------------------------------------
unseen = Exercise(
    "rope.never_round",
    notebook="06_rope",
    title="Angles that were never met",
    difficulty=1,
    minutes=5,
    task="""
    A pair whose hand has gone once round in training has met every angle. One that has not will meet new ones
    in a longer text. Write `never_round(speeds, tokens)`: `speeds` `(r)` in radians a token; return `(r)`
    bool, True for the pairs that do not complete a turn in `tokens` tokens. Then count them in Phi-3-mini
    with 4,096.
    """,
    hints=[
        "How far has a pair turned after that many tokens? Speed times time.",
        "Once round is 2π radians, `2 * torch.pi`.",
    ],
)


@unseen.stub
def never_round(speeds, tokens):
    """speeds (r), tokens: int → (r) bool"""
    ...  # your code


@unseen.solution
def never_round(speeds, tokens):
    return speeds * tokens < 2 * torch.pi


@unseen.judge
def judge_unseen(f):
    for base, pairs, tokens in ((10_000.0, 48, 4096), (100_000.0, 32, 8192), (10_000.0, 4, 4)):
        speeds = base ** (-torch.arange(pairs) / pairs)
        got = tensor_of(f(speeds, tokens), shape=(pairs,), dtype=torch.bool)
        angles = speeds * tokens
        right = angles < 2 * torch.pi
        if torch.equal(got, right):
            continue
        case = f"With {pairs} pairs, base {base:,.0f} and {tokens} tokens: "
        fail_if(
            torch.equal(got, ~right),
            case + "exactly the other way round. Slow pairs are the ones that never complete a turn.",
        )
        fail_if(
            torch.equal(got, angles < 1),
            case + "you ask for less than 1. The speeds are in radians, and a turn has 2π of them.",
        )
        fail_if(
            torch.equal(got, angles < torch.pi), case + "you ask for half a turn. Once round is 2π, not π."
        )
        fail_if(
            torch.equal(got, angles < 360),
            case + "you ask for 360. The speeds are in radians, not in degrees.",
        )
        fail_if(
            torch.equal(got, speeds < 2 * torch.pi),
            case
            + "in your answer no pair completes a turn. A speed is the angle of *one* token; how far has a pair "
            "turned after all of them?",
        )
        misconception(case + f"{int(right.sum())} pairs do not complete a turn; you say {int(got.sum())}.")


@unseen.wrong("the other way round", says="exactly the other way round")
def never_round(speeds, tokens):
    return speeds * tokens >= 2 * torch.pi


@unseen.wrong("speeds in turns", says="you ask for less than 1")
def never_round(speeds, tokens):
    return speeds * tokens < 1


@unseen.wrong("half a turn", says="you ask for half a turn")
def never_round(speeds, tokens):
    return speeds * tokens < torch.pi


@unseen.wrong("speeds in degrees", says="you ask for 360")
def never_round(speeds, tokens):
    return speeds * tokens < 360


# --------------------------------------------------------------------------------------------------------------
part = Exercise(
    "rope.partial",
    notebook="06_rope",
    title="Turn a part, leave the rest",
    difficulty=2,
    minutes=15,
    task="""
    Phi-4-mini turns only three quarters of each head's channels; the rest knows nothing of positions. Write
    `rotate_part(x, cos, sin)`: x `(b heads t c)`, cos and sin `(b t r)` → `(b heads t c)`. The first 2r
    channels are turned, channel i with channel i + r; the channels after them stay as they are. There may be
    none.
    """,
    hints=[
        "`my_rotate` above cuts x into two halves. Now there are three parts, two of them r wide.",
        "`x[..., :r]`, `x[..., r : 2 * r]` and what is left.",
        "`cos[:, None]` is `(b 1 t r)`: the 1 stands where the heads are, so that every head gets the same angles.",
    ],
)


@part.stub
def rotate_part(x, cos, sin):
    """x (b heads t c), cos and sin (b t r) → (b heads t c)"""
    ...  # your code


@part.solution
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    first, second, rest = x[..., :r], x[..., r : 2 * r], x[..., 2 * r :]
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


def _neighbours(x, cos, sin):
    """The other pairing: channel 2i with 2i + 1."""
    even, odd = x[..., 0 : 2 * cos.shape[-1] : 2], x[..., 1 : 2 * cos.shape[-1] : 2]
    cos, sin = cos[:, None], sin[:, None]
    both = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((both, x[..., 2 * cos.shape[-1] :]), dim=-1)


def _half_a_head(x, cos, sin):
    """Channel i with channel i + c/2, although only r pairs are turned."""
    r, half = cos.shape[-1], x.shape[-1] // 2
    result = x.clone()
    cos, sin = cos[:, None], sin[:, None]
    first, second = x[..., :r], x[..., half : half + r]
    result[..., :r] = first * cos - second * sin
    result[..., half : half + r] = second * cos + first * sin
    return result


@part.judge
def judge_part(f):
    for b, heads, t, c, r in ((2, 2, 5, 8, 3), (1, 3, 1, 8, 4), (2, 3, 4, 16, 6), (1, 1, 3, 4, 1)):
        x = torch.randn(b, heads, t, c)
        angles = 3 * torch.rand(b, t, r) + torch.arange(b)[:, None, None]
        cos, sin = angles.cos(), angles.sin()
        got = f(x, cos, sin)
        fail_if(
            isinstance(got, torch.Tensor) and got.shape == (b, heads, t, 2 * r) and 2 * r < c,
            f"Of {c} channels you return the {2 * r} that are turned. The others are part of the head too.",
        )
        got = tensor_of(got, shape=x.shape, dtype=x.dtype)
        right = turned(x, cos, sin)
        if near(got, right):
            continue
        fail_if(near(got, x), "Nothing is turned: this is x itself.")
        fail_if(
            near(got, turned(x, cos, -sin)),
            "You turn the wrong way round: the signs of the two sines are exchanged. (x, y) becomes "
            "(x·cos − y·sin, y·cos + x·sin).",
        )
        fail_if(
            near(got, _neighbours(x, cos, sin)),
            "You pair neighbours, 2i with 2i + 1. This model's weights want channel i with channel i + r.",
        )
        fail_if(
            near(got, _half_a_head(x, cos, sin)),
            f"You pair channel i with channel i + {c // 2}, half a head. The partner is r = {r} channels away.",
        )
        fail_if(
            b == heads
            and near(got[..., : 2 * r], turned(x.transpose(0, 1), cos, sin).transpose(0, 1)[..., : 2 * r]),
            f"With {b} rows and as many heads, each *head* gets the angles of a row. Put an axis where the heads are, "
            "or torch aligns the batch of the cosines with the heads of x.",
        )
        fail_if(
            b > 1 and near(got, turned(x, cos[:1], sin[:1])),
            "Every row of the batch is turned by the angles of the first. Rows may have other positions: think of padding.",
        )
        fail_if(
            not near(got[..., 2 * r :], x[..., 2 * r :]),
            f"The channels from {2 * r} on should stay as they are.",
        )
        misconception(f"With x of shape {(b, heads, t, c)} and r = {r} the turned channels are not right.")


@part.wrong("neighbours", says="You pair neighbours")
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    even, odd, rest = x[..., 0 : 2 * r : 2], x[..., 1 : 2 * r : 2], x[..., 2 * r :]
    cos, sin = cos[:, None], sin[:, None]
    both = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    return torch.cat((both, rest), dim=-1)


@part.wrong("half a head away", says="The partner is r")
def rotate_part(x, cos, sin):
    r, half = cos.shape[-1], x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    cos, sin = cos[:, None], sin[:, None]
    a, b = first[..., :r], second[..., :r]
    return torch.cat((a * cos - b * sin, first[..., r:], b * cos + a * sin, second[..., r:]), dim=-1)


@part.wrong("the wrong way round", says="the wrong way round")
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    first, second, rest = x[..., :r], x[..., r : 2 * r], x[..., 2 * r :]
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos + second * sin, second * cos - first * sin, rest), dim=-1)


@part.wrong("forgets the rest", says="that are turned. The others")
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    first, second = x[..., :r], x[..., r : 2 * r]
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@part.wrong("the angles on the wrong axis", says="Put an axis where the heads are")
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    first, second, rest = x[..., :r], x[..., r : 2 * r], x[..., 2 * r :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


@part.wrong("the first row's angles", says="by the angles of the first")
def rotate_part(x, cos, sin):
    r = cos.shape[-1]
    first, second, rest = x[..., :r], x[..., r : 2 * r], x[..., 2 * r :]
    cos, sin = cos[0], sin[0]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


# --------------------------------------------------------------------------------------------------------------
moving = Exercise(
    "rope.move",
    notebook="06_rope",
    title="Move what is in the cache",
    difficulty=2,
    minutes=20,
    task="""
    The cache holds keys that are turned already. A chat program throws away the oldest tokens and wants all
    others to move to new positions, without running the model again. Write `move(keys, speeds, old, new)`:
    keys `(heads t c)` as the cache holds them, turned to the positions `old` `(t)`; return them turned to the
    positions `new` `(t)`. `speeds` are `(c/2)` radians a token; channel i is paired with channel i + c/2.
    """,
    hints=[
        "A hand that points to angle a and is turned by b more points to a + b. What must be added to get from old to new?",
        "The angles to turn by are `(new - old)[:, None] * speeds`, `(t c/2)`.",
        "Then it is `my_rotate` without the batch axis: the cosines `(t c/2)` fit keys `(heads t c/2)` as they are.",
    ],
)


@moving.stub
def move(keys, speeds, old, new):
    """keys (heads t c), speeds (c/2), old and new (t) → (heads t c)"""
    ...  # your code


@moving.solution
def move(keys, speeds, old, new):
    angles = (new - old)[:, None] * speeds
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@moving.judge
def judge_moving(f):
    def turn_to(plain, angles):
        return turned(plain[None], angles.cos()[None], angles.sin()[None])[0]

    for heads, t, c, gap, sinks in ((3, 4, 8, 5, 0), (1, 1, 4, 2, 0), (2, 6, 16, 100, 2)):
        plain, speeds = torch.randn(heads, t, c), 1 / 100 ** (2 * torch.arange(c // 2) / c)
        old = torch.arange(t) + gap * (torch.arange(t) >= sinks)  # the first few may stay where they are
        new = torch.arange(t)
        keys, right = turn_to(plain, old[:, None] * speeds), turn_to(plain, new[:, None] * speeds)
        got = tensor_of(f(keys, speeds, old, new), shape=keys.shape)
        if near(got, right, 1e-4):
            continue
        fail_if(near(got, keys), "The keys are where they were. Nothing has been turned.")
        fail_if(
            any(near(got, turn_to(keys, (new - old)[[i] * t][:, None] * speeds), 1e-4) for i in (0, -1)),
            f"From {old.tolist()} to {new.tolist()} you turn all tokens by the same angle. They do not all move equally "
            "far: think of a cache that keeps the first tokens.",
        )
        fail_if(
            near(got, turn_to(keys, new[:, None] * speeds), 1e-4),
            "You turn by the new position. But these keys have been turned by the old one already: turns add up.",
        )
        fail_if(
            near(got, turn_to(keys, (old - new)[:, None] * speeds), 1e-4),
            "You turn by old − new, and so move the keys as far in the wrong direction.",
        )
        fail_if(
            near(got, turn_to(keys, -old[:, None] * speeds), 1e-4),
            "You turn the keys back to position 0, all of them. One step is missing.",
        )
        fail_if(
            near(got, _neighbours(keys[None], *_cos_sin((new - old)[:, None] * speeds))[0], 1e-4),
            "The angles are right, but you turn neighbours together instead of channel i with channel i + c/2.",
        )
        misconception(
            f"From positions {old.tolist()} to {new.tolist()} the keys are not what they would be there."
        )


def _cos_sin(angles):
    return angles.cos()[None], angles.sin()[None]


@moving.wrong("by the new position", says="turns add up")
def move(keys, speeds, old, new):
    angles = new[:, None] * speeds
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@moving.wrong("all equally far", says="do not all move equally far")
def move(keys, speeds, old, new):
    angles = (new - old)[-1] * speeds
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@moving.wrong("in the wrong direction", says="as far in the wrong direction")
def move(keys, speeds, old, new):
    angles = (old - new)[:, None] * speeds
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@moving.wrong("only back", says="back to position 0")
def move(keys, speeds, old, new):
    angles = old[:, None] * speeds
    first, second = keys.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos + second * sin, second * cos - first * sin), dim=-1)


@moving.wrong("neighbours", says="you turn neighbours together")
def move(keys, speeds, old, new):
    angles = (new - old)[:, None] * speeds
    even, odd = keys[..., 0::2], keys[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


# --------------------------------------------------------------------------------------------------------------
stretching = Exercise(
    "rope.longrope",
    notebook="06_rope",
    title="LongRoPE in six lines",
    difficulty=3,
    minutes=25,
    task="""
    Write `longrope(positions, base, short, long, original, largest)` for one text, whose tokens stand at
    `positions` `(t)`: the last is the largest, and a text whose last position is 9 has 10 tokens. `short` and
    `long` are `(r)` tensors of factors. Return cos and sin, two of `(t r)`.

    - Pair i of r has the speed 1 / (factor i · base^(i/r)).
    - The factors are the long ones if the text has more than `original` tokens, the short ones otherwise, *for all its
      tokens*.
    - cos and sin are both multiplied by √(1 + ln(`largest` / `original`) / ln `original`), `largest` being the longest
      text that the model is made for, however short this one is.
    """,
    hints=[
        "First decide: `tokens = positions[-1] + 1`, then one list of factors for everything.",
        "`speeds = 1 / (factors * base ** (torch.arange(r) / r))`, and the angles are `positions[:, None] * speeds`.",
        "The multiplier is one number: with s = largest / original it is `(1 + log(s) / log(original)) ** 0.5`; "
        "`torch.log` wants tensors, so `torch.tensor(float(…)).log()`.",
    ],
)


@stretching.stub
def longrope(positions, base, short, long, original, largest):
    """positions (t), short and long (r) → cos, sin: (t r) each"""
    ...  # your code


@stretching.solution
def longrope(positions, base, short, long, original, largest):
    factors = long if positions[-1] + 1 > original else short
    speeds = 1 / (factors * base ** (torch.arange(len(factors)) / len(factors)))
    angles = positions[:, None] * speeds
    stretch = (1 + torch.tensor(largest / original).log() / torch.tensor(float(original)).log()) ** 0.5
    return angles.cos() * stretch, angles.sin() * stretch


@stretching.judge
def judge_stretching(f):
    base, original, largest = 10_000.0, 8, 64
    short, long = torch.tensor([1.1, 1.5, 2.0]), torch.tensor([1.2, 6.0, 9.0])
    stretch = math.sqrt(1 + math.log(largest / original) / math.log(original))

    def angles(positions, factors):
        return positions[:, None] / (factors * base ** (torch.arange(3) / 3))

    for first, tokens in ((0, 7), (0, 40), (20, 1), (0, 8), (0, 9)):
        positions = torch.arange(first, first + tokens)
        got = f(positions, base, short, long, original, largest)
        fail_if(
            got is None, "There is no result: it is None. Does every path through your function `return` one?"
        )
        fail_if(not isinstance(got, (tuple, list)) or len(got) != 2, "Return two tensors, cos and sin.")
        cos, sin = (
            tensor_of(one, shape=(tokens, 3), name=name)
            for one, name in zip(got, ("cos", "sin"), strict=True)
        )
        used, other = (long, short) if first + tokens > original else (short, long)
        right = angles(positions, used)

        def are(wanted, factor=stretch, cos=cos, sin=sin):
            return near(cos, wanted.cos() * factor, 1e-4) and near(sin, wanted.sin() * factor, 1e-4)

        if are(right):
            continue
        case = f"At positions {positions[0]} to {positions[-1]}, with original = {original}: "
        fail_if(
            are(right, 1.0),
            case + "the angles are right, but the multiplier is missing. Short texts have it too.",
        )
        fail_if(
            are(right, stretch**2) or are(right, 1 + math.log(largest / original) / math.log(original)),
            case + "the multiplier lacks its root. It enters every product of a query and a key twice.",
        )
        each = [
            torch.where(positions[:, None] >= start, angles(positions, long), angles(positions, short))
            for start in (original, original + 1)
        ]
        fail_if(
            first == 0 and tokens > original + 1 and any(map(are, each)),
            case
            + "you choose the factors token by token. One text has one list: two tokens turned by different "
            "speeds cannot tell their distance.",
        )
        fail_if(
            tokens + first in (original, original + 1) and are(angles(positions, other)),
            case
            + f"the wrong list at the boundary. Position {original - 1} is token number {original}; the long factors "
            "begin with the token after it.",
        )
        fail_if(
            are(angles(positions, other)),
            case
            + "you chose the other list of factors. How long the text is, the last position tells; a call may bring "
            "only its newest tokens.",
        )
        fail_if(
            are(positions[:, None] * used / base ** (torch.arange(3) / 3)),
            case + "you multiply the speeds by the factors. Larger factors make the hands slower.",
        )
        fail_if(are(angles(positions, torch.ones(3))), case + "no factors are used at all.")
        misconception(
            case
            + f"they differ; the last row of cos should be {_row(right[-1].cos() * stretch)}, yours is {_row(cos[-1])}."
        )


def _row(values):
    return ", ".join(f"{value:.3f}" for value in values.tolist())


@stretching.wrong("a boundary too early", says="the wrong list at the boundary")
def longrope(positions, base, short, long, original, largest):
    factors = long if positions[-1] + 1 >= original else short
    speeds = 1 / (factors * base ** (torch.arange(len(factors)) / len(factors)))
    angles = positions[:, None] * speeds
    stretch = (1 + torch.tensor(largest / original).log() / torch.tensor(float(original)).log()) ** 0.5
    return angles.cos() * stretch, angles.sin() * stretch


@stretching.wrong("token by token", says="token by token")
def longrope(positions, base, short, long, original, largest):
    factors = torch.where(positions[:, None] > original, long, short)
    speeds = 1 / (factors * base ** (torch.arange(len(short)) / len(short)))
    angles = positions[:, None] * speeds
    stretch = (1 + torch.tensor(largest / original).log() / torch.tensor(float(original)).log()) ** 0.5
    return angles.cos() * stretch, angles.sin() * stretch


@stretching.wrong("no multiplier", says="the multiplier is missing")
def longrope(positions, base, short, long, original, largest):
    factors = long if positions[-1] + 1 > original else short
    speeds = 1 / (factors * base ** (torch.arange(len(factors)) / len(factors)))
    angles = positions[:, None] * speeds
    return angles.cos(), angles.sin()


@stretching.wrong("multiplies the speeds", says="you multiply the speeds")
def longrope(positions, base, short, long, original, largest):
    factors = long if positions[-1] + 1 > original else short
    speeds = factors / base ** (torch.arange(len(factors)) / len(factors))
    angles = positions[:, None] * speeds
    stretch = (1 + torch.tensor(largest / original).log() / torch.tensor(float(original)).log()) ** 0.5
    return angles.cos() * stretch, angles.sin() * stretch


@stretching.wrong("no root", says="lacks its root")
def longrope(positions, base, short, long, original, largest):
    factors = long if positions[-1] + 1 > original else short
    speeds = 1 / (factors * base ** (torch.arange(len(factors)) / len(factors)))
    angles = positions[:, None] * speeds
    stretch = 1 + torch.tensor(largest / original).log() / torch.tensor(float(original)).log()
    return angles.cos() * stretch, angles.sin() * stretch
