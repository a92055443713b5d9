"""A model that learns tags: new rows, prompts under tags, and guidance, on a tiny model of this test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from annotate.errors import ConfigError, StorageError
from annotate.inference import prompt
from annotate.tokens import Encoder, tags_card
from annotate.tokens import add_tags as with_tags
from annotate.training import add_tags

TEXT = ["one two three four five", "nice words and others", "a tag is <nice> or not"] * 4


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies beside token shards."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    plain = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    tagged, vocabulary = with_tags(plain, ["nice", "true"], closing=["true"])
    card = tags_card(vocabulary, tagged, untagged=plain, multiple=64)
    folder = tmp_path_factory.mktemp("files")
    shards = {"window": 16, "loss": "mask", "tokenizer": "", "begin_id": None, "end_id": 0, "pad_id": 0}
    card |= {"aliases": {"ideal": ["true", "nice"]}, "shards": shards}
    (folder / "tags.json").write_text(json.dumps(card))
    tagged.save_pretrained(folder / "tokenizer")
    plain.save_pretrained(folder / "plain")
    return folder


def tokenizer(files: Path, name: str = "tokenizer") -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(files / name)


def model(files: Path, *, tied: bool = True, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    size = len(tokenizer(files, "plain"))
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2, tie_word_embeddings=tied)
    return GPT2LMHeadModel(config).to(dtype).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_rows_are_the_mean_of_the_old_ones_and_a_little_noise(
    files: Path, *, tied: bool, dtype: torch.dtype
) -> None:
    made = model(files, tied=tied, dtype=dtype)
    old = made.get_output_embeddings().weight.detach().clone().float()
    add_tags(made, tokenizer(files), str(files))
    weight = made.get_output_embeddings().weight.detach().float()
    assert weight.shape[0] % 64 == 0 and torch.equal(weight[: len(old)], old)
    noise = weight[len(old) :] - old.mean(dim=0)
    assert 0.005 < noise.std() < 0.02 and noise.abs().max() < 0.1
    assert len({tuple(row.tolist()) for row in weight[len(old) : len(old) + 3]}) == 3
    again = model(files, tied=tied, dtype=dtype)
    add_tags(again, tokenizer(files), str(files))
    assert torch.equal(again.get_input_embeddings().weight, made.get_input_embeddings().weight)
    logits = made(torch.tensor([[1, 2, 3]])).logits[0, -1].float()
    assert logits[len(old) :].max() < logits.max()


def test_prompts_begin_with_tags_and_no_text_is_one(files: Path) -> None:
    known = tokenizer(files)
    nice, true = known.convert_tokens_to_ids(["<nice>", "<true>"])
    given = prompt(known, str(files), "one <nice>", ["ideal"])
    ids = given["input_ids"][0].tolist()
    assert ids[:2] == [true, nice] and nice not in ids[2:]
    assert known.decode(ids[2:]) == "one <nice>"
    assert sorted(given["bad_words_ids"]) == sorted([[nice], [true], [known.convert_tokens_to_ids("</true>")]])
    assert "guidance_scale" not in given


def test_a_tokenizer_is_parsed_once_until_it_gets_more_tokens(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    class Counted(Encoder):
        def __init__(self, given: Any) -> None:
            parsed.append(given)
            super().__init__(given)

    monkeypatch.setattr("annotate.inference.Encoder", Counted)
    known = tokenizer(files)
    first, again = (prompt(known, str(files), "one <|more|>", ["nice"], guidance=2.0) for _ in range(2))
    assert torch.equal(first["input_ids"], again["input_ids"]) and parsed == [known]
    known.add_special_tokens({"additional_special_tokens": ["<|more|>"]})
    assert torch.equal(prompt(known, str(files), "one <|more|>", ["nice"])["input_ids"], first["input_ids"])
    assert parsed == [known] * 2


def test_guidance_goes_from_one_prompt_to_the_other(files: Path) -> None:
    made, known = model(files), tokenizer(files)
    add_tags(made, known, str(files))

    def first_scores(**options) -> torch.Tensor:
        given = prompt(known, str(files), "one two", **options)
        out = made.generate(
            **given, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_scores=True, pad_token_id=0
        )
        return out.scores[0][0]

    usual = torch.isfinite(first_scores())
    plain, nice = (
        torch.log_softmax(made(prompt(known, str(files), "one two", tags)["input_ids"]).logits[0, -1], -1)
        for tags in ([], ["nice"])
    )
    guided = first_scores(tags=["nice"], guidance=3.0)
    assert torch.allclose(guided[usual], (plain + 3 * (nice - plain))[usual], atol=1e-4)
    assert not usual[known.convert_tokens_to_ids("<nice>")]  # banned
    away = first_scores(tags=["nice"], against=["true"], guidance=3.0)
    assert not torch.allclose(away[usual], guided[usual], atol=1e-4)


def test_what_does_not_fit_is_named(files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no tag 'kind'; tags: nice, true, ideal"):
        prompt(tokenizer(files), str(files), "x", ["kind"])
    with pytest.raises(ConfigError, match="neither a text, nor a tag"):
        prompt(tokenizer(files), str(files))
    with pytest.raises(ConfigError, match=r"<nice> is id .* in the shards, but"):
        add_tags(model(files), tokenizer(files, "plain"), str(files))
    with pytest.raises(ConfigError, match=r"<nice> is id .* in the shards, but None for this tokenizer"):
        prompt(tokenizer(files, "plain"), str(files), "x")
    swapped = tokenizer(files, "plain")
    swapped.add_special_tokens({"additional_special_tokens": ["<nice>", "</true>", "<true>"]})
    with pytest.raises(ConfigError, match=r"<true> is id .* in the shards, but"):
        prompt(swapped, str(files), "x", ["nice"])
    small = GPT2LMHeadModel(GPT2Config(vocab_size=10, n_positions=8, n_embd=8, n_layer=1, n_head=1))
    with pytest.raises(ConfigError, match="the model has rows for 10 tokens"):
        add_tags(small, tokenizer(files), str(files))
    with pytest.raises(StorageError, match=r"has no tags\.json"):
        prompt(tokenizer(files), str(tmp_path), "x")
