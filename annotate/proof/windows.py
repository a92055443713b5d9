"""Token shards taken apart: the text, and beside it the tags of each span.

So the arms of a proof can have the same text in the same windows, each with its own tags. Taking tags out and putting
them back gives the windows of the shards, token by token: tags stand before the first token of their span.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError, InputError
from annotate.exports.windows import Vocabulary, Windows, read_windows
from annotate.proof.intervals import Bool, Int64
from annotate.text.arrays import one_array

Int32 = npt.NDArray[np.int32]
NONE = -1


@dataclass(frozen=True, kw_only=True)
class TagFamily:
    """Tags of which a span has one at most. `names` and `ids` are in the order of `tags.json`."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    @property
    def title(self) -> str:
        """Its tags, for people."""
        return " ".join(f"<{name}>" for name in self.names)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spans:
    """What is known of spans, by number.

    Attributes:
        documents: int64 `[n]`, the document of each, numbered through all parts.
        numbers: int64 `[n]`, its number in the document.
        tags: int32 `[n, families]`, the ids that stand before it, in order; -1 fills the rest.
    """

    documents: Int64
    numbers: Int64
    tags: Int32

    def __len__(self) -> int:
        return len(self.documents)

    def states(self, family: TagFamily) -> Int64:
        """The tag of each span in a family, from 1 in the order of `ids`; 0 for none: int64 `[n]`."""
        found = np.zeros(len(self), np.int64)
        for state, token in enumerate(family.ids, start=1):
            found[(self.tags == token).any(axis=1)] = state
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Text:
    """Windows of text without tags.

    A segment is a piece of a document; segments of a window do not see each other.

    Attributes:
        tokens: int32 `[n]`, the text of all windows, with the tokens for the begin and the end of documents.
        spans: int64 `[n]`, the span of each token; -1 for begin and end.
        segments: int64 `[n_segments + 1]`, the first token of each segment, and n.
        documents: int64 `[n_segments]`, the document of each segment.
        continued: bool `[n_segments]`, whether a segment goes on with a document: the tags at its head are repeated.
        windows: int64 `[n_windows + 1]`, the first segment of each window, and their number.
        of_spans: the spans.
        without_text: how many tags stood before no text of their own, since their span has no token: they are left out.
        ordered: whether the windows are in phases, and have to be trained on in this order.
    """

    tokens: Int32
    spans: Int64
    segments: Int64
    documents: Int64
    continued: Bool
    windows: Int64
    of_spans: Spans
    without_text: int
    ordered: bool

    @property
    def n_windows(self) -> int:
        """How many windows there are."""
        return len(self.windows) - 1

    def run_starts(self) -> Bool:
        """Which tokens are the first of their span in their segment: bool `[n]`. Tags stand before these."""
        starts = np.append(True, self.spans[1:] != self.spans[:-1])[: len(self.tokens)]
        starts[self.segments[:-1]] = True
        return starts & (self.spans >= 0)

    def whole_spans(self) -> Int64:
        """The spans that lie whole in one segment, in order: int64 `[n]`. Others were cut, and are context only."""
        found, counts = np.unique(self.spans[self.run_starts()], return_counts=True)
        return found[counts == 1]

    def only(self, kept: Bool) -> Text:
        """Some of the segments, bool `[n_segments]`; windows that are left with none are gone."""
        sizes = np.diff(self.segments)
        of_window = np.repeat(np.arange(self.n_windows), np.diff(self.windows))[kept]
        tokens = np.repeat(kept, sizes)
        counts = np.unique(of_window, return_counts=True)[1]
        return Text(
            tokens=self.tokens[tokens],
            spans=self.spans[tokens],
            segments=_offsets(sizes[kept]),
            documents=self.documents[kept],
            continued=self.continued[kept],
            windows=_offsets(counts),
            of_spans=self.of_spans,
            without_text=self.without_text,
            ordered=self.ordered,
        )


def tag_families(card: Mapping[str, Any]) -> tuple[TagFamily, ...]:
    """The families of tags that a proof can measure: those that stand before each of their spans, and are not closed.

    Args:
        card: the content of `tags.json`.

    Raises:
        ConfigError: there is no tag, or one has another layout.
    """
    families: dict[Any, list[Mapping[str, Any]]] = {}
    for tag in card["tags"]:
        prefix = tag.get("layout") == "prefix" and tag["closing_id"] is None
        if prefix and not tag.get("every_span"):
            raise ConfigError(
                f"<{tag['name']}> is of larger spans than those inside it, as `Nest` places it: it counts for all of "
                "them, and the likelihoods of single spans, on which a proof rests, do not tell what it does",
                hint="Prove the levels one by one: token shards of a `Place` for each, on the same scores.",
            )
        if not prefix:
            raise ConfigError(
                f"<{tag['name']}> does not stand before each of its spans (layout {tag.get('layout')!r}): its effect "
                "on a span can't be told from that on the spans before",
                hint='Prove a run whose tags all have the layout "prefix"; it can have the same scores.',
            )
        families.setdefault(tag["family"], []).append(tag)
    if not families:
        raise ConfigError("these shards have no tags", hint='Leave the control "untagged" out.')
    return tuple(
        TagFamily(names=tuple(tag["name"] for tag in tags), ids=tuple(tag["id"] for tag in tags))
        for tags in families.values()
    )


def read_text(
    tables: Iterable[pa.Table], card: Mapping[str, Any], *, enough: int | None = None, where: str = "the shards"
) -> Text:
    """Take token shards apart.

    Args:
        tables: of token shards, in order, with the column `span_ids`.
        card: the content of their `tags.json`.
        enough: no more parts are read after this many tokens of text.
        where: what errors call the shards.

    Raises:
        ConfigError: as for `tag_families`; or there is no column `span_ids`.
        InputError: a table is damaged, or there is no text.
    """
    families = tag_families(card)
    vocabulary = Vocabulary(tokenizer="", size=card["vocabulary"]["padded_size"])
    parts: list[Text] = []
    documents = spans = tokens = 0
    for number, table in enumerate(tables):
        if "span_ids" not in table.column_names:
            raise ConfigError(
                f"{where} do not say which span each token is of",
                hint="Make them with TokenShards(..., span_ids=True). Scores are kept: nothing is scored again.",
            )
        if not table.num_rows:
            continue
        part = _part(read_windows(table, vocabulary, f"part {number}"), families, documents, spans)
        parts.append(part)
        documents, spans = int(part.documents.max()) + 1, spans + len(part.of_spans)
        tokens += len(part.tokens)
        if enough is not None and tokens >= enough:
            break
    if not tokens:
        raise InputError(f"{where} have no text")
    return _joined(parts)


def _part(windows: Windows, families: tuple[TagFamily, ...], first_document: int, first_span: int) -> Text:
    """Take one part apart; its documents and spans are numbered on from those before."""
    n_tokens = len(windows.tokens)
    sizes = windows.segments
    starts = windows.segment_ends - sizes
    segment = np.full(n_tokens, NONE, np.int64)
    within = np.repeat(starts - np.append(0, np.cumsum(sizes)[:-1]), sizes) + np.arange(sizes.sum())
    segment[within] = np.repeat(np.arange(len(sizes)), sizes)
    numbers = _span_column(windows.table)
    is_tag = np.isin(windows.tokens, [token for family in families for token in family.ids]) & (segment >= 0)
    body = np.flatnonzero((segment >= 0) & ~is_tag)
    of_segment = segment[body]
    document = windows.documents[of_segment]
    key = document * (int(numbers.max(initial=0)) + 2) + numbers[body]
    key[numbers[body] < 0] = NONE
    found, span = np.unique(key, return_inverse=True)
    shift = int(found[0] == NONE) if len(found) else 0
    span = np.where(key < 0, NONE, span - shift)
    where_first = np.unique(span[span >= 0], return_index=True)[1]
    in_text = np.flatnonzero(span >= 0)[where_first]
    tags, lost = _tags_of_spans(windows.tokens, segment, is_tag, body, span, len(in_text), families)
    counts = np.bincount(of_segment, minlength=len(sizes))
    return Text(
        tokens=windows.tokens[body],
        spans=np.where(span < 0, NONE, span + first_span),
        segments=_offsets(counts),
        documents=windows.documents + first_document,
        continued=windows.pieces > 0,
        windows=windows.firsts.astype(np.int64),
        of_spans=Spans(
            documents=document[in_text] + first_document, numbers=numbers[body][in_text].astype(np.int64), tags=tags
        ),
        without_text=lost,
        ordered="phase" in windows.table.column_names,
    )


def _span_column(table: pa.Table) -> Int64:
    """The column `span_ids`, all windows end to end: int64 `[n_tokens]`."""
    return one_array(table["span_ids"]).flatten().to_numpy().astype(np.int64)


def _tags_of_spans(
    tokens: Int32, segment: Int64, is_tag: Bool, body: Int64, span: Int64, n: int, families: tuple[TagFamily, ...]
) -> tuple[Int32, int]:
    """The ids before each span, int32 `[n, families]`, and how many tags stand before no text of their own.

    A span that was cut has its tags at the head of each piece: they are the same. Where two tags of a family follow
    each other, the span of the first has no token.
    """
    at = np.flatnonzero(is_tag)
    following = np.searchsorted(body, at)
    has = following < len(body)
    target = np.where(has, span[np.minimum(following, len(body) - 1)], NONE)
    target[has & (segment[body[np.minimum(following, len(body) - 1)]] != segment[at])] = NONE
    family_of = {token: k for k, family in enumerate(families) for token in family.ids}
    family = np.array([family_of[token] for token in tokens[at].tolist()], np.int64)
    kept = target >= 0
    # The last tag of a family before a token is that of the token's span.
    place = following * len(families) + family
    last = np.zeros(len(at), bool)
    last[len(at) - 1 - np.unique(place[::-1], return_index=True)[1]] = True
    lost = int((~kept | ~last).sum())
    kept &= last
    at, target, following = at[kept], target[kept], following[kept]
    # Of a span in several pieces, those of its first.
    first_run = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(first_run, target, following)
    own = following == first_run[target]
    at, target = at[own], target[own]
    order = np.argsort(target, kind="stable")
    at, target = at[order], target[order]
    rank = np.arange(len(target)) - np.searchsorted(target, target)
    tags = np.full((n, len(families)), NONE, np.int32)
    tags[target, rank] = tokens[at]
    return tags, lost


def _joined(parts: list[Text]) -> Text:
    """Parts end to end."""

    def offsets(name: str) -> Int64:
        return _offsets(np.concatenate([np.diff(getattr(part, name)) for part in parts]))

    def together(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Text(
        tokens=together("tokens"),
        spans=together("spans"),
        segments=offsets("segments"),
        documents=together("documents"),
        continued=together("continued"),
        windows=offsets("windows"),
        of_spans=Spans(
            documents=np.concatenate([part.of_spans.documents for part in parts]),
            numbers=np.concatenate([part.of_spans.numbers for part in parts]),
            tags=np.concatenate([part.of_spans.tags for part in parts]),
        ),
        without_text=sum(part.without_text for part in parts),
        ordered=any(part.ordered for part in parts),
    )


def _offsets(sizes: Int64) -> Int64:
    return np.append(0, np.cumsum(sizes)).astype(np.int64)
