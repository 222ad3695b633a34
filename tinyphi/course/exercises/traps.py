"""Exercises of notebook 14: the trap lab."""

from contextlib import contextmanager
from dataclasses import replace

import torch

import tinyphi
from tinyphi.course.exercise import Exercise, fail_if, misconception
from tinyphi.course.traplab import miniature, trap, traps
from tinyphi.model.transformer import Phi3

NOTEBOOK = "14_trap_lab"

# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "traps.first_difference",
    notebook=NOTEBOOK,
    title="The first wrong number",
    difficulty=1,
    minutes=10,
    task="""
    Write `first_difference(mine, reference, tolerance)`: the name of the first intermediate, in the order of
    computation, that differs, or `None`. Both are traces: `for name in mine` goes through the names in that
    order, `mine[name]` is a tensor. Skip names that `reference` does not have.

    Two tensors differ if somewhere they are farther apart than `tolerance` times the largest absolute value
    in the reference's tensor. A NaN is a difference as well.
    """,
    hints=[
        "A loop over the names, and `return name` at the first that differs. What stands after the loop?",
        "`(mine[name] - reference[name]).abs().max()` against `tolerance * reference[name].abs().max()`.",
        "Every comparison with NaN is false: `nan > 1` and `nan <= 1`. So ask whether they *agree*, and return "
        "if they do not.",
    ],
)


@ex.stub
def first_difference(mine, reference, tolerance=1e-4):
    """The first name at which two traces differ, or None."""
    ...


@ex.solution
def first_difference(mine, reference, tolerance=1e-4):
    for name in mine:
        if name in reference:
            error = (mine[name] - reference[name]).abs().max()
            if not error <= tolerance * reference[name].abs().max():
                return name
    return None


def made(**tensors):
    trace = tinyphi.Trace()
    for name, values in tensors.items():
        trace.record(name, torch.tensor(values), "c")
    return trace


@ex.judge
def judge_first_difference(f):
    right = made(values=[1.0, 2.0], keys=[300.0, -400.0], attention=[0.5, 0.5], logits=[7.0, 8.0])

    def says(mine, reference=right):
        got = f(mine, reference, 1e-4)
        fail_if(
            got is not None and not isinstance(got, str),
            f"The result should be a name (a str) or None; yours is of type {type(got).__name__}.",
        )
        return got

    nothing = says(made(values=[1.0, 2.0], keys=[300.0, -400.0], attention=[0.5, 0.5], logits=[7.0, 8.0]))
    fail_if(nothing is not None, f"Two equal traces, and you return {nothing!r}; that should be None.")
    got = says(made(values=[1.0, 2.1], keys=[300.0, -400.0], attention=[0.9, 0.1], logits=[99.0, 8.0]))
    fail_if(got is None, "From `values` on everything differs, and you return None.")
    fail_if(
        got == "logits",
        "You return the largest difference, `logits`. Errors grow on their way; the cause "
        "lies where the *first* one is, at `values`.",
    )
    fail_if(
        got == "attention",
        "You return `attention`, the first by its letters. Keep to the order in which "
        "the trace gives its names: that is the order of computation.",
    )
    fail_if(got != "values", f"The first that differs is `values`; you return {got!r}.")
    got = says(made(values=[1.0, 2.0], keys=[300.0, -400.02], attention=[0.5, 0.5], logits=[7.0, 8.0]))
    fail_if(
        got is not None,
        "keys of 300 and -400 that are 0.02 apart agree to 1e-4 of their scale, and you "
        "find a difference. The tolerance is relative: multiply it by the largest absolute value.",
    )
    got = says(made(values=[1.0, 2.0], keys=[300.0, -400.0], attention=[0.5, 0.5], logits=[7.0, 8.001]))
    fail_if(
        got != "logits",
        "One number of `logits` is 0.001 off, more than 1e-4 of 8, and the other is right; you return "
        f"{got!r}. *Somewhere* is enough: a mean hides it.",
    )
    small = made(values=[0.001, 2.0], logits=[7.0, 8.0])
    got = says(made(values=[0.0011, 2.0], logits=[7.0, 8.0]), small)
    fail_if(
        got is not None,
        "0.0011 where 0.001 should be, beside a 2.0: 1e-4 of the largest value, 2.0, is more than that, so it is no "
        f"difference; you return {got!r}. Do not compare each number with its own size.",
    )
    got = says(made(values=[1.0, 2.0], keys=[float("nan"), -400.0], attention=[0.5, 0.5], logits=[7.0, 8.0]))
    fail_if(
        got != "keys",
        "There is a NaN in `keys`, and you pass over it: a comparison with NaN is always "
        "false. Ask whether the two agree, not whether they differ.",
    )
    got = says(made(extra=[5.0], values=[1.0, 2.0], logits=[7.0, 9.0]))
    fail_if(
        got != "logits", f"`extra` is only in one of the traces and should be skipped; you return {got!r}."
    )


@ex.wrong("the largest difference", says="the largest difference")
def first_difference(mine, reference, tolerance=1e-4):
    errors = {name: float((mine[name] - reference[name]).abs().max()) for name in mine if name in reference}
    worst = max(errors, key=errors.get)
    return worst if errors[worst] > tolerance * reference[worst].abs().max() else None


@ex.wrong("by the alphabet", says="by its letters")
def first_difference(mine, reference, tolerance=1e-4):
    for name in sorted(set(mine) & set(reference)):
        if not (mine[name] - reference[name]).abs().max() <= tolerance * reference[name].abs().max():
            return name
    return None


@ex.wrong("absolute tolerance", says="tolerance is relative")
def first_difference(mine, reference, tolerance=1e-4):
    for name in mine:
        if name in reference and not (mine[name] - reference[name]).abs().max() <= tolerance:
            return name
    return None


@ex.wrong("the mean difference", says="a mean hides it")
def first_difference(mine, reference, tolerance=1e-4):
    for name in mine:
        if name in reference:
            error = (mine[name] - reference[name]).abs().mean()
            if not error <= tolerance * reference[name].abs().max():
                return name
    return None


@ex.wrong("each by its own size", says="with its own size")
def first_difference(mine, reference, tolerance=1e-4):
    for name in mine:
        if name in reference and not torch.allclose(mine[name], reference[name], rtol=tolerance, atol=0):
            return name
    return None


@ex.wrong("NaN slips through", says="There is a NaN")
def first_difference(mine, reference, tolerance=1e-4):
    for name in mine:
        if name in reference:
            error = (mine[name] - reference[name]).abs().max()
            if error > tolerance * reference[name].abs().max():
                return name
    return None


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "traps.mysteries",
    notebook=NOTEBOOK,
    title="Three open cases",
    difficulty=2,
    minutes=20,
    task="""
    Cases 14, 20 and 23 are open. Investigate them as above, **without** `.reveal()`, and write `answers()`: a
    dictionary from the number of each case to the name of its trap, as `tinyphi.course.traps()` spells it.
    """,
    hints=[
        "`investigate(14)`, and read what it prints. Which witness saw it says as much as the place.",
        "Two traps may show at the same place. Print `finding.causes`, and compare `needs` and `hides` of the "
        "candidates: `for one in tinyphi.course.traps(): print(one)`.",
    ],
)
CASES = (14, 20, 23)


@ex.stub
def answers():
    """{14: name, 20: name, 23: name}"""
    ...


@ex.solution
def answers():
    return {14: "long_factors_always", 20: "padding_counted", 23: "window_ignored"}


@ex.judge
def judge_answers(f):
    got = f()
    fail_if(not isinstance(got, dict), f"Return a dictionary; yours is of type {type(got).__name__}.")
    known = {one.name: one for one in traps()}
    for number in CASES:
        fail_if(number not in got, f"There is no answer for case {number}. All three are wanted: {CASES}.")
        answer = got[number]
        fail_if(
            not isinstance(answer, str) or answer not in known,
            f"Case {number}: there is no trap called {answer!r}. Copy the name from `tinyphi.course.traps()`.",
        )
    for number in CASES:
        truth, answer = trap(seed=number).reveal(), known[got[number]]
        if answer.name == truth.name:
            continue
        fail_if(
            not answer.first,
            f"Case {number}: `{answer.name}` is a mistake outside of the forward pass. This one is inside.",
        )
        fail_if(
            answer.first != truth.first,
            f"Case {number}: `{answer.name}` shows first at `{answer.first}`, and this one at another place. "
            "Walk along the trace again.",
        )
        misconception(
            f"Case {number}: the right place, `{truth.first}`, but another mistake. What did the other witnesses "
            "see? What does bisect call likely?"
        )


@ex.wrong("invented name", says="no trap called")
def answers():
    return {14: "long_rope", 20: "padding_counted", 23: "window_ignored"}


@ex.wrong("two of three", says="no answer for case 23")
def answers():
    return {14: "long_factors_always", 20: "padding_counted"}


@ex.wrong("another place", says="at another place")
def answers():
    return {14: "long_factors_always", 20: "unmasked_padding", 23: "window_ignored"}


@ex.wrong("the neighbour", says="the right place")
def answers():
    return {14: "long_factors_always", 20: "padding_counted", 23: "window_off_by_one"}


@ex.wrong("outside", says="outside of the forward pass")
def answers():
    return {14: "missing_end", 20: "padding_counted", 23: "window_ignored"}


# What the two judges below share: a student's test is run on healthy and on trapped code.


@contextmanager
def watched(model):
    """What is given to the model: (tokens in the cache before, new tokens, whether there is a cache)."""
    calls = []

    def note(module, given, named):
        cache = named.get("cache", given[2] if len(given) > 2 else None)
        calls.append(
            (0 if cache is None else cache.tokens, given[0].shape[1] if given else 0, cache is not None)
        )

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def fails(test, model):
    """Whether a test fails on a model as tests do, with an AssertionError, and its calls of the model."""
    with watched(model) as calls:
        try:
            result = test(model)
        except Exception as error:
            if str(error).startswith(
                "AssertionError"
            ):  # what the learner's function raised, as `check` tells it
                return True, calls
            raise
    fail_if(
        result is not None,
        f"Your test returns {str(result)[:40]!r}. A test says nothing when all is well, and raises AssertionError "
        "(`assert …`) when not.",
    )
    return False, calls


def with_window(window):
    model = miniature()[0]
    model.config = replace(model.config, sliding_window=window)
    return model


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "traps.window_test",
    notebook=NOTEBOOK,
    title="A test that sees the window",
    difficulty=2,
    minutes=15,
    task="""
    Write `test_window(model)`, a regression test: it does nothing if the model's sliding window is right, and
    fails with an AssertionError (`assert …`) if a token sees more than `model.config.sliding_window` tokens,
    itself included. Its author will never hear of your traps, and the window may have any size.

    The judge runs it on healthy models, then with `window_off_by_one` and with `window_ignored` planted.
    """,
    hints=[
        "How long must the text be, so that the window hides anything at all? `model.config.sliding_window` "
        "says how large it is.",
        "A trace holds the mask: `trace = tinyphi.Trace(); model(ids, trace=trace); trace["
        '"mask"]` is (b t s) bool.',
        'How many tokens does the last one see? `trace["mask"][0, -1].sum()`.',
    ],
)


@ex.stub
def test_window(model):
    """Fail if a token sees more tokens than the window."""
    ...


@ex.solution
def test_window(model):
    window = model.config.sliding_window
    trace = tinyphi.Trace()
    model(torch.arange(3, 3 + window + 4)[None], trace=trace)
    assert trace["mask"][0, -1].sum() == window


@ex.judge
def judge_window_test(f):
    for window in (12, 7):
        failed, calls = fails(f, with_window(window))
        fail_if(
            failed and window == 12,
            "Your test fails on a healthy model. Count again what a token may see with a window of 12. (If you "
            "compare logits: what lies outside of the window still arrives, handed on from layer to layer.)",
        )
        fail_if(
            failed,
            f"Your test passes with a window of 12 and fails on a healthy model with a window of {window}. "
            "Is a number written down that the configuration should give?",
        )
        for name in ("window_ignored", "window_off_by_one"):
            with trap(name):
                failed, calls = fails(f, with_window(window))
            if failed:
                continue
            longest = max((cached + new for cached, new, _ in calls), default=0)
            fail_if(not calls, "Your test passes with a trap planted: it never calls the model.")
            fail_if(
                longest <= window,
                f"`{name}` is planted, and your test passes. Its longest text has {longest} tokens and the window "
                f"{window}: nothing is hidden, so nothing can be seen that should be.",
            )
            fail_if(
                name == "window_ignored",
                f"`{name}` is planted, and your test passes. The text is long enough, but what you assert holds "
                "with and without a window.",
            )
            misconception(
                f"Your test catches `window_ignored` but not `{name}`, where a token sees {window + 1} tokens. "
                "Assert the exact number."
            )


@ex.wrong("too short", says="nothing is hidden")
def test_window(model):
    trace = tinyphi.Trace()
    model(torch.tensor([[3, 4, 5, 6, 7]]), trace=trace)
    assert trace["mask"].sum() == 15


@ex.wrong("true anyway", says="with and without a window")
def test_window(model):
    ids = torch.arange(3, 3 + 2 * model.config.sliding_window)[None]
    assert torch.isfinite(model(ids)).all()


@ex.wrong("far is hidden", says="Assert the exact number")
def test_window(model):
    trace = tinyphi.Trace()
    model(torch.arange(3, 3 + 2 * model.config.sliding_window)[None], trace=trace)
    assert not trace["mask"][0, -1, 0]


@ex.wrong("one too few", says="Count again")
def test_window(model):
    window = model.config.sliding_window
    trace = tinyphi.Trace()
    model(torch.arange(3, 3 + window + 4)[None], trace=trace)
    assert trace["mask"][0, -1].sum() == window - 1


@ex.wrong("a number by heart", says="written down")
def test_window(model):
    trace = tinyphi.Trace()
    model(torch.arange(3, 33)[None], trace=trace)
    assert trace["mask"][0, -1].sum() == 12


# ---------------------------------------------------------------------------------------------------------
ex = Exercise(
    "traps.cache_test",
    notebook=NOTEBOOK,
    title="A test that sees the crossing",
    difficulty=3,
    minutes=25,
    task="""
    Write `test_cache(model)`, a regression test for generation: token by token with a cache
    (`cache = model.new_cache()`, then `model(ids, cache=cache)` with one new token at a time), the logits of
    the **last** token must be those of reading the whole text in one call. Make it long enough to catch
    `stale_longrope`. LongRoPE changes its factors beyond `model.config.original_max_position_embeddings`.

    The judge runs it on healthy models and with the trap planted.
    """,
    hints=[
        "The text must begin below the boundary and end above it, in the *same* cache. A prompt that is longer "
        "from the start is turned with the long factors at once, and no key is ever stale.",
        "Compare the last token only: below the boundary the step used short factors, and the one long call did "
        "not, so these logits differ in a healthy model too.",
        "`torch.equal` asks for the last bit, and sums in another order differ there. "
        "`torch.allclose(a, b, rtol=1e-3, atol=1e-3)`.",
    ],
)


@ex.stub
def test_cache(model):
    """Fail if decoding with a cache differs from reading everything at once."""
    ...


@ex.solution
def test_cache(model):
    tokens = model.config.original_max_position_embeddings + 4
    ids = torch.arange(3, 3 + tokens)[None]
    cache = model.new_cache()
    for place in range(tokens):
        step = model(ids[:, place : place + 1], cache=cache)
    assert torch.allclose(step[0, -1], model(ids)[0, -1], rtol=1e-3, atol=1e-3)


def other_boundary():
    model = miniature()[0]
    changed = Phi3(
        replace(model.config, original_max_position_embeddings=24, max_position_embeddings=512)
    ).eval()
    changed.load_state_dict(model.state_dict())
    return changed


@ex.judge
def judge_cache_test(f):
    for model in (miniature()[0], other_boundary()):
        boundary = model.config.original_max_position_embeddings
        failed, calls = fails(f, model)
        fail_if(
            failed,
            "Your test fails on a healthy model. Sums in another order differ in their last bits, so compare "
            "with a tolerance; and compare the last token only, since the earlier ones were made with other factors.",
        )
        with trap("stale_longrope"):
            failed, calls = fails(f, model)
        if failed:
            continue
        begin = "`stale_longrope` is planted, and your test passes. "
        cached = [(before, new) for before, new, has_cache in calls if has_cache]
        fail_if(not calls, begin + "It never calls the model.")
        fail_if(
            not any(before for before, _ in cached),
            begin + "It never goes on with a cache that holds something.",
        )
        longest = max(before + new for before, new in cached)
        fail_if(
            longest <= boundary,
            begin
            + f"The cache ends with {longest} tokens; the factors change after {boundary}. It never crosses.",
        )
        crosses = any(0 < before <= boundary < before + new for before, new in cached)
        fail_if(
            not crosses,
            begin
            + "The prompt alone is longer than the boundary, so its keys are turned with the long factors "
            "from the start. Begin below it.",
        )
        misconception(
            begin
            + "It crosses the boundary, and what it compares there agrees: is the tolerance so wide, or are both "
            "sides made with the same cache?"
        )


@ex.wrong("never crosses", says="It never crosses")
def test_cache(model):
    ids = torch.arange(3, 13)[None]
    cache = model.new_cache()
    for place in range(10):
        step = model(ids[:, place : place + 1], cache=cache)
    assert torch.allclose(step[0, -1], model(ids)[0, -1], rtol=1e-3, atol=1e-3)


@ex.wrong("long from the start", says="Begin below it")
def test_cache(model):
    ids = torch.arange(3, 43)[None]
    cache = model.new_cache()
    model(ids[:, :36], cache=cache)
    for place in range(36, 40):
        step = model(ids[:, place : place + 1], cache=cache)
    assert torch.allclose(step[0, -1], model(ids)[0, -1], rtol=1e-3, atol=1e-3)


@ex.wrong("to the last bit", says="Sums in another order")
def test_cache(model):
    tokens = model.config.original_max_position_embeddings + 4
    ids = torch.arange(3, 3 + tokens)[None]
    cache = model.new_cache()
    for place in range(tokens):
        step = model(ids[:, place : place + 1], cache=cache)
    assert torch.equal(step[0, -1], model(ids)[0, -1])


@ex.wrong("everything is close", says="tolerance so wide")
def test_cache(model):
    tokens = model.config.original_max_position_embeddings + 4
    ids = torch.arange(3, 3 + tokens)[None]
    cache = model.new_cache()
    for place in range(tokens):
        step = model(ids[:, place : place + 1], cache=cache)
    assert torch.allclose(step[0, -1], model(ids)[0, -1], atol=100.0)


@ex.wrong("no cache", says="holds something")
def test_cache(model):
    ids = torch.arange(3, 23)[None]
    assert torch.allclose(model(ids)[0, -1], model(ids)[0, -1])
