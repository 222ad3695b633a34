"""cache_filling: what happened to a cache, from its snapshots."""

from dataclasses import replace

import pytest
import torch

from tinyphi.errors import InputError
from tinyphi.model import cache as cache_module
from tinyphi.model.cache import CacheSnapshot, KeyValueCache
from tinyphi.show import cache_filling


@pytest.fixture
def record(small_config):
    """Makes snapshots of a real cache that is told of tokens, without a model."""

    def tell(steps, window=None, first=1):
        config = replace(small_config, sliding_window=window)
        cache = KeyValueCache(config, 1, None, torch.float32, torch.device("cpu"))
        snapshots = [cache.snapshot()]
        for step in range(steps):
            new = first if step == 0 else 1
            cache.begin(new)
            cache.advance(new)
            ids = torch.zeros(1, new, dtype=torch.int64)
            cache.commit(ids, ids + 1, long_factors=False)
            snapshots.append(cache.snapshot())
        return snapshots

    return tell


@pytest.mark.parametrize(("steps", "window"), [(0, None), (1, None), (300, None), (900, 40), (2500, 5)])
def test_faces(examine, record, steps, window):
    view = examine(lambda: cache_filling(record(steps, window)))
    assert view.live is not None
    assert len(view.live.data["tokens"]) <= 2001
    assert view.live.data["tokens"][-1] == steps


def test_the_digest_lists_what_happened(record, monkeypatch):
    monkeypatch.setattr(cache_module, "_SLACK", 3)
    monkeypatch.setattr(cache_module, "_SMALLEST", 2)
    lines = cache_filling(record(10, window=4, first=2)).text.splitlines()
    assert lines[0] == "key/value cache, 11 snapshots, a window of 4 tokens"
    assert [line.split(maxsplit=7) for line in lines[2:]] == [
        ["0", "0", "0", "2", "0", "512", "bytes"],
        ["2", "3", "3", "1", "0", "1.0", "KiB", "room 2 → 4"],
        ["4", "5", "5", "2", "0", "1.8", "KiB", "room 4 → 7"],
        ["7", "8", "3", "4", "5", "1.8", "KiB", "dropped 5"],
        ["10", "11", "6", "1", "5", "1.8", "KiB"],
    ]


def test_changed_factors_are_told_and_drawn(examine):
    one = CacheSnapshot(8, 8, 64, 4096, None, False)
    view = examine(lambda: cache_filling([one, replace(one, tokens=9, stored=9, long_factors=True)]))
    assert view.text.endswith("all keys again, with the long factors")


def test_many_events_are_left_out_and_counted():
    snapshots = [CacheSnapshot(i, i, i + 1, 64 * (i + 1), None, False) for i in range(50)]
    lines = cache_filling(snapshots).text.splitlines()
    assert len(lines) == 2 + 12 + 1
    assert lines[-2].strip() == "… 38 more at which something happened"
    assert lines[-1].split()[0] == "49"


@pytest.mark.parametrize("snapshots", [[], [3], [None, None]])
def test_bad_input(snapshots):
    with pytest.raises(InputError, match=r"list of cache\.snapshot\(\)"):
        cache_filling(snapshots)
