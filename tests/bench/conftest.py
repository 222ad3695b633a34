"""A tiny model in 4 bits, in a file as all engines read it."""

import pytest

from tinyphi.bench.random_phi3 import write_random
from tinyphi.config import PhiConfig

CONFIG = PhiConfig(
    vocab_size=288,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    original_max_position_embeddings=1024,
    eos_token_id=257,
    pad_token_id=257,
)


@pytest.fixture(scope="session")
def config():
    return CONFIG


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return write_random(CONFIG, tmp_path_factory.mktemp("bench") / "tiny.gguf")
