"""Texts that a model writes under each tag, from the start of a document on (metric 5).

Models of a proof do not learn the first token of a document: in some arms nothing stands before it. So each text gets
its first token from a document of training, drawn by a hash, the same under all tags and in all arms. What the model
writes after it is what is judged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer

from annotate.proof.intervals import Float64, Int64
from annotate.proof.windows import NONE, Int32, TagFamily, Text
from annotate.randomness import keyed_hash, name_key, uniform

TEMPERATURE = 0.7
TOP_P = 0.9
SHORTEST, LONGEST = 4, 64  # tokens of a text
TOGETHER = 256  # texts of a pass. It is no setting: the last digits of logits depend on it, and so may a token

SCHEMA = pa.schema(
    [
        ("family", pa.int64()),  # its number; null without a tag
        ("tag", pa.string()),
        ("seed", pa.int64()),
        ("number", pa.int64()),  # of the text, from 0: texts of one number have the same first token and the same draws
        ("text", pa.string()),
        ("tokens", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Writing:
    """What is written, alike in all arms.

    Attributes:
        families: of tags. Each tag of each stands alone before texts; then come texts without a tag.
        firsts: int64 `[n]`, the first token of each text.
        length: tokens that are written after it, at most.
        begin: the id that stands before each document, or None.
        end: the id that ends a document, or None.
        tokenizer: the `tokenizer.json` of the shards.
    """

    families: tuple[TagFamily, ...]
    firsts: Int64
    length: int
    begin: int | None
    end: int | None
    tokenizer: bytes

    @staticmethod
    def of(
        text: Text,
        families: tuple[TagFamily, ...],
        n: int,
        *,
        begin: int | None,
        end: int | None,
        tokenizer: bytes,
    ) -> Writing:
        """Draw first tokens from the documents of a text. What is written is as long as its median span.

        Args:
            text: of training.
            families: of tags.
            n: how many texts are written under each tag.
            begin: as the attribute.
            end: as the attribute.
            tokenizer: as the attribute.
        """
        heads = np.flatnonzero(text.run_starts())
        of_segment = np.searchsorted(text.segments, heads, side="right") - 1
        opening = np.append(True, of_segment[1:] != of_segment[:-1])[: len(heads)]  # the first span of its segment
        known = text.tokens[heads[opening & ~text.continued[of_segment]]].astype(np.int64)
        if not len(known):  # all that there is goes on with documents that began elsewhere
            known = text.tokens[heads[opening]].astype(np.int64)
        drawn = uniform(keyed_hash(0, name_key("proof: first tokens"), np.arange(n)))
        sizes = np.bincount(text.spans[text.spans >= 0])[text.whole_spans()]
        length = int(np.median(sizes)) - 1 if len(sizes) else SHORTEST
        return Writing(
            families=families,
            firsts=known[(drawn * len(known)).astype(np.int64)],
            length=min(max(length, SHORTEST), LONGEST),
            begin=begin,
            end=end,
            tokenizer=tokenizer,
        )

    def tags(self) -> Iterator[tuple[int | None, str | None, int | None]]:
        """The number of the family, the name and the id of each tag; then None three times, for no tag."""
        for k, family in enumerate(self.families):
            yield from ((k, name, token) for name, token in zip(family.names, family.ids, strict=True))
        yield None, None, None

    def banned(self) -> list[int]:
        """The ids that no text has: tags, and the begin of another document."""
        tags = [token for family in self.families for token in family.ids]
        return tags if self.begin is None or self.begin == self.end else [*tags, self.begin]


def write_texts(model: Any, writing: Writing, *, seed: int) -> pa.Table:
    """Let a model write, under each tag and without one: a table as `SCHEMA` says.

    Texts of one number have the same draws under all tags: a model that heeds no tag writes the same under all.

    Args:
        model: a causal model of Transformers.
        writing: what.
        seed: of the draws.

    Raises:
        FloatingPointError: the model's logits are no numbers.
    """
    n = len(writing.firsts)
    numbers = np.repeat(np.arange(n), writing.length)
    at = np.tile(np.arange(writing.length), n)
    draws = uniform(keyed_hash(seed, name_key("proof: texts"), numbers, at)).reshape(n, writing.length)
    tables = []
    for family, name, token in writing.tags():
        before = [i for i in (writing.begin, token) if i is not None]
        prompts = np.column_stack([np.tile(np.array(before, np.int64), (n, 1)), writing.firsts])
        parts = [
            sample(model, prompts[k : k + TOGETHER], draws[k : k + TOGETHER], banned=writing.banned(), end=writing.end)
            for k in range(0, n, TOGETHER)
        ]
        tokens = np.column_stack([writing.firsts, np.concatenate(parts)]).astype(np.int32)
        kept = tokens != NONE
        lists = pa.ListArray.from_arrays(np.append(0, np.cumsum(kept.sum(axis=1))).astype(np.int32), tokens[kept])
        columns = [pa.array([value] * n) for value in (family, name, seed)]
        tables.append(
            pa.Table.from_arrays(
                [
                    *(column.cast(kind) for column, kind in zip(columns, SCHEMA.types, strict=False)),
                    pa.array(np.arange(n)),
                    pa.array(decoded(writing.tokenizer, tokens), pa.string()),
                    lists,
                ],
                schema=SCHEMA,
            )
        )
    return pa.concat_tables(tables)


@torch.no_grad()
def sample(model: Any, prompts: Int64, draws: Float64, *, banned: Sequence[int], end: int | None) -> Int32:
    """Let a model go on with prompts, at temperature 0.7, from the likeliest tokens that have 0.9 together (top-p).

    Args:
        model: a causal model of Transformers: it gives logits, and takes its cache of keys and values again.
        prompts: int64 `[n, length of all]`.
        draws: float64 `[n, tokens]`, from 0 to 1: which token comes next, along those in falling order.
        banned: ids that get no probability.
        end: the id that ends a text, or None. It does not come first: of each text there is something to judge.

    Returns:
        int32 `[n, tokens]`; -1 from the end of a text on.

    Raises:
        FloatingPointError: the model's logits are no numbers.
    """
    model.eval()
    device, cache = model.device, None
    ids, chances = torch.from_numpy(prompts).to(device), torch.from_numpy(draws).to(device)
    never = torch.tensor([*banned], dtype=torch.long, device=device)
    written = []
    for at in range(draws.shape[1]):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1].double()
        if bool(logits.isnan().any()):
            raise FloatingPointError("logits are no numbers")
        logits[:, never] = -torch.inf
        if end is not None and at == 0:
            logits[:, end] = -torch.inf
        ids = _chosen(logits, chances[:, at])
        written.append(ids)
    tokens = torch.cat(written, dim=1).cpu().numpy().astype(np.int32)
    ended = np.zeros(tokens.shape, bool) if end is None else np.maximum.accumulate(tokens == end, axis=1)
    return np.where(ended, np.int32(NONE), tokens)


def _chosen(logits: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """The next token of each text: int64 `[n, 1]`."""
    likely, order = torch.softmax(logits / TEMPERATURE, dim=1).sort(dim=1, descending=True, stable=True)
    up_to = likely.cumsum(dim=1)
    likely = torch.where(up_to - likely < TOP_P, likely, 0.0)
    up_to = likely.cumsum(dim=1)
    place = torch.searchsorted(up_to, chances[:, None] * up_to[:, -1:], right=True)
    last = (likely > 0).sum(dim=1, keepdim=True) - 1  # a draw next to 1 may be rounded to all there is
    return order.gather(1, torch.minimum(place, last))


def decoded(tokenizer: bytes, tokens: Int32) -> list[str]:
    """The text of rows of tokens, int32 `[n, length]` with -1 behind their ends, by a `tokenizer.json`."""
    rows = [row[row != NONE].tolist() for row in tokens]
    texts: list[str] = Tokenizer.from_buffer(tokenizer).decode_batch(rows, skip_special_tokens=True)
    return texts


def save_texts(table: pa.Table, path: Path) -> None:
    """Write texts to a file under another name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, unfinished)
    unfinished.replace(path)


def read_tokens(path: Path, writing: Writing) -> Int32:
    """The tokens of texts, in the order of `Writing.tags`: int32 `[tags and none, n, 1 + length]`; -1 behind ends."""
    tokens = pq.read_table(path, columns=["tokens"])["tokens"].combine_chunks()
    sizes = np.diff(tokens.offsets.to_numpy())
    shape = (len(tokens), 1 + writing.length)
    filled = np.full(shape, NONE, np.int32)
    filled[np.arange(shape[1]) < sizes[:, None]] = tokens.flatten().to_numpy()
    return filled.reshape(-1, len(writing.firsts), shape[1])
