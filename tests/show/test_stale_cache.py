"""stale_cache: no error where nothing changed, and the error that two turned vectors have."""

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.model.rope import rotate
from tinyphi.show.stale_cache import _cosines, stale_cache

OLD, NEW = torch.tensor([1.0, 0.1, 0.01]), torch.tensor([1.0, 0.02, 0.001])


def test_faces(examine):
    examine(lambda: stale_cache(OLD, NEW, 500))
    examine(lambda: stale_cache(OLD, NEW, 8))


def test_the_cosines_are_those_of_turned_vectors():
    tokens = 20
    unit = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]).double()  # each pair points along its first axis

    def turned(positions, speeds):
        angles = positions[:, None] * speeds.double()
        given = unit.expand(1, 1, len(positions), 6)
        return rotate(given, angles.cos()[None], angles.sin()[None])[0, 0]

    query, keys = turned(torch.tensor([tokens]), NEW), torch.arange(tokens)
    for found, speeds in zip(_cosines(OLD.double(), NEW.double(), tokens), (NEW, OLD), strict=True):
        products = query * turned(keys, speeds)  # s 6
        torch.testing.assert_close(found, (products[:, :3] + products[:, 3:]).T)


def test_the_digest():
    text = stale_cache(OLD, NEW, 64).text
    assert "3 pairs, 64 keys" in text and text.splitlines()[2].split()[1:] == ["0.00"] * 8
    assert stale_cache(OLD, OLD, 64).text.splitlines()[0].endswith("cosine, 0.00")


def test_the_live_face_is_small_however_many_tokens_there_are():
    speeds = 10_000.0 ** -(torch.arange(1024) / 1024)
    few, many = (stale_cache(speeds, speeds / 2, tokens).live for tokens in (8, 131_072))
    assert many.data == {**few.data, "tokens": 131_072}
    assert [many.data[name]["shape"] for name in ("before", "after")] == [[1024]] * 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((OLD, NEW[:2], 64), "3 speeds before, but 2"),
        ((OLD, -NEW, 64), "above zero"),
        ((OLD, NEW, 7), "tokens is 7"),
    ],
)
def test_bad_input(given, message):
    with pytest.raises(InputError, match=message):
        stale_cache(*given)
