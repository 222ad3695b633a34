"""The reader says what `tinyphi.generate` says, whatever it has read before."""

import pytest
import torch

import tinyphi
from tinyphi.longcontext.trials import Haystack, Reader
from tinyphi.model import transformer

LONGROPE = {
    "original_max_position_embeddings": 24,
    "short_factor": (1.0, 1.1, 1.2, 1.3),
    "long_factor": (1.0, 2.0, 4.0, 8.0),
}


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 6}, LONGROPE], ids=["full", "window", "longrope"])
@pytest.mark.parametrize("piece", [512, 7])
def test_answers_are_those_of_generate(make_model, monkeypatch, changes, piece):
    monkeypatch.setattr(transformer, "_PIECE", piece)
    model = make_model(**changes)
    reader = Reader(model)
    base = torch.randint(61, (50,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [base, base[:30] + base[5:25], base[:30], base[:30], base[40:], [base[0]], base[:23]]
    for prompt in prompts:
        expected = tinyphi.generate(model, prompt, max_new_tokens=9, stop_ids=())
        assert reader.answer(prompt, 9, ()) == expected.ids[0]
    full = reader.answer(base, 9, ())
    assert reader.answer(base, 9, (full[4],)) == full[: full.index(full[4])]


def test_what_two_prompts_begin_with_is_read_once(make_model, monkeypatch):
    model, read = make_model(), []
    reader, hidden = Reader(model), model.hidden
    monkeypatch.setattr(model, "hidden", lambda ids, **more: read.append(ids.shape[1]) or hidden(ids, **more))
    reader.answer(list(range(40)), 1, ())
    reader.answer([*range(30), 60, 59], 1, ())
    reader.answer([*range(30), 60, 59], 1, ())
    assert read == [40, 2, 1]


@pytest.mark.parametrize("piece", [512, 7])
def test_a_prompt_beyond_the_boundary_is_read_once(make_model, monkeypatch, piece):
    """Cut into several calls, it would be read up to the boundary with the short factors, and then again."""
    monkeypatch.setattr(transformer, "_PIECE", piece)
    model, read = make_model(**LONGROPE), []
    reader, layers = Reader(model), model.layers[0].forward
    monkeypatch.setattr(
        model.layers[0], "forward", lambda x, *more: read.append(x.shape[1]) or layers(x, *more)
    )
    reader.answer(list(range(50)), 1, ())
    assert sum(read) == 50 and max(read) <= piece


def test_an_interrupted_pass_does_not_spoil_the_next(make_model, monkeypatch):
    model = make_model()
    reader, prompt = Reader(model), list(range(40))
    reader.answer(prompt[:20], 2, ())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model.layers[1], "forward", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        reader.answer(prompt, 2, ())
    assert reader.answer(prompt, 5, ()) == Reader(model).answer(prompt, 5, ())


def test_a_haystack_goes_round_and_knows_its_sentences(letters):
    haystack = Haystack(letters, letters.encode("Aa. Bb! f.x c\n")[letters.adds_bos :])
    ids, ends = haystack.cut(1, 24)
    assert letters.decode(ids) == " Bb! f.x c\nAa. Bb! f.x c"
    assert ends == [0, 4, 11, 14, 18, 24]
    assert haystack.cut(13, 0) == ([], [0, 0])
