"""Exercises of notebook 12: the key/value cache."""

import torch

from tinyphi.config import PhiConfig
from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# ---------------------------------------------------------------------------------------------------------------
append = Exercise(
    "cache.append",
    notebook="12_kv_cache",
    title="Remember one more",
    difficulty=1,
    minutes=10,
    task="""
    Write `remember(cache, keys, values)` for one layer. `cache` is None at first, later what you returned the last time:
    a pair (keys, values) of all tokens so far, each `(b n s c)`. `keys` and `values` are those of the new tokens,
    `(b n t c)`. Return the new pair, in the order in which the tokens were read. Leave the old tensors as they are.
    """,
    hints=[
        "If `cache` is None, the new keys and values are all there is.",
        "The tokens are the third axis of (b n t c): which number has it?",
        "`torch.cat((old, new), dim=2)`, for keys and for values.",
    ],
)


@append.stub
def remember(cache, keys, values):
    """None or a pair of (b n s c), (b n t c), (b n t c) → a pair of (b n s+t c)"""
    ...  # your code


@append.solution
def remember(cache, keys, values):
    if cache is None:
        return keys, values
    return torch.cat((cache[0], keys), dim=2), torch.cat((cache[1], values), dim=2)


@append.judge
def judge_append(f):
    for batch, heads, channels in ((1, 2, 4), (3, 2, 2), (2, 3, 3)):
        cache, all_keys, all_values = None, [], []
        for tokens in (2, 2, 1, 3):
            keys, values = torch.randn(2, batch, heads, tokens, channels)
            before = [torch.cat(parts, dim=2) for parts in (all_keys, all_values)] if all_keys else None
            all_keys, all_values = [*all_keys, keys], [*all_values, values]
            cache = f(cache, keys.clone(), values.clone())
            if not isinstance(cache, (tuple, list)) or len(cache) != 2:
                misconception("Return a pair, (keys, values); it is what you get as `cache` the next time.")
            _judge_pair(cache, before, (keys, values))


def _judge_pair(cache, before, new):
    names = ("keys", "values")
    wanted = new if before is None else [torch.cat(pair, dim=2) for pair in zip(before, new, strict=True)]
    for number, (got, right, name) in enumerate(zip(cache, wanted, names, strict=True)):
        shape = tuple(getattr(got, "shape", ()))
        fail_if(
            before is not None and shape == tuple(new[number].shape) and near(got, new[number]),
            f"Your {name} are only the new ones: what was read before is lost.",
        )
        fail_if(
            len(shape) == 4 and shape != tuple(right.shape) and got.numel() == right.numel(),
            f"Your {name} grow along the wrong axis: the shape is {shape}, where {tuple(right.shape)} is wanted. Each "
            "new token brings one more entry along the axis of the tokens, for the same heads and channels.",
        )
        tensor_of(got, shape=right.shape, name=name)
        fail_if(
            near(got, wanted[1 - number]),
            "Keys and values have changed places.",
        )
        fail_if(
            before is not None and near(got, torch.cat((new[number], before[number]), dim=2)),
            f"Your new {name} stand before the old ones. Attention without a mask would not mind, but nobody could "
            "tell any more which tokens are the latest: the window, and the mask of a longer prompt, count on it.",
        )
        fail_if(not near(got, right), f"The {name} have the right shape and not the right numbers.")


@append.wrong("along the heads", says="wrong axis")
def remember(cache, keys, values):
    if cache is None:
        return keys, values
    return torch.cat((cache[0], keys), dim=1), torch.cat((cache[1], values), dim=1)


@append.wrong("only the new ones", says="only the new ones")
def remember(cache, keys, values):
    return keys, values


@append.wrong("new ones first", says="before the old ones")
def remember(cache, keys, values):
    if cache is None:
        return keys, values
    return torch.cat((keys, cache[0]), dim=2), torch.cat((values, cache[1]), dim=2)


@append.wrong("mixed up", says="changed places")
def remember(cache, keys, values):
    if cache is None:
        return values, keys
    return torch.cat((cache[0], values), dim=2), torch.cat((cache[1], keys), dim=2)


# ---------------------------------------------------------------------------------------------------------------
room = Exercise(
    "cache.conversations",
    notebook="12_kv_cache",
    title="How many at once?",
    difficulty=2,
    minutes=15,
    task="""
    A machine has `memory` bytes. The weights lie there once, `bytes_per_number` bytes a number; what is left is
    for the caches of conversations of `tokens` tokens each, in the same precision. Write
    `conversations(config, memory, tokens, bytes_per_number)`: how many fit at the same time, a whole number.
    `config.parameter_count()` counts the numbers of the weights. In a model with a sliding window
    (`config.sliding_window`, otherwise None) let a cache hold no more tokens than the window.
    """,
    hints=[
        "How many bytes does one conversation take? `bytes_per_token` above gives those of a token.",
        "How many bytes are left beside the weights? If they do not even fit themselves, the answer is 0.",
        "A cache holds `min(tokens, window)` tokens, if there is a window. Then `//`, which gives a whole number.",
    ],
)


@room.stub
def conversations(config, memory, tokens, bytes_per_number):
    """a PhiConfig, three numbers → how many"""
    ...  # your code


def _one_conversation(config, tokens, each, window=True, heads=None, parts=2):
    held = min(tokens, config.sliding_window) if window and config.sliding_window else tokens
    heads = heads or config.num_key_value_heads
    return parts * config.num_hidden_layers * heads * config.head_dim * held * each


@room.solution
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    left = memory - config.parameter_count() * bytes_per_number
    return max(left // (numbers * bytes_per_number), 0)


@room.judge
def judge_room(f):
    for name, gigabytes, tokens, each in (
        ("phi-3-medium-128k", 80, 16_000, 2),
        ("phi-3-mini-4k", 24, 4096, 2),
        ("phi-3-mini-128k", 24, 4096, 1),
        ("smollm2-135m", 1, 1000, 4),
        ("phi-3-mini-128k", 5, 1000, 2),
    ):
        config, memory = PhiConfig.preset(name), gigabytes * 10**9
        weights = config.parameter_count() * each
        left, one = memory - weights, _one_conversation(config, tokens, each)
        wanted = max(left // one, 0)
        got = number_of(f(config, memory, tokens, each), name="number of conversations")
        if got == wanted:
            continue
        case = f"{name} on {gigabytes} GB, {tokens:,} tokens of {each} bytes a number: "
        fail_if(
            left < 0,
            case + "not even the weights fit, so no conversation does. There is no such thing as −1.",
        )
        fail_if(got == memory // one, case + "you forget that the weights must lie in the memory as well.")
        fail_if(
            got == memory // (one + weights),
            case + "you give each conversation its own weights. All of them are read with the same ones.",
        )
        wide = left // _one_conversation(config, tokens, each, window=False)
        fail_if(
            wide != wanted and got == wide,
            case + f"tokens outside the window of {config.sliding_window} need no room.",
        )
        fail_if(
            got == left // _one_conversation(config, tokens, each, heads=config.num_attention_heads),
            case + "you count the query heads. Only the key/value heads are stored.",
        )
        fail_if(
            got == left // _one_conversation(config, tokens, each, parts=1),
            case + "you store keys or values, but it must be both.",
        )
        fail_if(
            got == left // (one // config.num_hidden_layers),
            case + "you count one layer. Each layer has keys and values of its own.",
        )
        fail_if(
            abs(got - left / one) < 1,
            case + f"{left / one:.2f} of them would fit, so only {wanted:,} whole ones do.",
        )
        misconception(
            case
            + f"{left / 1e9:.2f} GB are left beside the weights, and one conversation takes {one / 1e9:.3f} GB, "
            f"so {wanted:,} fit; you say {got:,.0f}."
        )


@room.wrong("no weights", says="you forget that the weights")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    return memory // (numbers * bytes_per_number)


@room.wrong("weights for each", says="its own weights")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    return memory // ((numbers + config.parameter_count()) * bytes_per_number)


@room.wrong("no window", says="need no room")
def conversations(config, memory, tokens, bytes_per_number):
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens
    left = memory - config.parameter_count() * bytes_per_number
    return max(left // (numbers * bytes_per_number), 0)


@room.wrong("query heads", says="you count the query heads")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.hidden_size * held
    left = memory - config.parameter_count() * bytes_per_number
    return max(left // (numbers * bytes_per_number), 0)


@room.wrong("keys only", says="it must be both")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    left = memory - config.parameter_count() * bytes_per_number
    return max(left // (numbers * bytes_per_number), 0)


@room.wrong("rounded", says="whole ones do")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    left = memory - config.parameter_count() * bytes_per_number
    return max(round(left / (numbers * bytes_per_number)), 0)


@room.wrong("below nothing", says="not even the weights fit")
def conversations(config, memory, tokens, bytes_per_number):
    held = min(tokens, config.sliding_window) if config.sliding_window else tokens
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * held
    return (memory - config.parameter_count() * bytes_per_number) // (numbers * bytes_per_number)


# ---------------------------------------------------------------------------------------------------------------
positions = Exercise(
    "cache.positions",
    notebook="12_kv_cache",
    title="Where the next token stands",
    difficulty=2,
    minutes=10,
    task="""
    The rows of a batch have different lengths, so the short ones are padded on the left. `segments` `(b s)` says for each
    cached token whether it is real (1) or padding (0). Write `next_position(segments)` → `(b)` int64: the position at
    which the *next* token of each row stands. Positions count real tokens only, from 0.
    """,
    hints=[
        "A row with three real tokens has used the positions 0, 1 and 2.",
        "So the next position is the number of real tokens. Padding must not count.",
    ],
)


@positions.stub
def next_position(segments):
    """(b s) of 0 and 1 → (b) int64"""
    ...  # your code


@positions.solution
def next_position(segments):
    return (segments > 0).sum(dim=1)


@positions.judge
def judge_positions(f):
    for rows in (
        [[1, 1, 1, 1]],
        [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]],
        [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]],
        [[1]],
    ):
        segments = torch.tensor(rows)
        got = tensor_of(
            f(segments.clone()), shape=(len(rows),), dtype=torch.int64, name="tensor of positions"
        )
        real = segments.sum(1)
        where = f"For segments {rows} yours is {got.tolist()}: "
        fail_if(
            torch.equal(got, torch.full_like(real, segments.shape[1])) and not torch.equal(got, real),
            where
            + "you count the padding too. A short row would then jump to a far position, and its answer would "
            "depend on how long its neighbours are.",
        )
        fail_if(
            bool((got == 0).all()),
            where + "every new token would begin again at 0, as if it were the first one of the text.",
        )
        fail_if(
            torch.equal(got, real - 1),
            where + "that is the position of the *last* token; the next one would get the same again.",
        )
        fail_if(
            torch.equal(got, real + 1),
            where + "you leave a gap of one. Positions begin at 0, so n tokens have used 0 … n − 1.",
        )
        fail_if(
            torch.equal(got, segments.shape[1] - real) and not torch.equal(got, real),
            where + "you count the padding instead of the tokens.",
        )
        fail_if(not torch.equal(got, real), where + f"{real.tolist()} is right.")


@positions.wrong("counts the padding", says="count the padding too")
def next_position(segments):
    return torch.full((segments.shape[0],), segments.shape[1])


@positions.wrong("the last one again", says="the *last* token")
def next_position(segments):
    return segments.sum(dim=1) - 1


@positions.wrong("always zero", says="begin again at 0")
def next_position(segments):
    return torch.zeros(segments.shape[0], dtype=torch.int64)


@positions.wrong("a gap", says="a gap of one")
def next_position(segments):
    return segments.sum(dim=1) + 1


# ---------------------------------------------------------------------------------------------------------------
rolling = Exercise(
    "cache.rolling",
    notebook="12_kv_cache",
    title="Forget in time, not too early",
    difficulty=2,
    minutes=15,
    task="""
    In a model with a sliding window a token sees `window` tokens, *itself included*. Write `roll(stored, new, window)`:
    keys `(s c)` that are stored, keys `(t c)` of new tokens, t may be larger than the window. Return the keys that must
    stay for the token that comes *next*, oldest first, and not one more.
    """,
    hints=[
        "The next token sees itself and window − 1 others.",
        "All that is known after this step is `torch.cat((stored, new))`. Which part of it is needed?",
        "The last window − 1 rows. Careful with `joined[-(window - 1):]` when window is 1: −0 is 0.",
    ],
)


@rolling.stub
def roll(stored, new, window):
    """(s c), (t c), a number of at least 1 → (at most window - 1, c)"""
    ...  # your code


@rolling.solution
def roll(stored, new, window):
    joined = torch.cat((stored, new))
    return joined[max(0, len(joined) - (window - 1)) :]


@rolling.judge
def judge_rolling(f):
    for s, t, window in ((2, 1, 8), (3, 2, 4), (2, 3, 4), (1, 9, 4), (0, 5, 6), (0, 2, 1), (0, 1, 2)):
        joined = torch.arange(float(s + t))[:, None].expand(-1, 3) + 1
        stored, new = joined[:s].clone(), joined[s:].clone()
        got = tensor_of(f(stored, new, window), name="result")
        wanted = joined[max(0, s + t - (window - 1)) :]
        where = f"{s} stored, {t} new, window {window}: "
        fail_if(
            got.ndim != 2 or got.shape[1] != 3,
            where + f"the result should have the shape ({len(wanted)}, c); yours has {tuple(got.shape)}.",
        )
        if torch.equal(got, wanted):
            continue
        fail_if(
            window == 1 and len(got) > 0,
            where
            + f"with a window of 1 a token sees only itself, so nothing needs to stay; you keep {len(got)}. What "
            "does a slice do that begins at −0?",
        )
        fail_if(
            torch.equal(got, joined[max(0, s + t - window) :]),
            where
            + f"you keep {len(got)}. The window counts the token itself, so the next one sees {window - 1} others.",
        )
        fail_if(
            torch.equal(got, joined[: len(wanted)]),
            where
            + "you keep the oldest ones. The window moves on with the text: those are the ones to forget.",
        )
        fail_if(
            torch.equal(got, joined),
            where + "nothing is ever forgotten, so the cache grows as if there were no window.",
        )
        fail_if(
            len(got) < len(wanted),
            where
            + f"you keep {len(got)}, and the next token may see {len(wanted)}: it would miss something.",
        )
        misconception(
            where
            + f"tokens {wanted[:, 0].int().tolist()} should stay, and yours are {got[:, 0].int().tolist()}."
        )


@rolling.wrong("one too many", says="counts the token itself")
def roll(stored, new, window):
    joined = torch.cat((stored, new))
    return joined[max(0, len(joined) - window) :]


@rolling.wrong("keeps the oldest", says="the oldest ones")
def roll(stored, new, window):
    return torch.cat((stored, new))[: window - 1]


@rolling.wrong("minus zero", says="−0")
def roll(stored, new, window):
    return torch.cat((stored, new))[-(window - 1) :]


@rolling.wrong("never forgets", says="ever forgotten")
def roll(stored, new, window):
    return torch.cat((stored, new))


@rolling.wrong("drops before it adds", says="miss something")
def roll(stored, new, window):
    keep = max(0, window - 1 - len(new) - 1)
    return torch.cat((stored[max(0, len(stored) - keep) :], new))[-(window - 1) or len(new) + len(stored) :]
