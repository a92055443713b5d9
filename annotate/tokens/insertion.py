"""Tags among tokens: the ids of tags are inserted at placements, and the tokens of the text stay as they are.

A document is tokenized once, whole and untagged. Without the inserted ids, which `kinds` tells, the tokens are exactly
those. `annotate.tokens.boundaries` says before which token a placement is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import compiled, constant
from annotate.errors import InputError
from annotate.tokens.boundaries import boundaries
from annotate.tokens.encoding import TokenizedTexts
from annotate.tokens.kinds import BEGIN, CLOSE, END, OPEN, TEXT, Kinds
from annotate.tokens.vocabulary import TagVocabulary

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class TaggedTokens:
    """The tokens of n documents with their tags.

    Attributes:
        ids: int32 `[n_tokens]`.
        kinds: uint8 `[n_tokens]`, `TEXT`, `OPEN`, `CLOSE`, `BEGIN` or `END`.
        tags: int32 `[n_tokens]`, which tag of the vocabulary an `OPEN` or `CLOSE` token is; -1 for others.
        spans: int64 `[n_tokens]`, the row in the table of spans of each token of the text; -1 for others. None: no
            spans were given.
        documents: int64 `[n + 1]`, the first token of each document, and `n_tokens` as the last.
        vocabulary: the tags.
        ends: int64 `[n_placements]`, the token from which a tag is no longer in force, even if no other tag stands
            there: at the end of its span, or of its document.
        moved: how many placements have moved past characters that are not blank.
    """

    ids: Int32
    kinds: Kinds
    tags: Int32
    spans: Int64 | None
    documents: Int64
    vocabulary: TagVocabulary
    ends: Int64
    moved: int


def insert(
    encoded: TokenizedTexts,
    texts: pa.Array | pa.ChunkedArray,
    placements: pa.Table,
    vocabulary: TagVocabulary,
    *,
    spans: pa.Table | None = None,
    begin_id: int | None = None,
    end_id: int | None = None,
) -> TaggedTokens:
    """Insert the ids of tags into tokenized documents.

    Args:
        encoded: the tokens of the documents.
        texts: the documents that these are the tokens of, string or large_string `[n]`.
        placements: columns `row`, `byte_offset` (int64), `tag`, `kind` (strings, or dictionaries of them), sorted by
            row, byte offset and order. Those at one place keep their order. `kind` is `open`, `close` or `mark`: a mark
            is in force nowhere, and its family is -1. A column `byte_end` (int64), if it is there, says where the span
            of a tag ends, beyond which it is not in force; null: the document's end.
        vocabulary: the tags that the tokenizer knows.
        spans: columns `row`, `byte_start` (int64), sorted. Those of a document tile it. A token of the text is of the
            span whose tag would stand before it.
        begin_id: the id of a token before each document that has text, or None.
        end_id: the id of a token after it, or None.

    Raises:
        InputError: placements or spans are not sorted, or one is outside its document. Names the row.
        ConfigError: the vocabulary does not have a tag, or a kind is not known.
    """
    row, byte_offset = _int64(placements, "row"), _int64(placements, "byte_offset")
    index, moved = boundaries(encoded, texts, row, byte_offset)
    tag, kind, token = _translated(placements, vocabulary)
    of_span = _spans_of_tokens(encoded, texts, spans) if spans is not None else np.zeros(0, np.int64)
    has_text = np.diff(encoded.documents) > 0
    added = np.bincount(row, minlength=len(has_text)) + has_text * ((begin_id is not None) + (end_id is not None))
    documents = np.append(0, np.cumsum(np.diff(encoded.documents) + added))
    n = int(documents[-1])
    ids, kinds, tags = np.empty(n, np.int32), np.empty(n, np.uint8), np.full(n, -1, np.int32)
    out_spans = np.full(n if spans is not None else 0, -1, np.int64)
    _interleave(
        constant(encoded.ids, np.int32),
        constant(encoded.documents, np.int64),
        constant(of_span, np.int64),
        constant(row, np.int64),
        constant(index, np.int64),
        constant(token, np.int32),
        constant(kind, np.uint8),
        constant(tag, np.int32),
        -1 if begin_id is None else begin_id,
        -1 if end_id is None else end_id,
        ids,
        kinds,
        tags,
        out_spans,
    )
    return TaggedTokens(
        ids=ids,
        kinds=kinds,
        tags=tags,
        spans=out_spans if spans is not None else None,
        documents=documents.astype(np.int64),
        vocabulary=vocabulary,
        ends=_ends(encoded, texts, placements, index, documents, 0 if begin_id is None else 1),
        moved=int(moved.sum()),
    )


def span_numbers(span_rows: Int64, spans: pa.Table) -> Int32:
    """The number of each token's span in its document, from 0: int32, the shape of `span_rows`; -1 where that is -1.

    Args:
        span_rows: int64, rows in the table of spans; -1 for none.
        spans: column `row` (int64), sorted. And `span`, the number of each, if some of a document's spans are left out.
    """
    row = _int64(spans, "row")
    numbers = _int64(spans, "span") if "span" in spans.column_names else np.arange(len(row)) - np.searchsorted(row, row)
    number = np.append(numbers, -1)  # -1 reads the last
    return number[span_rows].astype(np.int32)


def token_scores(span_rows: Int64, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The score of each token's span: float32, the shape of `span_rows`; NaN where that is -1.

    Args:
        span_rows: int64, rows in the table of spans; -1 for none.
        scores: float32 `[n_spans]`, of one axis.
    """
    return np.append(scores, np.float32(np.nan))[span_rows].astype(np.float32)


def _translated(placements: pa.Table, vocabulary: TagVocabulary) -> tuple[Int32, Kinds, Int32]:
    """Which tag of the vocabulary each placement is, its kind, and its id: `[n_placements]` each."""
    (tag, names), (kind, kinds) = (_encoded(placements[name]) for name in ("tag", "kind"))
    pairs, of_pair = np.unique(kind * len(names) + tag, return_inverse=True)
    found = [(names[pair % len(names)], kinds[pair // len(names)]) for pair in pairs.tolist()]
    token = np.array([vocabulary.id_of(name, one) for name, one in found], np.int32)
    which = np.array([vocabulary.names.index(name) for name, _ in found], np.int32)
    what = np.array([CLOSE if one == "close" else OPEN for _, one in found], np.uint8)
    return which[of_pair], what[of_pair], token[of_pair]


def _ends(
    encoded: TokenizedTexts,
    texts: pa.Array | pa.ChunkedArray,
    placements: pa.Table,
    index: Int64,
    documents: Int64,
    begin: int,
) -> Int64:
    """The token, tags counted, at which the span of each tag ends, before the tags that stand there: int64 `[m]`.

    Args:
        encoded: the tokens of the documents.
        texts: the documents.
        placements: as for `insert`.
        index: int64 `[m]`, ascending, the token of the text before which each placement is.
        documents: int64 `[n + 1]`, the first token of each document, tags counted.
        begin: how many tokens stand before a document's text: 1 with a token for its begin, else 0.
    """
    row = _int64(placements, "row")
    ends = documents[row + 1].astype(np.int64)
    if "byte_end" not in placements.column_names:
        return ends
    given = placements["byte_end"].is_valid().to_numpy()
    byte_end = placements["byte_end"].fill_null(0).to_numpy()
    order = np.lexsort((byte_end, row))
    order = order[given[order]]
    row = row[order]
    end, _ = boundaries(encoded, texts, row, byte_end[order])
    tags_before = np.searchsorted(index, end) - np.searchsorted(_int64(placements, "row"), row)
    text_before = end - encoded.documents[row]
    ends[order] = documents[row] + begin + text_before + np.maximum(tags_before, 0)
    return ends


def _encoded(column: pa.ChunkedArray) -> tuple[Int64, list[str]]:
    """The codes of a column of strings, and the string of each code."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    joined = column.unify_dictionaries().combine_chunks()
    array = joined if isinstance(joined, pa.DictionaryArray) else joined.chunk(0)
    if array.null_count:
        raise InputError("the tag and the kind of a placement must not be null")
    return array.indices.to_numpy().astype(np.int64), array.dictionary.to_pylist()


def _spans_of_tokens(encoded: TokenizedTexts, texts: pa.Array | pa.ChunkedArray, spans: pa.Table) -> Int64:
    """The row in `spans` of each token of the text: int64 `[n_tokens]`."""
    row, start = _int64(spans, "row"), _int64(spans, "byte_start")
    index, _ = boundaries(encoded, texts, row, start)
    first = np.ones(len(row), np.bool_)
    first[1:] = row[1:] != row[:-1]
    index[first] = encoded.documents[row[first]]  # blanks before the first word belong to the first span
    ends = np.append(index[1:], 0)
    last = np.append(first[1:], np.ones(min(len(row), 1), np.bool_))
    ends[last] = encoded.documents[row[last] + 1]
    of_token = np.repeat(np.arange(len(row)), ends[: len(row)] - index)
    if len(of_token) != len(encoded.ids):
        without = np.setdiff1d(np.flatnonzero(np.diff(encoded.documents)), row)
        raise InputError(f"spans must tile their documents, but row {without[0]} has none")
    return of_token


def _int64(table: pa.Table, name: str) -> Int64:
    return np.asarray(table[name].to_numpy(), np.int64)


@compiled
def _interleave(
    text_ids: Int32,
    text_documents: Int64,
    text_spans: Int64,
    row: Int64,
    index: Int64,
    token: Int32,
    kind: Kinds,
    tag: Int32,
    begin_id: int,
    end_id: int,
    ids: Int32,
    kinds: Kinds,
    tags: Int32,
    spans: Int64,
) -> None:
    out = placement = 0
    with_spans = len(spans) > 0
    for document in range(len(text_documents) - 1):
        first, last = text_documents[document], text_documents[document + 1]
        if begin_id >= 0 and last > first:
            ids[out], kinds[out] = begin_id, BEGIN
            out += 1
        at = first
        while True:
            while placement < len(row) and row[placement] == document and index[placement] <= at:
                ids[out], kinds[out], tags[out] = token[placement], kind[placement], tag[placement]
                out += 1
                placement += 1
            if at == last:
                break
            until = last
            if placement < len(row) and row[placement] == document:
                until = index[placement]
            for i in range(at, until):
                ids[out], kinds[out] = text_ids[i], TEXT
                if with_spans:
                    spans[out] = text_spans[i]
                out += 1
            at = until
        if end_id >= 0 and last > first:
            ids[out], kinds[out] = end_id, END
            out += 1
