"""Models of the sizes that people score with, with random weights, for `gpu.py`: speed needs no trained ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

WORDS = 8000
"""Size of the tokenizers' vocabularies: enough for about four characters a token on the benchmark's own text."""

TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
SPECIAL = ["<pad>", "<cls>", "<sep>", "<unk>", "<|start|>", "<|end|>"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a model.

    Attributes:
        model_type: as Transformers calls it.
        sizes: what its configuration has besides the defaults of Transformers.
        small: what it has instead in tests.
        pieces: the kind of its tokenizer.
        chat: whether it is a reward model that reads a conversation.
    """

    model_type: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    small: Mapping[str, Any] = field(default_factory=dict)
    pieces: str = "bpe"
    chat: bool = False


_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}

SHAPES = {
    "bert-base": Shape(model_type="bert", small=_SMALL, pieces="wordpiece"),
    "deberta-v3-base": Shape(
        model_type="deberta-v2",
        sizes={
            "vocab_size": 128_100,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_biased_input": False,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
        },
        small=_SMALL,
    ),
    "modernbert-base": Shape(model_type="modernbert", small=_SMALL | {"global_attn_every_n_layers": 2}),
    "qwen3-0.6b-reward": Shape(
        model_type="qwen3",
        sizes={
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
        },
        small=_SMALL | {"num_key_value_heads": 1, "head_dim": 16},
        chat=True,
    ),
}
"""BERT-base, DeBERTa-v3-base and ModernBERT-base as classifiers, and Qwen3-0.6B as a reward model."""


def write_model(shape: Shape, texts: Sequence[str], folder: Path, device: str, *, small: bool) -> Path:
    """Save a model of this shape, its weights drawn at random, and a tokenizer trained on `texts`."""
    config = AutoConfig.for_model(
        shape.model_type,
        **{**shape.sizes, **(shape.small if small else {})},
        num_labels=1,
        pad_token_id=0,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
    )
    torch.manual_seed(0)
    with torch.device(device):  # drawing half a billion numbers takes a CPU long
        model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    _train_tokenizer(shape, texts).save_pretrained(folder)
    return folder


def _train_tokenizer(shape: Shape, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    settings: dict[str, Any] = {"vocab_size": WORDS, "special_tokens": SPECIAL, "show_progress": False}
    if shape.pieces == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(**settings)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**settings, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    if not shape.chat:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<cls> $A <sep>", special_tokens=[("<cls>", 1), ("<sep>", 2)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        cls_token="<cls>",
        sep_token="<sep>",
        unk_token="<unk>",
        chat_template=TEMPLATE if shape.chat else None,
    )


def matrix_flops(model: Any, lengths: Sequence[int]) -> float:
    """Floating point operations of the layers over inputs of these lengths, without padding: matrix products alone.

    Two for each weight of the layers and each token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), and four times
    width times length for each layer and token, for attention; half of it would do where tokens see only those before.
    """
    embedded = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    layers = ((name, each) for name, each in model.named_parameters() if each.ndim == 2 and id(each) not in embedded)
    weights = sum(each.numel() for name, each in layers if not {"pooler", "classifier", "score"} & {*name.split(".")})
    config = model.config
    width = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads) * config.num_attention_heads
    squares = sum(length * length for length in lengths)
    return 2.0 * weights * sum(lengths) + 4.0 * config.num_hidden_layers * width * squares
