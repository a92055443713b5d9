"""The tokens of texts as a model reads them, with tags or without, and the span of each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from tokenizers import Tokenizer

from annotate.directions.spans import TaggedSpans
from annotate.errors import ConfigError
from annotate.inference.tagged import Trained
from annotate.models.encode import encode
from annotate.tokens import TagVocabulary, TextTokenizer, insert

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Texts as a model reads them, one row each.

    Attributes:
        ids: by row, int64 `[length]`.
        spans: by row, the number of the span of each token among the spans of all rows: int64 `[length]`; -1 for what
            is not text.
    """

    ids: Sequence[Int64]
    spans: Sequence[Int64]

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Rows that are read together, padded on the right, where no token of the text sees the padding.

        Yields:
            Which rows; their ids and their mask, int64 `[n, longest]`, on the device.
        """
        for first in range(0, len(self.ids), size):
            some = self.ids[first : first + size]
            width = max(map(len, some))
            ids, mask = np.zeros((2, len(some), width), np.int64)
            for i, row in enumerate(some):
                ids[i, : len(row)], mask[i, : len(row)] = row, 1
            yield slice(first, first + len(some)), torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How a model's texts are tokenized.

    Attributes:
        trained: how tags stand in the shards that the model was trained on; None: it has not seen the tags.
        encoder: tokenizes texts.
        begin_id: a token before each text, or None.
    """

    trained: Trained | None
    encoder: TextTokenizer
    begin_id: int | None

    @staticmethod
    def of_shards(trained: Trained) -> Reader:
        """For a model that was trained on token shards."""
        return Reader(trained=trained, encoder=trained.encoder, begin_id=trained.begin_id)

    @staticmethod
    def of_tokenizer(tokenizer: Any) -> Reader:
        """For any other model; the token before a text is the one for its begin, or else for its end."""
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return Reader(trained=None, encoder=TextTokenizer(tokenizer), begin_id=begin)

    def untagged(self, texts: TaggedSpans) -> Rows:
        """The rows of texts without tags."""
        return self._placed(texts, pa.table({"row": [], "byte_offset": [], "tag": [], "kind": []}, schema=PLACED))

    def under(self, texts: TaggedSpans, names: Sequence[str], *, chosen: npt.NDArray[np.bool_] | None = None) -> Rows:
        """The rows of texts under tags, which stand as in the shards.

        Args:
            texts: the texts.
            names: tags, from `Trained.named`.
            chosen: bool `[n_spans]`, the spans that are under them; None: all. Tags that stand once in a document, for
                its whole text, stand only if its first span is chosen.
        """
        assert self.trained is not None, "it has seen the tags"
        spans = texts.table
        chosen = np.ones(spans.num_rows, bool) if chosen is None else chosen
        row, start, end = (spans[name].to_numpy() for name in ("row", "byte_start", "byte_end"))
        closing = dict(zip(self.trained.vocabulary.names, self.trained.vocabulary.close_ids, strict=True))
        placed: list[tuple[int, int, str, str]] = []
        for i in np.flatnonzero(chosen).tolist():
            again = [name for name in names if name in self.trained.every_span]
            placed += [(row[i], start[i], name, "open") for name in (names if start[i] == 0 else again)]
            follows = i + 1 < len(row) and row[i + 1] == row[i]
            placed += [(row[i], end[i], name, "close") for name in reversed(again) if closing[name] >= 0 and follows]
        columns = list(zip(*sorted(placed, key=lambda each: each[:2]), strict=True)) or [(), (), (), ()]
        arrays = [pa.array(list(values), field.type) for values, field in zip(columns, PLACED, strict=True)]
        return self._placed(texts, pa.table(arrays, schema=PLACED))

    def _placed(self, texts: TaggedSpans, placements: pa.Table) -> Rows:
        array, spans = pa.array(texts.texts, pa.large_string()), texts.table
        segments = self.trained is not None and self.trained.segments
        encoded = self.encoder.encode_segments(array, spans) if segments else self.encoder.encode(array)
        vocabulary = (
            TagVocabulary(names=(), open_ids=(), close_ids=()) if self.trained is None else self.trained.vocabulary
        )
        tagged = insert(encoded, array, placements, vocabulary, spans=spans)
        assert tagged.spans is not None, "spans were given"
        begin = [] if self.begin_id is None else [self.begin_id]
        borders = list(zip(tagged.documents[:-1].tolist(), tagged.documents[1:].tolist(), strict=True))
        return Rows(
            ids=[np.append(begin, tagged.ids[start:stop]).astype(np.int64) for start, stop in borders],
            spans=[
                np.append(np.full(len(begin), -1), tagged.spans[start:stop]).astype(np.int64) for start, stop in borders
            ],
        )


PLACED = pa.schema([("row", pa.int64()), ("byte_offset", pa.int64()), ("tag", pa.string()), ("kind", pa.string())])


def alone(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> Rows:
    """Each text by itself as a probe reads it: with the special tokens of its tokenizer, all of which count.

    Args:
        tokenizer: of the model.
        texts: each is one span. One without a token has no row.
        max_length: tokens at most; more are cut off.
    """
    encoded = encode(Tokenizer.from_str(tokenizer.to_str()), list(texts), max_length)
    ends = np.cumsum(encoded.lengths, dtype=np.int64)
    kept = np.flatnonzero(encoded.lengths)
    return Rows(
        ids=[encoded.ids[ends[i] - encoded.lengths[i] : ends[i]].astype(np.int64) for i in kept],
        spans=[np.full(encoded.lengths[i], i, np.int64) for i in kept],
    )


def fitted(texts: TaggedSpans, reader: Reader, names: Sequence[str], positions: int) -> TaggedSpans:
    """The texts cut, where a span ends, to what the model has positions for.

    Texts whose first span is longer are left out.

    Args:
        texts: the texts.
        reader: how they are tokenized.
        names: the tags that they will be read under.
        positions: how many tokens the model takes.

    Raises:
        ConfigError: nothing is left.
    """
    rows = reader.under(texts, names) if names else reader.untagged(texts)
    row = texts.table["row"].to_numpy()
    kept = []
    for number, spans in enumerate(rows.spans):
        own = np.flatnonzero(row == number)
        first = own[0]
        here = np.maximum.accumulate(np.maximum(spans, first)) - first  # a tag counts with the span before it
        sizes = np.cumsum(np.bincount(here, minlength=len(own)))
        kept.append(int((sizes <= positions - SPARE).sum()))
    if not any(kept):
        raise ConfigError(
            f"no text has a first span of at most {positions} tokens, which is what the model has positions for",
            hint="Use a model with more positions, or smaller spans.",
        )
    return texts.cut(kept)


SPARE = 8
"""Positions that stay free: the tokens of a text that is cut may be a few more than those of its part before."""
