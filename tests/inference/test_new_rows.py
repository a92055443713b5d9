"""Rows for the tags in a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tagged_model import tokenizer_of, untrained
from transformers import GPT2Config, GPT2LMHeadModel

from annotate.errors import ConfigError
from annotate.training import add_tag_embeddings


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_are_the_mean_of_the_old_ones_and_a_little_noise(
    files: Path, *, tied: bool, dtype: torch.dtype
) -> None:
    made = untrained(files, tied=tied, dtype=dtype)
    old = made.get_output_embeddings().weight.detach().clone().float()
    add_tag_embeddings(made, tokenizer_of(files), str(files))
    weight = made.get_output_embeddings().weight.detach().float()
    assert weight.shape[0] % 64 == 0 and torch.equal(weight[: len(old)], old)
    noise = weight[len(old) :] - old.mean(dim=0)
    assert 0.005 < noise.std() < 0.02 and noise.abs().max() < 0.1
    assert len({tuple(row.tolist()) for row in weight[len(old) : len(old) + 3]}) == 3
    again = untrained(files, tied=tied, dtype=dtype)
    add_tag_embeddings(again, tokenizer_of(files), str(files))
    assert torch.equal(again.get_input_embeddings().weight, made.get_input_embeddings().weight)
    logits = made(torch.tensor([[1, 2, 3]])).logits[0, -1].float()
    assert logits[len(old) :].max() < logits.max()


def test_what_does_not_fit_is_named(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"<wiki> is id .* in the shards, but"):
        add_tag_embeddings(untrained(files), tokenizer_of(files, "plain"), str(files))
    small = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ConfigError, match="the model has rows for 10 tokens"):
        add_tag_embeddings(small, tokenizer_of(files), str(files))
