"""logit_lens: the numbers of its digest and of its cells, and its guards."""

import base64
import math

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.show import logit_lens


def random_logits(layers, tokens, vocabulary=300):
    return 3 * torch.randn(layers, tokens, vocabulary, generator=torch.Generator().manual_seed(0))


def plain(number):
    return [",", " the", ".", " a", " ", " of", "(", " is"][number % 8]  # what the early layers mostly say


@pytest.mark.parametrize("shape", [(1, 1), (4, 5), (12, 9)])
def test_its_faces_with_strange_texts(shape, examine, strange):
    examine(lambda: logit_lens(random_logits(*shape), [strange(i) for i in range(shape[1])], strange))


@pytest.mark.parametrize("shape", [(31, 18), (40, 16), (200, 100)])
def test_its_faces_for_many_layers_and_tokens(shape, examine):
    examine(lambda: logit_lens(random_logits(*shape), [plain(place) for place in range(shape[1])], plain))
    examine(
        lambda: logit_lens(
            random_logits(*shape, 3), [plain(place) for place in range(shape[1])], plain, top=10
        )
    )


# One token, three layers, three tokens of the vocabulary; the answer is "c".
TOY = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7]]).log()[:, None]


def test_the_digest_has_a_line_for_each_layer():
    lines = logit_lens(TOY, [" x"], "abc".__getitem__, names=["embed", "0", "1"]).text.splitlines()
    assert lines == [
        "logit lens, 3 layers, 1 tokens; after ·x the answer is c",
        "embed: a 0.500, b 0.300, c 0.200; answer at rank 3",
        "    0: b 0.500, c 0.300, a 0.200; answer at rank 2",
        "    1: c 0.700, b 0.200, a 0.100; answer at rank 1",
    ]


def test_the_digest_is_of_the_last_token():
    both = torch.cat((TOY, TOY.flip(-1)), dim=1)
    assert logit_lens(both, ["x", "y"], "abc".__getitem__).text.splitlines()[-1].startswith("2: a 0.700")


def unpacked(packed):
    dtype = {"float16": torch.float16, "int32": torch.int32}[packed["dtype"]]
    return torch.frombuffer(bytearray(base64.b64decode(packed["base64"])), dtype=dtype).reshape(
        packed["shape"]
    )


def test_the_cells_are_computed_from_the_definitions(strange):
    logits = random_logits(6, 4)
    data = logit_lens(logits, [strange(i) for i in range(4)], strange).live.data
    probabilities = logits.double().softmax(-1)
    answers = logits[-1].argmax(-1)
    for layer in range(6):
        for token in range(4):
            p = probabilities[layer, token]
            best = p.topk(5)
            place = (layer, token)
            assert unpacked(data["ids"])[place].tolist() == best.indices.tolist()
            assert unpacked(data["probabilities"])[place].tolist() == pytest.approx(
                best.values.tolist(), rel=2e-3
            )
            entropy = -sum(x * math.log2(x) for x in p.tolist())
            assert unpacked(data["entropies"])[place].item() == pytest.approx(entropy, rel=2e-3)
            assert unpacked(data["ranks"])[place].item() == 1 + int((p > p[answers[token]]).sum())
            assert unpacked(data["final"])[place].item() == pytest.approx(
                p[answers[token]].item(), rel=2e-3, abs=1e-6
            )


def test_a_place_in_the_crowd_is_rounded():
    """There, tokens change places with the last bits."""
    logits = torch.zeros(2, 1, 5000)
    logits[0, 0] = torch.linspace(3, 0, 5000)
    logits[1, 0, 1233] = 1.0
    assert "rank 1200" in logit_lens(logits, ["x"], str).text.splitlines()[1]


def test_long_inputs_say_what_is_left_out(strange):
    view = logit_lens(random_logits(100, 90), [strange(i) for i in range(90)], strange)
    assert "100 layers, 90 tokens, the last 64 shown" in view.text
    data = view.live.data
    assert data["ids"]["shape"] == [50, 64, 5]
    assert data["names"][-1] == "99" and len(data["labels"]) == 64


@pytest.mark.parametrize(
    ("logits", "more"),
    [
        (torch.zeros(3, 4), {}),
        (torch.zeros(3, 0, 4), {}),
        ([[1.0]], {}),
        (torch.zeros(3, 2, 4), {"labels": ["a"]}),
        (torch.zeros(3, 2, 4), {"names": ["a"]}),
        (torch.zeros(3, 2, 4), {"top": 0}),
        (torch.zeros(3, 2, 4), {"top": 11}),
        (torch.full((3, 2, 4), math.nan), {}),
    ],
)
def test_bad_input_is_refused(logits, more):
    with pytest.raises(InputError):
        logit_lens(logits, **{"labels": ["a", "b"], "decode": str, **more})
