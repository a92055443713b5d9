"""Log-likelihoods of held-out spans under each tag, with the context as it is.

To compare tags of one span, the tags of the spans before must stay (metrics 1 to 3). So each span would need a pass for
each tag. Here one pass does a whole segment: behind the segment follow branches, one for each span and other tag. A
branch has the positions of its span, and sees the text before that span and itself, and nothing else.

Where text stands, no probability goes to tags. A model that has learned to write tags expects one where a span begins;
a span without a tag would pay for the tag that did not come, whatever tags mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from annotate.proof.arms import Rendering
from annotate.proof.intervals import Bool, Float64, Int64
from annotate.proof.windows import NONE, Int32, TagFamily, Text

TARGETS = ("targets", "spans", "columns")
Variants = Callable[[int, Int32], Iterable[tuple[int, Int32 | None]]]
BATCH_TOKENS = 8192  # padded tokens of a pass; the mask of one row has the square of its length


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A segment and its branches, as one row of a pass.

    Attributes:
        ids: int64 `[length]`.
        positions: int64 `[length]`.
        main: int64 `[length]`, the place in the segment of a token of it; of a branch, how much of the segment it sees.
        branch: int64 `[length]`, 0 for the segment, a number for each branch.
        predictors: int64 `[targets]`, the place in the row whose logits predict each target.
        targets: int64 `[targets]`, ids.
        spans: int64 `[targets]`, the span of each.
        columns: int64 `[targets]`, the column of the result.
    """

    ids: Int64
    positions: Int64
    main: Int64
    branch: Int64
    predictors: Int64
    targets: Int64
    spans: Int64
    columns: Int64


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of log-likelihoods: for each family first no tag, then each tag; at last, all text without tags."""

    families: tuple[TagFamily, ...]

    def of(self, family: int) -> slice:
        """Those of a family."""
        start = sum(len(each.ids) + 1 for each in self.families[:family])
        return slice(start, start + len(self.families[family].ids) + 1)

    @property
    def plain(self) -> int:
        """The column of the span in its document without any tag."""
        return sum(len(each.ids) + 1 for each in self.families)


def rows_of(rendering: Rendering, plain: Rendering, columns: Columns) -> list[Row]:
    """The rows that give all columns for the whole spans of a text.

    Args:
        rendering: the text with its tags.
        plain: the same text without.
        columns: what is asked for.
    """
    whole = whole_spans(rendering.text)
    states = np.stack([rendering.text.of_spans.states(family) for family in columns.families], axis=1)

    def variants(span: int, tags: Int32) -> Iterator[tuple[int, Int32 | None]]:
        for family, one in enumerate(columns.families):
            first, own = columns.of(family).start, int(states[span, family])
            yield first + own, None
            for state in (state for state in range(len(one.ids) + 1) if state != own):
                yield first + state, replaced(tags, columns.families, family, state)

    rows = []
    for segment in range(len(rendering.text.documents)):
        rows.append(branched_row(rendering, segment, whole, variants))
        rows.append(_plain_row(plain, segment, columns, whole))
    return [row for row in rows if len(row.targets)]


def whole_spans(text: Text) -> Bool:
    """Which spans lie whole in one segment: bool `[n_spans]`."""
    whole = np.zeros(len(text.of_spans), bool)
    whole[text.whole_spans()] = True
    return whole


def _plain_row(plain: Rendering, segment: int, columns: Columns, whole: Bool) -> Row:
    text = plain.text
    begin, end = text.segments[segment], text.segments[segment + 1]
    ids, spans = text.tokens[begin:end].astype(np.int64), text.spans[begin:end]
    at = np.arange(len(ids))
    counted = at[(at > 0) & (spans >= 0) & whole[spans]]
    return Row(
        ids=ids,
        positions=at,
        main=at,
        branch=np.zeros_like(at),
        predictors=counted - 1,
        targets=ids[counted],
        spans=spans[counted],
        columns=np.full(len(counted), columns.plain),
    )


def branched_row(rendering: Rendering, segment: int, whole: Bool, variants: Variants) -> Row:
    """A segment with its tags, and a branch for each of its whole spans and each other choice of tags before it.

    Args:
        rendering: the text with its tags.
        segment: which.
        whole: bool `[n_spans]`, the spans that have branches.
        variants: gives, for a span and its tags, the columns of the result, each with the tags that it is of; None: its
            own.
    """
    text = rendering.text
    begin, end = text.segments[segment], text.segments[segment + 1]
    spans = text.spans[begin:end]
    ids, _, positions, _ = rendering.segments(np.array([segment]))
    heads = np.append(True, spans[1:] != spans[:-1]) & (spans >= 0)
    place = np.arange(len(spans)) + np.cumsum(np.where(heads, (rendering.tags[spans] != NONE).sum(axis=1), 0))
    at = np.arange(len(ids))
    pieces: list[tuple[Int64, ...]] = [(ids, positions, at, np.zeros_like(at))]
    gathered: list[tuple[Int64, ...]] = []
    length, branch = len(ids), 0
    for head in np.flatnonzero(heads & whole[spans]):
        span = int(spans[head])
        body = np.flatnonzero(spans == span)
        tags = rendering.tags[span][rendering.tags[span] != NONE]
        start = int(place[head]) - len(tags)
        counted = body > 0
        where = place[body[counted]]
        targets, of = ids[where], np.full(len(where), span)
        for column, other in variants(span, tags):
            columns = np.full(len(where), column)
            if other is None:
                gathered.append((where - 1, targets, of, columns))
                continue
            tokens = np.concatenate([other, ids[place[body]]]).astype(np.int64)
            branch += 1
            n = len(tokens)
            pieces.append((tokens, start + np.arange(n), np.full(n, start), np.full(n, branch)))
            before = length + len(other) + np.arange(len(body)) - 1
            if not len(other):
                before[0] = start - 1  # the token of the segment that stands before the span
            gathered.append((before[counted], targets, of, columns))
            length += n
    ids, positions, main, branches = (np.concatenate(column) for column in zip(*pieces, strict=True))
    empty = np.zeros(0, np.int64)
    predictors, targets, of_spans, of_columns = (
        np.concatenate(column) for column in zip((empty,) * 4, *gathered, strict=True)
    )
    return Row(
        ids=ids,
        positions=positions,
        main=main,
        branch=branches,
        predictors=predictors,
        targets=targets,
        spans=of_spans,
        columns=of_columns,
    )


def replaced(tags: Int32, families: Sequence[TagFamily], family: int, state: int) -> Int32:
    """The tags before a span, with that of one family replaced, added where its family has its place, or left out."""
    order = {token: k for k, one in enumerate(families) for token in one.ids}
    new = [] if state == 0 else [families[family].ids[state - 1]]
    there = tags.tolist()
    own = [i for i, token in enumerate(there) if order[token] == family]
    at = own[0] if own else next((i for i, token in enumerate(there) if order[token] > family), len(there))
    return np.array([*there[:at], *new, *there[at + len(own) :]], np.int32)


def batches(rows: Sequence[Row], tokens: int = BATCH_TOKENS) -> Iterator[list[Row]]:
    """Rows of about one length together, with at most so many padded tokens; a longer row goes alone."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if batch and (len(batch) + 1) * len(row.ids) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def allowed(segments: torch.Tensor) -> torch.Tensor:
    """The mask of packed windows: a token sees its segment up to itself. bool `[windows, 1, width, width]`.

    Args:
        segments: int64 `[windows, width]`, -1 for padding, which sees padding.
    """
    width = segments.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    return ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]


def _branch_mask(main: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
    """Which tokens a token sees: those of its own branch up to itself, and of the segment what stands before the span.

    Args:
        main: int64 `[rows, width]`, as `Row` has it.
        branch: int64 `[rows, width]`; -1 for padding.
    """
    width = main.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=main.device).tril()
    same = (branch[:, :, None] == branch[:, None, :]) & causal
    before = (branch[:, None, :] == 0) & (branch[:, :, None] > 0) & (main[:, None, :] < main[:, :, None])
    return (same | before)[:, None]


@torch.no_grad()
def likelihoods(model: Any, rows: Sequence[Row], n_spans: int, columns: Columns) -> Float64:
    """Log-likelihoods, in nats: float64 `[n_spans, columns]`; NaN for spans that no row has.

    Each token's is given those before it, and given that it is no tag.

    Args:
        model: a causal model of Transformers, which takes a mask of four dimensions.
        rows: from `rows_of`.
        n_spans: how many spans the text has.
        columns: of the result. The tags of their families get no probability.
    """
    shape = (n_spans, columns.plain + 1)
    sums, counts = np.zeros(shape), np.zeros(shape, np.int64)
    tags = torch.tensor([token for family in columns.families for token in family.ids], device=model.device)
    model.eval()
    for batch in batches(rows):
        chosen = predictions(model, batch).index_fill(1, tags, -torch.inf)
        targets, *where = (np.concatenate([getattr(row, name) for row in batch]) for name in TARGETS)
        lost = torch.nn.functional.cross_entropy(chosen, torch.from_numpy(targets).to(chosen.device), reduction="none")
        np.subtract.at(sums, tuple(where), lost.double().cpu().numpy())
        np.add.at(counts, tuple(where), 1)
    return np.where(counts > 0, sums, np.nan)


def predictions(model: Any, batch: Sequence[Row]) -> torch.Tensor:
    """The logits in front of all targets of some rows, row after row: float32 `[targets, vocabulary]`."""
    width = max(len(row.ids) for row in batch)
    ids, positions, main, branch = (
        _padded([getattr(row, name) for row in batch], width, filling, model.device)
        for name, filling in (("ids", 0), ("positions", 0), ("main", 0), ("branch", NONE))
    )
    logits = model(input_ids=ids, position_ids=positions, attention_mask=_branch_mask(main, branch)).logits
    of_row = np.repeat(np.arange(len(batch)), [len(row.targets) for row in batch])
    places = np.concatenate([row.predictors for row in batch])
    found: torch.Tensor = logits[tuple(torch.from_numpy(each).to(logits.device) for each in (of_row, places))]
    return found.float()


def _padded(arrays: Sequence[Int64], width: int, filling: int, device: Any) -> torch.Tensor:
    padded = np.full((len(arrays), width), filling, np.int64)
    for i, array in enumerate(arrays):
        padded[i, : len(array)] = array
    return torch.from_numpy(padded).to(device)
