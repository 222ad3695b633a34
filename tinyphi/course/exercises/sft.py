"""Exercises of notebook 23: which tokens count, the loss of a batch, documents in one row, merging an adapter."""

import torch

from tinyphi.course.exercise import Exercise, fail_if, misconception, near, number_of, tensor_of

# --------------------------------------------------------------------------------------------------------------
counting = Exercise(
    "sft.counted",
    notebook="23_sft",
    title="What the assistant says",
    difficulty=2,
    minutes=15,
    task="""
    `ids` is a conversation of several turns, a list. Each turn begins with the id of a header, `user` or
    `assistant`, and closes with the id `end`; in between stands what is said. Write
    `counted(ids, assistant, end)`: a list of bools, True where a token counts for the loss. All that the
    assistant has to say itself counts, in every one of its turns.
    """,
    hints=[
        "Go through the ids once, and remember whether the assistant is speaking.",
        "Who writes the header, the model or the program that calls it? And who writes `end`?",
        "After `assistant` it speaks. The `end` behind its words still counts, and then it is silent.",
    ],
)


@counting.stub
def counted(ids, assistant, end):
    """a list of ids, two ids → a list of bools"""
    ...  # your code


@counting.solution
def counted(ids, assistant, end):
    result, speaks = [], False
    for token in ids:
        result.append(speaks)
        if token == assistant:
            speaks = True
        elif token == end:
            speaks = False
    return result


_USER, _ASSISTANT, _END = 90, 91, 92
_CHATS = (
    [_USER, 1, 2, 3, _END, _ASSISTANT, 4, 5, _END],
    [_USER, 1, _END, _ASSISTANT, 2, 3, _END, _USER, 4, 5, _END, _ASSISTANT, 6, _END],
    [_USER, 7, 8, _END, _ASSISTANT, 9, _END, 80],  # ends with an end of text, which the program writes
)


def _words(ids, marks):
    """The counted ids, for a message."""
    names = {_USER: "user", _ASSISTANT: "assistant", _END: "end", 80: "eos"}
    return " ".join(names.get(token, str(token)) for token, mark in zip(ids, marks) if mark) or "none"


@counting.judge
def judge_counting(f):
    for ids in _CHATS:
        got = f(list(ids), _ASSISTANT, _END)
        fail_if(got is None, "There is no result: it is None. `return` the list.")
        if isinstance(got, torch.Tensor):
            got = got.tolist()
        fail_if(
            not isinstance(got, list)
            or len(got) != len(ids)
            or not all(isinstance(x, (bool, int)) for x in got),
            f"Return a list of {len(ids)} bools, one for each id.",
        )
        got = [bool(mark) for mark in got]
        right = counted_by_hand(ids)
        if got == right:
            continue
        case = f"user 1 2 … : you count {_words(ids, got)}. "
        spoken = [mark and token != _END for mark, token in zip(right, ids)]
        fail_if(
            got == spoken,
            f"{case}`end` is missing. A model that never learns to say it never stops.",
        )
        fail_if(
            got == [mark or token == _ASSISTANT for mark, token in zip(right, ids)],
            f"{case}The header counts, too. But the program writes it: it says whose turn it is.",
        )
        fail_if(
            got == [mark or token == _END for mark, token in zip(right, ids)],
            f"{case}Every `end` counts, the user's as well. The user says that one.",
        )
        last = max(place for place, token in enumerate(ids) if token == _ASSISTANT)
        fail_if(
            got == [mark and place > last for place, mark in enumerate(right)],
            f"{case}Only the last answer counts. The earlier ones are good examples, too.",
        )
        first = ids.index(_ASSISTANT)
        fail_if(
            got == [place > first for place in range(len(ids))],
            f"{case}Everything after the first header counts, and with it what comes after the answer. `end` "
            "ends that.",
        )
        fail_if(
            got == right[1:] + [False],
            f"{case}Your marks stand one place too early. Do not shift here: a label stands where its token stands.",
        )
        fail_if(got == [not mark for mark in right], f"{case}True and False are exchanged.")
        misconception(f"{case}Those that should count: {_words(ids, right)}.")


def counted_by_hand(ids):
    """Which tokens the assistant says, header by header."""
    marks = [False] * len(ids)
    for place, token in enumerate(ids):
        if token == _ASSISTANT:
            stop = ids.index(_END, place)
            marks[place + 1 : stop + 1] = [True] * (stop - place)
    return marks


@counting.wrong("never stops", says="never learns to say it")
def counted(ids, assistant, end):
    result, speaks = [], False
    for token in ids:
        if token == end:
            speaks = False
        result.append(speaks)
        if token == assistant:
            speaks = True
    return result


@counting.wrong("the header too", says="The header counts, too")
def counted(ids, assistant, end):
    result, speaks = [], False
    for token in ids:
        speaks = speaks or token == assistant
        result.append(speaks)
        if token == end:
            speaks = False
    return result


@counting.wrong("every end", says="The user says that one")
def counted(ids, assistant, end):
    result, speaks = [], False
    for token in ids:
        result.append(speaks or token == end)
        if token == assistant:
            speaks = True
        elif token == end:
            speaks = False
    return result


@counting.wrong("the last answer", says="Only the last answer counts")
def counted(ids, assistant, end):
    last = len(ids) - 1 - ids[::-1].index(assistant)
    stop = ids.index(end, last)
    return [last < place <= stop for place in range(len(ids))]


@counting.wrong("to the end of the text", says="Everything after the first header")
def counted(ids, assistant, end):
    first = ids.index(assistant)
    return [place > first for place in range(len(ids))]


@counting.wrong("shifted already", says="one place too early")
def counted(ids, assistant, end):
    result, speaks = [], False
    for token in ids:
        if token == assistant:
            speaks = True
        elif token == end:
            speaks = False
        result.append(speaks)
    return result


# --------------------------------------------------------------------------------------------------------------
loss = Exercise(
    "sft.loss",
    notebook="23_sft",
    title="The loss of a batch",
    difficulty=2,
    minutes=15,
    task="""
    Write `batch_loss(logits, labels)`: `(b t v)` and `(b t)` → one number, the mean surprise in nats over all
    targets of the batch. Labels stand where their tokens stand, −100 where there is no target; the logits at a
    token predict the one *after* it. Please without `cross_entropy`.
    """,
    hints=[
        "Which logits belong to the label at place 5? Cut both so that they fit: `logits[:, :-1]`, `labels[:, 1:]`.",
        "`log_softmax(-1)`, then `gather` the label's own. −100 is no place in the vocabulary: clamp it first.",
        "Add up over the targets of all rows, and divide once by how many there are.",
    ],
)


@loss.stub
def batch_loss(logits, labels):
    """(b t v), (b t) → a number, in nats"""
    ...  # your code


@loss.solution
def batch_loss(logits, labels):
    predictions, targets = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    own = predictions.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    wanted = targets != -100
    return -(own * wanted).sum() / wanted.sum()


def _surprises(logits, targets):
    """(b t v), (b t) → −log p of each target (b t), and which are targets."""
    own = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -own, targets != -100


@loss.judge
def judge_loss(f):
    for rows, length, vocabulary in ((3, 7, 5), (2, 9, 11), (4, 6, 3)):
        logits = 2 * torch.randn(rows, length, vocabulary)
        labels = torch.randint(vocabulary, (rows, length))
        labels[:, 0] = -100
        for row in range(rows):  # as many targets as the row's number and one
            labels[row, 1 : length - 1 - row] = -100
        got = number_of(f(logits.clone(), labels.clone()), name="loss")
        each, wanted = _surprises(logits[:, :-1], labels[:, 1:])
        total, count = (each * wanted).sum(), wanted.sum()
        if near(got, total / count, 1e-4):
            continue
        unshifted, there = _surprises(logits, labels)
        fail_if(
            near(got, (unshifted * there).sum() / there.sum(), 1e-4),
            "There is no shift: you compare a token with the logits at the same token, which has been read already.",
        )
        backwards, there = _surprises(logits[:, 1:], labels[:, :-1])
        fail_if(
            there.any() and near(got, (backwards * there).sum() / there.sum(), 1e-4),
            "You shift the wrong way: a label is compared with the logits of the token after it.",
        )
        by_row = (each * wanted).sum(1) / wanted.sum(1)
        fail_if(
            near(got, by_row.mean(), 1e-4),
            "That is the mean of the rows' means. A token in a short answer then counts more than one in a long.",
        )
        fail_if(
            near(got, (each * wanted).mean(), 1e-4),
            "You divide by all places, those without a target included. The loss then depends on the padding.",
        )
        fail_if(near(got, each.mean(), 1e-4), "−100 counts as a token: prompt and padding are in the mean.")
        fail_if(
            near(got, total, 1e-4),
            "That is the sum. Divide by the number of targets, so that long batches do not learn faster.",
        )
        fail_if(near(got, -total / count, 1e-4), "The sign is wrong: a surprise is −log p.")
        misconception(f"With {int(count)} targets the loss is {total / count:.4f}; yours is {got:.4f}.")


@loss.wrong("no shift", says="There is no shift")
def batch_loss(logits, labels):
    own = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    wanted = labels != -100
    return -(own * wanted).sum() / wanted.sum()


@loss.wrong("the other way", says="You shift the wrong way")
def batch_loss(logits, labels):
    predictions, targets = logits[:, 1:].log_softmax(-1), labels[:, :-1]
    own = predictions.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    wanted = targets != -100
    return -(own * wanted).sum() / wanted.sum()


@loss.wrong("row by row", says="the mean of the rows' means")
def batch_loss(logits, labels):
    predictions, targets = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    own = predictions.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    wanted = targets != -100
    return -((own * wanted).sum(1) / wanted.sum(1)).mean()


@loss.wrong("over all places", says="You divide by all places")
def batch_loss(logits, labels):
    predictions, targets = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    own = predictions.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return -(own * (targets != -100)).mean()


@loss.wrong("not masked", says="prompt and padding are in the mean")
def batch_loss(logits, labels):
    predictions, targets = logits[:, :-1].log_softmax(-1), labels[:, 1:]
    return -predictions.gather(-1, targets.clamp(min=0)[..., None]).mean()


# --------------------------------------------------------------------------------------------------------------
row = Exercise(
    "sft.pack",
    notebook="23_sft",
    title="Documents in one row",
    difficulty=2,
    minutes=15,
    task="""
    `documents` is a list of pairs `(ids, counted)`: ids, and for each whether it counts. Write `pack(documents)`:
    one row as four lists of the same length: `ids`, `labels` (the id where it counts, otherwise −100), `segments`
    (1 for the first document, 2 for the second …) and `positions` (from 0 in each document). Mind the first
    token of each document: what stands before it in the row?
    """,
    hints=[
        "`itertools.chain`, or four lists that grow from document to document.",
        "The logits before the first token of the second document come from the first document. Should they be "
        "told to predict it?",
        "So a document's first label is always −100, even if it counts.",
    ],
)


@row.stub
def pack(documents):
    """pairs of two lists → ids, labels, segments, positions"""
    ...  # your code


@row.solution
def pack(documents):
    ids, labels, segments, positions = [], [], [], []
    for number, (document, counts) in enumerate(documents, start=1):
        ids += document
        labels += [-100] + [token if does else -100 for token, does in zip(document[1:], counts[1:])]
        segments += [number] * len(document)
        positions += range(len(document))
    return ids, labels, segments, positions


_DOCUMENTS = (
    [([11, 12, 13], [False, True, True]), ([21, 22], [False, True])],
    [([11, 12, 13, 14], [True] * 4), ([21, 22, 23], [True] * 3), ([31, 32], [True, False])],
)


@row.judge
def judge_row(f):
    for documents in _DOCUMENTS:
        result = f([(list(ids), list(counts)) for ids, counts in documents])
        fail_if(
            not isinstance(result, (tuple, list)) or len(result) != 4,
            "Return four lists: ids, labels, segments, positions.",
        )
        fail_if(
            not all(isinstance(each, (list, torch.Tensor)) for each in result),
            "Each of the four must be a list of numbers.",
        )
        ids, labels, segments, positions = [
            each.tolist() if isinstance(each, torch.Tensor) else list(each) for each in result
        ]
        right = [token for document, _ in documents for token in document]
        fail_if(ids != right, f"The ids should be {right}, one document after the other; yours are {ids}.")
        _judge_segments(segments, documents)
        numbers = [place for document, _ in documents for place in range(len(document))]
        fail_if(
            positions == list(range(len(right))) != numbers,
            "The positions run on from one document to the next. Each begins at 0, as if it stood alone.",
        )
        fail_if(positions != numbers, f"The positions should be {numbers}; yours are {positions}.")
        _judge_labels(labels, documents)


def _judge_segments(segments, documents):
    right = [number for number, (document, _) in enumerate(documents, start=1) for _ in document]
    fail_if(
        segments == [number - 1 for number in right],
        "The first segment is 0, but 0 is padding. Count from 1.",
    )
    fail_if(
        segments == [1] * len(right),
        "All documents are one segment: then each sees the answers of those before it.",
    )
    fail_if(segments != right, f"The segments should be {right}; yours are {segments}.")


def _judge_labels(labels, documents):
    naive = [
        token if does else -100 for document, counts in documents for token, does in zip(document, counts)
    ]
    firsts = {document[0] for document, _ in documents}
    right = [-100 if label in firsts else label for label in naive]
    fail_if(
        labels == naive != right,
        "The first token of a document is a target. The prediction before it was made by another document.",
    )
    fail_if(
        labels == right[1:] + [-100],
        "The labels are shifted. They stand where their tokens stand; the loss shifts.",
    )
    everything = [
        -100 if number == 0 else token for document, _ in documents for number, token in enumerate(document)
    ]
    fail_if(
        labels == everything != right,
        "Every token is a target. Only those that count have a label; the others have −100.",
    )
    fail_if(labels != right, f"The labels should be {right}; yours are {labels}.")


@row.wrong("across documents", says="made by another document")
def pack(documents):
    ids, labels, segments, positions = [], [], [], []
    for number, (document, counts) in enumerate(documents, start=1):
        ids += document
        labels += [token if does else -100 for token, does in zip(document, counts)]
        segments += [number] * len(document)
        positions += range(len(document))
    return ids, labels, segments, positions


@row.wrong("positions run on", says="The positions run on")
def pack(documents):
    ids, labels, segments = [], [], []
    for number, (document, counts) in enumerate(documents, start=1):
        ids += document
        labels += [-100] + [token if does else -100 for token, does in zip(document[1:], counts[1:])]
        segments += [number] * len(document)
    return ids, labels, segments, list(range(len(ids)))


@row.wrong("one segment", says="All documents are one segment")
def pack(documents):
    ids, labels, positions = [], [], []
    for document, counts in documents:
        ids += document
        labels += [-100] + [token if does else -100 for token, does in zip(document[1:], counts[1:])]
        positions += range(len(document))
    return ids, labels, [1] * len(ids), positions


@row.wrong("from zero", says="0 is padding")
def pack(documents):
    ids, labels, segments, positions = [], [], [], []
    for number, (document, counts) in enumerate(documents):
        ids += document
        labels += [-100] + [token if does else -100 for token, does in zip(document[1:], counts[1:])]
        segments += [number] * len(document)
        positions += range(len(document))
    return ids, labels, segments, positions


@row.wrong("all tokens", says="Every token is a target")
def pack(documents):
    ids, labels, segments, positions = [], [], [], []
    for number, (document, _) in enumerate(documents, start=1):
        ids += document
        labels += [-100, *document[1:]]
        segments += [number] * len(document)
        positions += range(len(document))
    return ids, labels, segments, positions


# --------------------------------------------------------------------------------------------------------------
merging = Exercise(
    "sft.merge",
    notebook="23_sft",
    title="One matrix again",
    difficulty=1,
    minutes=10,
    task="""
    A layer computes y = W x + (α/r) · B A x, with `W` `(o i)`, `A` `(r i)` and `B` `(o r)`. Write
    `merged(W, A, B, alpha)`: the one matrix `(o i)` that computes the same without an adapter.
    """,
    hints=[
        "Which of the two products has the shape of W: A B or B A?",
        "The rank r is not given. Which axis of A is it?",
    ],
)


@merging.stub
def merged(W, A, B, alpha):
    """(o i), (r i), (o r), a number → (o i)"""
    ...  # your code


@merging.solution
def merged(W, A, B, alpha):
    return W + alpha / A.shape[0] * B @ A


@merging.judge
def judge_merging(f):
    for outputs, inputs, rank, alpha in ((6, 4, 2, 16.0), (5, 5, 3, 8.0), (4, 4, 4, 2.0)):
        W, A, B = torch.randn(outputs, inputs), torch.randn(rank, inputs), torch.randn(outputs, rank)
        got = tensor_of(f(W.clone(), A.clone(), B.clone(), alpha), shape=W.shape, name="matrix")
        if near(got, W + alpha / rank * B @ A):
            continue
        fail_if(
            near(got, W + alpha * B @ A),
            "You multiply by α and forget to divide by r. With twice the rank the difference would be twice as large.",
        )
        fail_if(near(got, W + B @ A), "α is missing: B A is multiplied by α/r before it is added.")
        fail_if(
            near(got, W + alpha / inputs * B @ A) or near(got, W + alpha / outputs * B @ A),
            "You divide by the width. r is the short axis of A and B, the one that they share.",
        )
        fail_if(near(got, alpha / rank * B @ A), "That is the difference alone. It is *added* to W.")
        fail_if(near(got, W), "Nothing has been added to W.")
        fail_if(
            outputs == inputs and near(got, W + alpha / rank * (B @ A).T),
            "The difference is transposed.",
        )
        misconception(f"For rank {rank} and α = {alpha:g} the matrix has the right shape and other numbers.")


@merging.wrong("not divided", says="forget to divide by r")
def merged(W, A, B, alpha):
    return W + alpha * B @ A


@merging.wrong("no alpha", says="α is missing")
def merged(W, A, B, alpha):
    return W + B @ A


@merging.wrong("by the width", says="You divide by the width")
def merged(W, A, B, alpha):
    return W + alpha / A.shape[1] * B @ A


@merging.wrong("the difference alone", says="the difference alone")
def merged(W, A, B, alpha):
    return alpha / A.shape[0] * B @ A
