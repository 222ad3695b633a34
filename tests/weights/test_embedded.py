"""tinyphi-nano, which lies in the package: small enough, complete, and a Phi-3 for other libraries, too."""

import pytest
import torch
import transformers

import tinyphi
from tinyphi.data.synthetic.conversations import turns
from tinyphi.data.synthetic.questions import exam
from tinyphi.data.synthetic.world import World
from tinyphi.evaluate.nano_exam import reply_to
from tinyphi.tokenizer.train import PHI3_SPECIALS
from tinyphi.weights.catalog import EMBEDDED
from tinyphi.weights.fetch import resolve


@pytest.fixture(scope="module")
def nano():
    return tinyphi.load("tinyphi-nano")


@pytest.fixture(scope="module")
def theirs():
    return transformers.AutoModelForCausalLM.from_pretrained(EMBEDDED["tinyphi-nano"], dtype=torch.float32)


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_stage_loads_by_its_name(name):
    assert resolve(name) == EMBEDDED[name]
    model, tokenizer = tinyphi.load(name)
    assert tokenizer.vocab_size == model.config.vocab_size == 2048
    assert model(torch.tensor([tokenizer.encode("Ada lives in")])).isfinite().all()


def test_it_takes_at_most_16_megabytes():
    files = [file for path in EMBEDDED.values() for file in path.parent.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in set(files)) <= 16e6


def test_its_special_tokens_are_those_of_phi3_in_their_order(nano):
    special = nano[1].special_tokens
    assert [special[text] for text in PHI3_SPECIALS] == list(range(2037, 2048))


def test_it_is_a_phi3_with_a_small_original_context(nano, theirs):
    config = nano[0].config
    assert (config.original_max_position_embeddings, config.max_position_embeddings) == (256, 2048)
    assert config.num_key_value_heads < config.num_attention_heads
    assert set(config.short_factor) == {1.0} and max(config.long_factor) > 1
    assert isinstance(theirs, transformers.Phi3ForCausalLM)
    assert sum(weight.numel() for weight in theirs.parameters()) == config.parameter_count()


@pytest.mark.parametrize("tokens", [100, 256, 257, 700])
def test_transformers_computes_the_same_logits(nano, theirs, tokens):
    torch.manual_seed(tokens)
    ids = torch.randint(3, 2000, (1, tokens))
    with torch.no_grad():
        mine, other = nano[0](ids), theirs(ids).logits
    assert (mine - other).abs().max() <= 2e-5 * mine.abs().max()


def test_transformers_says_the_same(nano, theirs):
    model, tokenizer = nano
    encode = transformers.AutoTokenizer.from_pretrained(EMBEDDED["tinyphi-nano"])
    for question in exam(World(), per_kind=3):
        chat = encode.apply_chat_template(turns(question.text), add_generation_prompt=True)["input_ids"]
        assert chat == tokenizer.encode_chat(turns(question.text))
        out = theirs.generate(torch.tensor([chat]), max_new_tokens=60, do_sample=False)[0, len(chat) :]
        assert (
            encode.decode(out, skip_special_tokens=True).strip()
            == reply_to(model, tokenizer, [question.text])[0]
        )
