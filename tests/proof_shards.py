"""Token shards of a made-up run, without a run: documents whose words tell the tag of each sentence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from annotate.tokens import TextTokenizer, add_tags, insert, loss_mask, pack, tags_card, token_table

COMMON = [f"w{i}" for i in range(20)]
OWN = {"high": [f"up{i}" for i in range(6)], "low": [f"down{i}" for i in range(6)]}


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<|end|>", "[unk]", *COMMON, *OWN["high"], *OWN["low"], "."]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[unk]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


def documents(n: int, *, seed: int, cue: float = 0.5) -> tuple[list[str], list[list[str]]]:
    """Texts, and the tag of each sentence. A word is one of the tag's own with probability `cue`."""
    draw = np.random.default_rng(seed)
    texts, tags = [], []
    for _ in range(n):
        own = [str(draw.choice(["high", "low"])) for _ in range(int(draw.integers(1, 6)))]
        sentences = [
            " ".join(
                str(draw.choice(OWN[tag] if draw.random() < cue else COMMON)) for _ in range(int(draw.integers(4, 9)))
            )
            for tag in own
        ]
        texts.append(" ".join(f"{sentence} ." for sentence in sentences))
        tags.append(own)
    return texts, tags


def card_and_tables(
    n: int = 60,
    *,
    parts: int = 2,
    window: int = 24,
    loss: str = "mask",
    seed: int = 0,
    untagged: float = 0.1,
    names: tuple[str, ...] = ("high", "low"),
    begin: bool = False,
    dropout: float = 0.0,
    **settings: Any,
) -> tuple[dict[str, Any], list[pa.Table]]:
    """`tags.json`, and the table of each part.

    `names`: of one of "high" and "low" alone, sentences without it have none. "start", "long" and "short" are of
    another family: "start" stands before first sentences, the others tell how many words a sentence has.
    """
    plain = tokenizer()
    families = {name: int(name not in OWN) for name in names}
    tagged, vocabulary = add_tags(plain, list(names), families=families)
    about = {name: {"layout": "prefix", "every_span": True} for name in names}
    card = tags_card(vocabulary, tagged, untagged=plain, about=about, multiple=8)
    end = tagged.convert_tokens_to_ids("<|end|>")
    card["shards"] = {"tokenizer": "t", "window": window, "loss": loss, "end_id": end, "pad_id": end}
    card["shards"]["begin_id"] = end if begin else None
    tables = []
    for part in range(parts):
        texts, tags = documents(n // parts, seed=100 * seed + part, **settings)
        array = pa.array(texts, pa.large_string())
        ends = [[i + 1 for i, c in enumerate(text) if c == "."] for text in texts]
        rows = [(k, 0 if i == 0 else e[i - 1], e[i]) for k, e in enumerate(ends) for i in range(len(e))]
        spans = pa.table(
            {
                "row": pa.array([r for r, _, _ in rows], pa.int64()),
                "byte_start": pa.array([s for _, s, _ in rows], pa.int64()),
                "byte_end": pa.array([e for _, _, e in rows], pa.int64()),
            }
        )
        keep = np.random.default_rng(part).random(len(texts)) >= untagged
        drawn = np.random.default_rng(100 + part).random(len(rows))
        flat = [tag if kept >= dropout else "" for tag, kept in zip(itertools.chain(*tags), drawn, strict=True)]
        placed = [
            (r, s, e, tag)
            for (r, s, e), own in zip(rows, flat, strict=True)
            for tag in (own, "start" if s == 0 else "", "long" if len(texts[r][s:e].split()) > 6 else "short")
            if keep[r] and tag in names
        ]
        placements = pa.table(
            {
                "row": pa.array([p[0] for p in placed], pa.int64()),
                "byte_offset": pa.array([p[1] for p in placed], pa.int64()),
                "byte_end": pa.array([p[2] for p in placed], pa.int64()),
                "tag": pa.array([p[3] for p in placed], pa.string()),
                "kind": pa.array(["open"] * len(placed), pa.string()),
            }
        )
        encoded = TextTokenizer(plain).encode(array)
        inserted = insert(
            encoded, array, placements, vocabulary, spans=spans, begin_id=end if begin else None, end_id=end
        )
        packed = pack(inserted, window, pad_id=end)
        tables.append(token_table(packed, loss_mask(packed, loss), spans=spans))
    return card, tables
