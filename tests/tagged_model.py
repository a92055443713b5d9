"""What lies beside token shards, written by hand, and a tiny model that could have been trained on them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from annotate.text.splitting import Splitter
from annotate.tokens import add_tags, tags_card

TEXT = [
    "One two, three four five. Nice words and others!\nA tag is <nice> or not? It may be 12 or (so).\n\nThe end."
] * 4
SPLITTER = Splitter(min_chars=0)


def write_files(folder: Path) -> None:
    """Write `tags.json` and tokenizers, of shards where <nice> and <true> stand at each sentence, <true> closed.

    <wiki> is of whole documents.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<|end|>"], show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    plain = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    tagged, vocabulary = add_tags(plain, ["wiki", "nice", "true"], closing=["true"])
    about = {name: {"layout": "prefix", "every_span": name != "wiki"} for name in vocabulary.names}
    card = tags_card(vocabulary, tagged, untagged=plain, about=about, multiple=64)
    shards = {"window": 16, "loss": "train", "tokenizer": "", "begin_id": None, "end_id": 0, "pad_id": 0}
    shards |= {"segments": False, "splitter": asdict(SPLITTER)}
    card |= {"aliases": {"ideal": ["true", "nice"]}, "shards": shards}
    (folder / "tags.json").write_text(json.dumps(card))
    tagged.save_pretrained(folder / "tokenizer")
    plain.save_pretrained(folder / "plain")


def tokenizer_of(files: Path, name: str = "tokenizer") -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(files / name)


def untrained(files: Path, *, tied: bool = True, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    """A model without rows for the tags."""
    torch.manual_seed(0)
    size = len(tokenizer_of(files, "plain"))
    config = GPT2Config(
        vocab_size=size,
        n_positions=256,
        n_embd=16,
        n_layer=1,
        n_head=2,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).to(dtype).eval()
