"""How likely is this text after that one? The measure behind every multiple-choice benchmark.

A model is not asked to answer: the log-probability of each answer after the question is computed, and the
likeliest one counts as its choice. Only the tokens of the answer are scored, the question is given.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from tinyphi.errors import InputError
from tinyphi.model.rope import uses_long_factors
from tinyphi.model.transformer import Phi3
from tinyphi.tokenizer import Tokenizer

MOST_TOKENS = 2048  # of a batch, padding included: enough to keep a processor busy


class Request(NamedTuple):
    """What to score: `continuation` after `context`, both ids, neither empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Likelihood(NamedTuple):
    """What a model thinks of a continuation."""

    log_probability: float  # of all its tokens together, in nats
    greedy: bool  # whether each token is the model's first choice, so that greedy decoding would say it


class _Row(NamedTuple):
    """Tokens that the model reads once, and the requests that they answer: (place, targets)."""

    ids: tuple[int, ...]
    wanted: list[tuple[int, tuple[int, ...]]]


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> Request:
    """Two texts → the ids of both, cut where the context's tokens end.

    A continuation is encoded together with its context, for "Answer:" + " A" has a token " A" that neither
    text has alone. Spaces at the end of the context are moved to the continuation, where tokens have them.
    An empty context becomes the BOS token (or EOS, where a tokenizer has no BOS).
    Raises InputError if the tokenizer has neither, or if no token is left for the continuation.
    Source: `TemplateLM._encode_pair` and `loglikelihood` of lm-eval 0.4.13.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    if kept:
        begin = tokenizer.encode(kept)
        whole = tokenizer.encode(kept + continuation)
    else:
        begin = [first_id(tokenizer)]
        whole = without_bos(tokenizer, continuation)
        whole = whole if whole[:1] == begin else begin + whole
    if len(whole) <= len(begin):
        raise InputError(f"Nothing of {continuation!r} is left to score after {kept[-40:]!r}.")
    return Request(tuple(begin), tuple(whole[len(begin) :]))


def first_id(tokenizer: Tokenizer) -> int:
    """The token that stands before a text, so that something comes before its first word."""
    first = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    if first is None:
        raise InputError("The tokenizer has neither a BOS nor an EOS token to stand before a text.")
    return first


def without_bos(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text alone."""
    return tokenizer.encode(text)[int(tokenizer.adds_bos) :]


def windows(ids: Sequence[int], first: int, most: int) -> Iterator[Request]:
    """Cut a long text so that a model that reads `most` tokens predicts each of its tokens once.

    `first` stands before the text. Each window but the first one predicts as much as it can and still begins
    with one token or more that is only read; the last one is filled up with text before it.
    Source: `get_rolling_token_windows` of lm-eval 0.4.13 with context_len=1.
    """
    text, start = (first, *ids), 1
    while start < len(text):
        end = min(start + most, len(text))
        yield Request(text[max(0, end - 1 - most) : start], text[start:end])
        start = end


def log_likelihoods(
    model: Phi3, requests: Sequence[Request], most: int | None = None
) -> Iterator[list[tuple[int, Likelihood]]]:
    """Score all requests; yields (place in `requests`, likelihood) in batches, the longest ones first.

    most: tokens that the model reads (None: as its config says); of a longer request the beginning is cut.
    Requests that read the same tokens, such as the answers " A", " B", " C" and " D", are read once.
    Raises InputError for a continuation longer than the model reads.
    """
    most = model.config.max_position_embeddings if most is None else most
    rows: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
    for place, (context, continuation) in enumerate(requests):
        if not context or not 0 < len(continuation) <= most:
            raise InputError(
                f"Request {place} has {len(context)} tokens and {len(continuation)} to score after them; "
                f"both need at least one, and the model reads {most}."
            )
        rows[(context + continuation)[-most - 1 : -1]].append((place, continuation))
    for batch in _batches(model, [_Row(*row) for row in rows.items()]):
        yield _score(model, batch)


def _batches(model: Phi3, rows: list[_Row]) -> Iterator[list[_Row]]:
    """Rows of similar length, the longest first, so that a lack of memory shows at once.

    LongRoPE chooses its factors by the longest row, so rows on both sides of that limit stay apart.
    """
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.ids), row.ids)):
        long = [uses_long_factors(model.config, len(one.ids)) for one in (*batch[:1], row)]
        if batch and (long[0] != long[-1] or (len(batch) + 1) * len(batch[0].ids) > MOST_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _score(model: Phi3, batch: list[_Row]) -> list[tuple[int, Likelihood]]:
    """One pass. Only the positions that predict something wanted go through the large output matrix."""
    device = model.norm.weight.device
    ids = pad_sequence([torch.tensor(row.ids) for row in batch], batch_first=True).to(device)
    lengths = torch.tensor([len(row.ids) for row in batch], device=device)
    segments = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
    hidden = model.hidden(ids, segments)
    found = []
    for row, states in zip(batch, hidden, strict=True):
        scored = max(len(targets) for _, targets in row.wanted)
        logits = model.logits(states[None, len(row.ids) - scored : len(row.ids)])[0]  # scored v
        if bool(logits.isnan().any()):
            raise InputError("The model's logits are not numbers (NaN): its weights or its code are broken.")
        logs, first_choice = logits.log_softmax(-1), logits.argmax(-1)
        for place, continuation in row.wanted:
            targets = torch.tensor(continuation, device=device)
            of = logs[-len(targets) :].gather(1, targets[:, None])
            greedy = bool((first_choice[-len(targets) :] == targets).all())
            found.append((place, Likelihood(float(of.double().sum()), greedy)))
    return found
