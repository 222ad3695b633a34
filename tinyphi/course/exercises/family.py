"""Exercises of notebook 21: count a model's numbers, weigh its cache, find the crossing, choose the bits."""

import math

from tinyphi.course.exercise import Exercise, fail_if, misconception, number_of

MINI = {"v": 32064, "d": 3072, "f": 8192, "layers": 32, "h": 32, "n": 32, "tied": False}
PHI_4_MINI = MINI | {"v": 200064, "h": 24, "n": 8, "tied": True}
MEDIUM = MINI | {"d": 5120, "f": 17920, "layers": 40, "h": 40, "n": 10}
SMOLLM2 = {"v": 49152, "d": 576, "f": 1536, "layers": 30, "h": 9, "n": 3, "tied": True}
MEMBERS = {"Phi-3-mini": MINI, "Phi-3-medium": MEDIUM, "Phi-4-mini": PHI_4_MINI, "SmolLM2": SMOLLM2}


def _numbers(answers):
    """Each answer as a number; says so if it is none."""
    return {case: number_of(answer) for case, answer in answers.items()}


def _same(got, wanted, tolerance=0.5):
    return all(abs(got[case] - wanted[case]) <= tolerance for case in wanted)


def _first_difference(got, wanted, unit, tolerance=0.5):
    case = next(case for case in wanted if abs(got[case] - wanted[case]) > tolerance)
    misconception(f"For {case} it should be {wanted[case]:,} {unit}; yours is {got[case]:,.0f}.")


# --------------------------------------------------------------------------------------------------------------
counting = Exercise(
    "family.parameters",
    notebook="21_the_family",
    title="Count a model before you fetch it",
    difficulty=2,
    minutes=15,
    task="""
    Write `count(v, d, f, layers, h, n, tied)`: how many numbers a model has, from the numbers of its
    configuration. `v` rows of the vocabulary, width `d`, MLP width `f`, `h` query heads, `n` key/value heads; a
    head has `d / h` channels. There are no biases.

    - Each layer has four matrices, `qkv_proj`, `o_proj`, `gate_up_proj` and `down_proj`, and two norms of `d`.
    - Around them stand the embedding, one last norm, and the head, which is the embedding itself if `tied`.
    """,
    hints=[
        "`qkv_proj` has d columns. How many rows: h heads of queries, n of keys, n of values, each d / h channels.",
        "The MLP: gate and up are two matrices of f rows and d columns, down has d rows and f columns.",
        "Test it: with the numbers of Phi-3-mini it must give 3,821,079,552.",
    ],
)


@counting.stub
def count(v, d, f, layers, h, n, tied):
    """whole numbers, and a bool → whole number"""
    ...  # your code


@counting.solution
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    layer = qkv + d * d + 3 * f * d + 2 * d
    return v * d * (1 if tied else 2) + layers * layer + d


def _count(v, d, f, layers, h, n, tied, kv=None, mlp=3, norms=2, last=1, heads=None, o_proj=1):
    """The count, or one with a mistake in it."""
    qkv = (h + 2 * (n if kv is None else kv(h))) * (d // h) * d
    layer = qkv + o_proj * d * d + mlp * f * d + norms * d
    return v * d * (heads or (1 if tied else 2)) + layers * layer + last * d


@counting.judge
def judge_counting(f):
    got = _numbers({name: f(*numbers.values()) for name, numbers in MEMBERS.items()})
    wanted = {name: _count(**numbers) for name, numbers in MEMBERS.items()}
    if _same(got, wanted):
        return

    def like(**mistake):
        return _same(got, {name: _count(**numbers, **mistake) for name, numbers in MEMBERS.items()})

    fail_if(
        like(kv=lambda h: h),
        "Right for Phi-3-mini, too many for the others: they have fewer heads of keys and values than of queries. "
        "Use n.",
    )
    fail_if(
        like(mlp=2),
        "The MLP has two matrices here. Gate and up are stored as one, but it has 2f rows.",
    )
    fail_if(
        like(heads=2),
        "Right for the Phi-3s, too many for Phi-4-mini and SmolLM2: a tied head is no matrix of its own.",
    )
    fail_if(
        like(heads=1),
        "Phi-3-mini has an embedding *and* a head, each with v rows; only a tied head is shared.",
    )
    fail_if(like(o_proj=0), "The matrix that mixes the heads is missing: o_proj, d × d.")
    fail_if(
        like(last=0) or like(norms=1) or like(norms=0, last=0) or like(norms=0),
        "Very close! Norms are missing: two in each layer, and one after the last, of d numbers each.",
    )
    _first_difference(got, wanted, "numbers")


@counting.wrong("n forgotten", says="fewer heads of keys and values than of queries")
def count(v, d, f, layers, h, n, tied):
    return v * d * (1 if tied else 2) + layers * (3 * d * d + d * d + 3 * f * d + 2 * d) + d


@counting.wrong("an MLP of two matrices", says="it has 2f rows")
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    return v * d * (1 if tied else 2) + layers * (qkv + d * d + 2 * f * d + 2 * d) + d


@counting.wrong("a tied head counted twice", says="a tied head is no matrix of its own")
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    return 2 * v * d + layers * (qkv + d * d + 3 * f * d + 2 * d) + d


@counting.wrong("no head", says="only a tied head is shared")
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    return v * d + layers * (qkv + d * d + 3 * f * d + 2 * d) + d


@counting.wrong("no o_proj", says="mixes the heads")
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    return v * d * (1 if tied else 2) + layers * (qkv + 3 * f * d + 2 * d) + d


@counting.wrong("without the last norm", says="Norms are missing")
def count(v, d, f, layers, h, n, tied):
    qkv = (h + 2 * n) * (d // h) * d
    return v * d * (1 if tied else 2) + layers * (qkv + d * d + 3 * f * d + 2 * d)


# --------------------------------------------------------------------------------------------------------------
caching = Exercise(
    "family.cache",
    notebook="21_the_family",
    title="What the memory weighs",
    difficulty=1,
    minutes=10,
    task="""
    Write `cache_bytes(layers, h, n, c, tokens, window)`: the bytes that the keys and values of `tokens` tokens
    take in bfloat16 (2 bytes a number). A head has `c` channels; there are `h` heads of queries and `n` of keys
    and values. With a `window`, a token sees only so many tokens, itself included, so that older ones are thrown
    away: the cache never holds more than `window`. (tinyphi's own has room for 256 more, notebook 19; leave them
    out here.) `None` means that all are kept.
    """,
    hints=[
        "What is stored for one token in one layer: a key *and* a value, for each of the n heads, c channels each.",
        "Queries are used once and forgotten. Only n counts.",
        "How many tokens are kept? `min(tokens, window)`, but only if there is a window.",
    ],
)


@caching.stub
def cache_bytes(layers, h, n, c, tokens, window):
    """whole numbers (window may be None) → bytes"""
    ...  # your code


@caching.solution
def cache_bytes(layers, h, n, c, tokens, window):
    kept = tokens if window is None else min(tokens, window)
    return 2 * layers * n * c * kept * 2


@caching.judge
def judge_caching(f):
    cases = {
        "Phi-3-mini-128k and 4,096 tokens": (32, 32, 32, 96, 4096, None),
        "Phi-3-medium and 131,072 tokens": (40, 40, 10, 128, 131072, None),
        "Phi-3-mini-4k and 4,096 tokens with a window of 2,047": (32, 32, 32, 96, 4096, 2047),
        "Phi-3-mini-4k and 100 tokens with a window of 2,047": (32, 32, 32, 96, 100, 2047),
    }
    got = _numbers({name: f(*given) for name, given in cases.items()})

    def like(wanted):
        return _same(got, {name: wanted(*given) for name, given in cases.items()})

    def kept(tokens, window):
        return tokens if window is None else min(tokens, window)

    if like(lambda a, h, n, c, t, w: 4 * a * n * c * kept(t, w)):
        return
    fail_if(
        like(lambda a, h, n, c, t, w: 4 * a * h * c * kept(t, w)),
        "Right for Phi-3-mini; for medium it is four times too much. Four query heads share one key/value head "
        "there, and only keys and values are kept.",
    )
    fail_if(
        like(lambda a, h, n, c, t, w: 2 * a * n * c * kept(t, w)),
        "It is half of what it should be. For each token a key *and* a value are kept, each number in 2 bytes.",
    )
    fail_if(
        like(lambda a, h, n, c, t, w: 4 * a * n * c * t),
        "With a window of 2,047 you keep all 4,096 tokens. Nobody will ever look at the older ones again.",
    )
    fail_if(
        like(lambda a, h, n, c, t, w: 4 * n * c * kept(t, w)),
        "This is the cache of a single layer. Each layer has keys and values of its own.",
    )
    fail_if(
        like(lambda a, h, n, c, t, w: 4 * a * n * c * (t if w is None else w)),
        "After 100 tokens the cache holds 100, not the whole window. It fills up first.",
    )
    _first_difference(
        got, {name: 4 * a * n * c * kept(t, w) for name, (a, _, n, c, t, w) in cases.items()}, "bytes"
    )


@caching.wrong("query heads", says="Four query heads share one")
def cache_bytes(layers, h, n, c, tokens, window):
    kept = tokens if window is None else min(tokens, window)
    return 2 * layers * h * c * kept * 2


@caching.wrong("keys only", says="a key *and* a value are kept")
def cache_bytes(layers, h, n, c, tokens, window):
    kept = tokens if window is None else min(tokens, window)
    return layers * n * c * kept * 2


@caching.wrong("no window", says="Nobody will ever look at the older ones")
def cache_bytes(layers, h, n, c, tokens, window):
    return 2 * layers * n * c * tokens * 2


@caching.wrong("one layer", says="the cache of a single layer")
def cache_bytes(layers, h, n, c, tokens, window):
    kept = tokens if window is None else min(tokens, window)
    return 2 * n * c * kept * 2


@caching.wrong("full from the start", says="It fills up first")
def cache_bytes(layers, h, n, c, tokens, window):
    kept = tokens if window is None else window
    return 2 * layers * n * c * kept * 2


# --------------------------------------------------------------------------------------------------------------
crossing = Exercise(
    "family.crossing",
    notebook="21_the_family",
    title="Where attention takes over",
    difficulty=2,
    minutes=15,
    task="""
    The matrices of a model take `matrices` multiplications for each token, however long the text. The scores and
    the mixing of values take more with every token that is looked at. Write `tokens_until(matrices, layers, h, n,
    c, window)`: the smallest number of tokens to look at for which attention costs at least as many
    multiplications as the matrices. If the `window` (`None`: there is none) never lets a token look at so many,
    return `None`.
    """,
    hints=[
        "For one query head, one token looked at costs c multiplications for the score.",
        "And c more: its value is multiplied by the weight and added. Every *query* head does that in each layer.",
        "So it is matrices / (2 · layers · h · c), rounded up. `-(-a // b)` rounds up; `math.ceil(a / b)` does too.",
    ],
)


@crossing.stub
def tokens_until(matrices, layers, h, n, c, window):
    """whole numbers (window may be None) → tokens, or None"""
    ...  # your code


@crossing.solution
def tokens_until(matrices, layers, h, n, c, window):
    tokens = -(-matrices // (2 * layers * h * c))
    return None if window is not None and window < tokens else tokens


_CROSSINGS = {
    "Phi-3-mini": (3_722_379_264, 32, 32, 32, 96),
    "Phi-3-medium": (13_795_655_680, 40, 40, 10, 128),
    "a toy whose numbers divide evenly": (12_000, 3, 4, 2, 5),
}


def _until(matrices, layers, heads, c, each=2, up=True):
    cost = each * layers * heads * c
    return -(-matrices // cost) if up else matrices // cost


@crossing.judge
def judge_crossing(f):
    got = _numbers({name: f(*given, None) for name, given in _CROSSINGS.items()})

    def wanted(heads=lambda h, n: h, **mistake):
        return {
            name: _until(m, layers, heads(h, n), c, **mistake)
            for name, (m, layers, h, n, c) in _CROSSINGS.items()
        }

    if not _same(got, wanted(), 0.1):
        fail_if(
            _same(got, wanted(each=1), 0.1),
            "That is twice as far as it should be. A token that is looked at is used twice: its key for the score, "
            "its value in the mixture.",
        )
        fail_if(
            _same(got, wanted(lambda h, n: n), 0.1),
            "You count key/value heads. Sharing them saves memory, but each of the h query heads still multiplies "
            "for itself.",
        )
        fail_if(
            _same(got, wanted(up=False), 0.1),
            "One token too early, where it does not come out even: attention must cost *at least* as much. Round up.",
        )
        fail_if(
            _same(got, {name: tokens * _CROSSINGS[name][1] for name, tokens in wanted().items()}, 99),
            "This is for a single layer. All layers look at the earlier tokens, and `matrices` is of all layers.",
        )
        fail_if(
            any(tokens % 1 for tokens in got.values()),
            "There is no part of a token. Attention must cost *at least* as much, so round up.",
        )
        fail_if(
            _same(got, {name: tokens + 1 for name, tokens in wanted(up=False).items()}, 0.1),
            "One token too late where the numbers divide evenly: as much is enough. Round up only what is left over.",
        )
        _first_difference(got, wanted(), "tokens", 0.1)
    closed = f(*_CROSSINGS["Phi-3-mini"], 2047)
    fail_if(
        closed is not None,
        "Phi-3-mini crosses at 18,933 tokens. With a window of 2,047 no token ever looks at so many; then the answer "
        f"is None, and yours is {closed}.",
    )
    edges = {window: f(*_CROSSINGS["a toy whose numbers divide evenly"], window) for window in (99, 100, 101)}
    fail_if(
        edges != {99: None, 100: 100, 101: 100},
        f"The toy crosses at 100 tokens. With windows of 99, 100 and 101 you answer {list(edges.values())}; a window "
        "of 100 still lets a token look at 100.",
    )


@crossing.wrong("scores only", says="used twice")
def tokens_until(matrices, layers, h, n, c, window):
    tokens = -(-matrices // (layers * h * c))
    return None if window is not None and window < tokens else tokens


@crossing.wrong("key/value heads", says="each of the h query heads")
def tokens_until(matrices, layers, h, n, c, window):
    tokens = -(-matrices // (2 * layers * n * c))
    return None if window is not None and window < tokens else tokens


@crossing.wrong("rounded down", says="Round up")
def tokens_until(matrices, layers, h, n, c, window):
    tokens = matrices // (2 * layers * h * c)
    return None if window is not None and window < tokens else tokens


@crossing.wrong("one layer", says="This is for a single layer")
def tokens_until(matrices, layers, h, n, c, window):
    tokens = -(-matrices // (2 * h * c))
    return None if window is not None and window < tokens else tokens


@crossing.wrong("a window that is just large enough", says="still lets a token look at 100")
def tokens_until(matrices, layers, h, n, c, window):
    tokens = -(-matrices // (2 * layers * h * c))
    return None if window is not None and window <= tokens else tokens


@crossing.wrong("no window", says="no token ever looks at so many")
def tokens_until(matrices, layers, h, n, c, window):
    return -(-matrices // (2 * layers * h * c))


# --------------------------------------------------------------------------------------------------------------
fitting = Exercise(
    "family.bits",
    notebook="21_the_family",
    title="How many bits fit?",
    difficulty=2,
    minutes=15,
    task="""
    Write `bits_that_fit(parameters, gib, group)`: the largest whole number of bits for each weight with which all
    `parameters` fit into `gib` GiB (2³⁰ bytes). With a `group`, so many weights share one scale of 16 bits, which
    has to fit too; `group=None` means no scales. If not even one bit fits, the answer is 0.
    """,
    hints=[
        "How many *bits* are there? `gib * 2**30 * 8`. And how many for each weight?",
        "A scale of 16 bits for 32 weights costs each weight 16 / 32 of a bit.",
        "What is left is rounded *down*: 4.9 bits are 4. And never less than 0.",
    ],
)


@fitting.stub
def bits_that_fit(parameters, gib, group):
    """parameters, GiB, weights per scale or None → whole number of bits"""
    ...  # your code


@fitting.solution
def bits_that_fit(parameters, gib, group):
    scale = 0 if group is None else 16 / group
    return max(0, int(gib * 2**30 * 8 / parameters - scale))


_BUDGETS = {
    "Phi-3-mini in 1.8 GiB": (3_821_079_552, 1.8, None),
    "Phi-3-mini in 1.8 GiB, a scale for 32 weights": (3_821_079_552, 1.8, 32),
    "Phi-3-mini in 2.2 GiB, a scale for 32 weights": (3_821_079_552, 2.2, 32),
    "Phi-3-medium in 8 GiB": (13_960_238_080, 8.0, None),
    "Phi-3-medium in 8 GiB, a scale for 16 weights": (13_960_238_080, 8.0, 16),
    "Phi-3-medium in 1.7 GiB, a scale for 8 weights": (13_960_238_080, 1.7, 8),
}


def _bits(parameters, gib, group, giga=2**30, scale=16, rounding=math.floor, least=0):
    free = gib * giga * 8 / parameters - (0 if group is None else scale / group)
    return max(least, rounding(free))


@fitting.judge
def judge_fitting(f):
    got = _numbers({name: f(*given) for name, given in _BUDGETS.items()})

    def like(**mistake):
        return {name: _bits(*given, **mistake) for name, given in _BUDGETS.items()}

    if _same(got, like(), 0.01):
        return
    fail_if(
        _same(got, like(scale=0), 0.01),
        "You leave no room for the scales. 16 bits for a group of 32 are half a bit for each weight, and 4 become "
        "4.5.",
    )
    fail_if(
        _same(got, like(giga=10**9), 0.01),
        "Your GiB has 1,000,000,000 bytes. It has 2**30, which is 7 % more, and here it decides.",
    )
    fail_if(
        _same(got, like(rounding=math.ceil), 0.01) or _same(got, like(rounding=round), 0.01),
        "You round up. With a fraction of a bit too little the model does not fit.",
    )
    fail_if(
        _same(got, like(rounding=lambda free: free), 0.01),
        "A weight has a whole number of bits; round down what fits.",
    )
    fail_if(
        _same(got, like(least=-99), 0.01),
        "Phi-3-medium gets a negative number of bits in 1.7 GiB. If not even one bit fits, return 0.",
    )
    fail_if(
        _same(got, like(giga=2**27), 0.01),
        "These are bytes for each weight. A byte has 8 bits.",
    )
    _first_difference(got, like(), "bits", 0.01)


@fitting.wrong("no room for scales", says="half a bit for each weight")
def bits_that_fit(parameters, gib, group):
    return int(gib * 2**30 * 8 / parameters)


@fitting.wrong("gigabytes", says="It has 2**30")
def bits_that_fit(parameters, gib, group):
    scale = 0 if group is None else 16 / group
    return max(0, int(gib * 10**9 * 8 / parameters - scale))


@fitting.wrong("to the nearest", says="With a fraction of a bit too little")
def bits_that_fit(parameters, gib, group):
    scale = 0 if group is None else 16 / group
    return max(0, round(gib * 2**30 * 8 / parameters - scale))


@fitting.wrong("bytes", says="A byte has 8 bits")
def bits_that_fit(parameters, gib, group):
    scale = 0 if group is None else 16 / group
    return max(0, int(gib * 2**30 / parameters - scale))


@fitting.wrong("fewer than none", says="return 0")
def bits_that_fit(parameters, gib, group):
    scale = 0 if group is None else 16 / group
    return math.floor(gib * 2**30 * 8 / parameters - scale)
