"""The arms of a proof: the same windows of text, each arm with other tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from annotate.errors import ConfigError
from annotate.exports.huggingface import IGNORED
from annotate.proof.intervals import Bool, Float64, Int64
from annotate.proof.windows import NONE, Int32, Spans, TagFamily, Text
from annotate.randomness import keyed_hash, name_key, uniform

Tags = Literal["true", "shuffled", "none"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Which tags a model is trained with.

    Attributes:
        name: of the arm.
        tags: "true": those of the shards. "shuffled": those of other spans. "none".
        rate: the share of documents that keep their tags, at the beginning and at the end of `during`; it goes from one
            to the other in a straight line.
        during: the part of training that has tags, from 0 to 1.
        apart: the ids of two tags that never stand before one span; None: any may.
    """

    name: str
    tags: Tags
    rate: tuple[float, float] = (1.0, 1.0)
    during: tuple[float, float] = (0.0, 1.0)
    apart: tuple[int, int] | None = None

    def rates(self, at: Float64) -> Float64:
        """The share of documents that keep their tags, at some points of training, from 0 to 1: float64 `[n]`."""
        start, end = self.during
        along = (at - start) / (end - start)
        rates = self.rate[0] + (self.rate[1] - self.rate[0]) * along
        return np.where((at >= start) & (at < end), rates, 0.0)


TRUE = Arm(name="true", tags="true")
SHUFFLED = Arm(name="shuffled", tags="shuffled")
NO_TAGS = Arm(name="no tags", tags="none")
THEN_NO_TAGS = Arm(name="then no tags", tags="none")  # goes on with a model that was trained with true tags
IN_PART = (
    Arm(name="first half", tags="true", during=(0.0, 0.5)),
    Arm(name="last half", tags="true", during=(0.5, 1.0)),
    Arm(name="cooldown", tags="true", during=(0.0, 0.9)),
    Arm(name="ramp", tags="true", rate=(0.0, 1.0)),
    Arm(name="1 %", tags="true", rate=(0.01, 0.01)),
    Arm(name="10 %", tags="true", rate=(0.1, 0.1)),
)


def held_out_pair(families: Sequence[TagFamily]) -> Arm | None:
    """The arm that never sees the first tags of the first two families together; None if there is one family."""
    if len(families) < 2:
        return None
    return Arm(name="held-out pair", tags="true", apart=(families[0].ids[0], families[1].ids[0]))


def has_both(spans: Spans, pair: tuple[int, int]) -> Bool:
    """Which spans have both tags: bool `[n]`."""
    return (spans.tags == pair[0]).any(axis=1) & (spans.tags == pair[1]).any(axis=1)


def kept_apart(spans: Spans, pair: tuple[int, int], *, seed: int) -> Int32:
    """The tags of spans, where those that have both tags of a pair lose one of the two: int32 `[n, families]`.

    Which one is drawn by a hash of the span, as likely as the other.
    """
    both = np.flatnonzero(has_both(spans, pair))
    keys = keyed_hash(seed, name_key("proof: held-out pair"), spans.documents[both], spans.numbers[both])
    lost = np.where(uniform(keys) < 0.5, *pair)
    tags = spans.tags.copy()
    rows = np.where(tags[both] == lost[:, None], NONE, tags[both])
    order = np.argsort(rows == NONE, axis=1, kind="stable")  # the rest move up, in their order
    tags[both] = np.take_along_axis(rows, order, axis=1)
    return tags


def shuffled(spans: Spans, *, seed: int) -> Int32:
    """The tags of spans, given to other spans: int32 `[n, families]`.

    All that stands before a span goes to one other span, as with the control "shuffled" of a tag scheme: the tags, in
    the order of a hash of their spans, are given to the spans in order. So each tag, and each combination, occurs as
    often as before. All spans take part, also those of documents without a tag: if these kept to themselves, a tag
    anywhere would tell of its document.
    """
    key = name_key("proof: shuffled")
    return spans.tags[np.argsort(keyed_hash(seed, key, spans.documents, spans.numbers), kind="stable")]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Windows as a model takes them; padding has segment -1.

    Attributes:
        ids: int64 `[windows, width]`.
        labels: int64 `[windows, width]`, aligned with `ids`; -100 where a token is no target.
        positions: int64 `[windows, width]`, from 0 in each segment.
        segments: int64 `[windows, width]`, the number of each token's segment in its window.
    """

    ids: Int64
    labels: Int64
    positions: Int64
    segments: Int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendering:
    """The windows of an arm, made when they are asked for.

    Attributes:
        text: the windows without tags.
        tags: int32 `[n_spans, families]`, those of this arm.
        arm: which.
        train_on_tags: whether tags are targets, as the loss policy of the shards says. Tags at the head of a segment
            that goes on with a document never are, nor is the first token of a segment.
        seed: of the documents that lose their tags, if the arm has tags in a part of training.
    """

    text: Text
    tags: Int32
    arm: Arm
    train_on_tags: bool
    seed: int = 0

    @staticmethod
    def of(text: Text, arm: Arm, *, loss: str, seed: int) -> Rendering:
        """Render an arm of the text.

        Args:
            text: the windows.
            arm: which.
            loss: the policy of the shards.
            seed: of the shuffle, and of what an arm leaves out.
        """
        tags = text.of_spans.tags
        if arm.tags == "shuffled":
            tags = shuffled(text.of_spans, seed=seed)
        elif arm.tags == "none":
            tags = np.full_like(tags, NONE)
        elif arm.apart is not None:
            tags = kept_apart(text.of_spans, arm.apart, seed=seed)
        return Rendering(text=text, tags=tags, arm=arm, train_on_tags=loss == "train", seed=seed)

    @property
    def width(self) -> int:
        """Tokens of the longest window, if all documents keep their tags."""
        return int(np.diff(self._lengths_before()[self.text.segments[self.text.windows]]).max(initial=1))

    def _lengths_before(self) -> Int64:
        """How many tokens of the arm stand before each token of the text: int64 `[n + 1]`."""
        added = np.where(self.text.run_starts(), self._number_of_tags(self.text.spans), 0)
        return np.append(0, np.cumsum(1 + added))

    def _number_of_tags(self, spans: Int64) -> Int64:
        return (self.tags[spans] != NONE).sum(axis=1)

    def batch(self, numbers: Sequence[int] | Int64, at: float = 0.0) -> Batch:
        """Some windows, in the order that is asked for.

        Args:
            numbers: of the windows.
            at: the point of training, from 0 to 1, at which they are trained on.

        Raises:
            ConfigError: none is asked for.
        """
        if not len(numbers):
            raise ConfigError("a batch has one window at least")
        rows = [self._window(int(number), at) for number in numbers]
        width = max(len(row[0]) for row in rows)
        shape = (len(rows), width)
        columns = [np.full(shape, filling, np.int64) for filling in (0, IGNORED, 0, NONE)]
        for i, row in enumerate(rows):
            for column, values in zip(columns, row, strict=True):
                column[i, : len(values)] = values
        ids, labels, positions, segments = columns
        return Batch(ids=ids, labels=labels, positions=positions, segments=segments)

    def _window(self, number: int, at: float) -> tuple[Int64, Int64, Int64, Int64]:
        text = self.text
        first, last = text.windows[number], text.windows[number + 1]
        return self.segments(np.arange(first, last), at)

    def segments(self, numbers: Int64, at: float = 0.0) -> tuple[Int64, Int64, Int64, Int64]:
        """Consecutive segments with their tags: ids, labels, positions, and which of the segments each token is of."""
        text = self.text
        begin, end = text.segments[numbers[0]], text.segments[numbers[-1] + 1]
        tokens, spans = text.tokens[begin:end], text.spans[begin:end]
        borders = text.segments[numbers[0] : numbers[-1] + 2] - begin
        of_segment = np.repeat(np.arange(len(numbers)), np.diff(borders))
        head = np.zeros(len(tokens), bool)
        head[borders[:-1]] = True
        starts = (head | np.append(True, spans[1:] != spans[:-1])) & (spans >= 0)
        kept = self._keeps_tags(text.documents[numbers], at)[of_segment]
        added = np.where(starts & kept, self._number_of_tags(spans), 0)
        place = np.arange(len(tokens)) + np.cumsum(added)  # of each token of the text among all
        n = len(tokens) + int(added.sum())
        ids, labels = np.empty(n, np.int64), np.full(n, IGNORED, np.int64)
        ids[place] = tokens
        # The first token of a segment has tags before it in some arms alone, so it counts in none.
        labels[place] = np.where(head, IGNORED, tokens)
        holders = np.flatnonzero(added)
        which = np.repeat(holders, added[holders])
        rank = np.arange(len(which)) - np.repeat(np.cumsum(added[holders]) - added[holders], added[holders])
        slots = place[which] - added[which] + rank
        ids[slots] = self.tags[spans[which], rank]
        if self.train_on_tags:
            counts = ~(head[which] & ((rank == 0) | text.continued[numbers][of_segment[which]]))
            labels[slots[counts]] = ids[slots[counts]]
        segment = np.empty(n, np.int64)
        segment[place] = of_segment
        segment[slots] = of_segment[which]
        starts_at = np.searchsorted(segment, np.arange(len(numbers)))
        return ids, labels, np.arange(n) - starts_at[segment], segment

    def _keeps_tags(self, documents: Int64, at: float) -> Bool:
        rate = self.arm.rates(np.array([at]))[0]
        return uniform(keyed_hash(self.seed, name_key("proof: tags in part"), documents)) < rate
