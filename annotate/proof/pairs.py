"""Two tags of two families before one span: whether their effects add up, and whether a new pair is understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotate.proof.arms import SHUFFLED, TRUE, has_both
from annotate.proof.axes import Composition, composition
from annotate.proof.gaps import swap_gaps
from annotate.proof.intervals import LEAST, Float64, Int64, Interval, mean_interval, n_documents
from annotate.proof.joint_effects import pairs_of
from annotate.proof.likelihoods import Columns
from annotate.proof.windows import Spans, TagFamily


@dataclass(frozen=True, kw_only=True)
class Composed:
    """Metric 9 of an arm, at the last checkpoint: over all tokens of spans, and over those behind the first."""

    arm: str
    all_tokens: Composition
    behind_first: Composition


@dataclass(frozen=True, kw_only=True)
class OfPair:
    """Two tags: how their effects compose.

    Attributes:
        tags: the two.
        spans: measured spans that have both.
        documents: that these are in. Of fewer than 10 nothing is measured.
        arms: how the effects compose in each.
        above_control: of the arm "true", less that of the control, in pairs of equal seed; None without either.
    """

    tags: tuple[str, str]
    spans: int
    documents: int
    arms: tuple[Composed, ...]
    above_control: Composed | None


def measure_pairs(
    families: Sequence[TagFamily], spans: Spans, kept: Int64, effects: Mapping[str, Float64]
) -> tuple[OfPair, ...]:
    """All pairs of tags of two families that a measured span has.

    Args:
        families: of tags.
        spans: all of the measured text.
        kept: int64 `[n]`, those that are measured.
        effects: by arm, of `joint_effects`: float64 `[seeds, n, pairs of families, 2, 3]`.
    """
    states = [spans.states(family)[kept] for family in families]
    documents, found = spans.documents[kept], []
    for k, (first, second) in enumerate(pairs_of(families)):
        for i, one in enumerate(families[first].names, start=1):
            for j, other in enumerate(families[second].names, start=1):
                both = (states[first] == i) & (states[second] == j)
                if both.any():
                    of_pair = {name: sums[:, both, k] for name, sums in effects.items()}
                    found.append(_of_pair((one, other), of_pair, documents[both]))
    return tuple(found)


def _of_pair(tags: tuple[str, str], effects: Mapping[str, Float64], documents: Int64) -> OfPair:
    """Of the effects on spans that have both tags, by arm: float64 `[seeds, n, 2, 3]`."""
    true, control = effects.get(TRUE.name), effects.get(SHUFFLED.name)
    return OfPair(
        tags=tags,
        spans=len(documents),
        documents=n_documents(documents),
        arms=tuple(_composed(arm, sums, None, documents) for arm, sums in effects.items()),
        above_control=None
        if true is None or control is None
        else _composed(f"{TRUE.name} less {SHUFFLED.name}", true, control, documents),
    )


def _composed(arm: str, sums: Float64, control: Float64 | None, documents: Int64) -> Composed:
    return Composed(
        arm=arm,
        all_tokens=composition(sums.sum(axis=2), documents, None if control is None else control.sum(axis=2)),
        behind_first=composition(sums[:, :, 1], documents, None if control is None else control[:, :, 1]),
    )


@dataclass(frozen=True, kw_only=True)
class Recombined:
    """One of two tags that never stood together in training: swap gaps of spans that have both, nats a span.

    All are of models of the seed that the arm "held-out pair" has; the intervals are of documents only.

    Attributes:
        tag: whose gap it is; the other tag stays.
        held_out: of the model that never saw both together.
        true: of the model that did.
        shuffled: of the control.
        above_control: `held_out` less `shuffled`, span by span.
        lost: `true` less `held_out`.
    """

    tag: str
    held_out: Interval
    true: Interval
    shuffled: Interval
    above_control: Interval
    lost: Interval


@dataclass(frozen=True, kw_only=True)
class Recombination:
    """What became of a pair of tags that never stood together in training.

    Attributes:
        tags: the pair.
        trained: spans of the text of training that had both, and lost one.
        spans: measured spans that have both.
        documents: that these are in.
        of_tags: each of the two.
        recombined: whether the gaps of both, above those of the control, have intervals above 0; None if the spans that
            have both are in fewer than 10 documents.
    """

    tags: tuple[str, str]
    trained: int
    spans: int
    documents: int
    of_tags: tuple[Recombined, ...]
    recombined: bool | None


def measure_recombination(
    pair: tuple[int, int],
    arm: str,
    trained: Spans,
    spans: Spans,
    kept: Int64,
    likelihoods: Mapping[str, Float64],
    columns: Columns,
) -> Recombination:
    """Compare the arm that never saw a pair of tags with those that did.

    Args:
        pair: the ids.
        arm: its name.
        trained: the spans of the text of training.
        spans: those of the measured text.
        kept: int64 `[n]`, those that are measured.
        likelihoods: by arm, at the last checkpoint: float64 `[seeds, n, columns]`; the first seed is compared.
        columns: of the likelihoods.
    """
    both, of_tags, names = has_both(spans, pair)[kept], [], []
    documents = spans.documents[kept]
    for token in pair:
        family = next(k for k, one in enumerate(columns.families) if token in one.ids)
        one = columns.families[family]
        states = spans.states(one)[kept]
        gaps = {
            name: np.where(both, swap_gaps(likelihoods[name][0][:, columns.of(family)], states), np.nan)
            for name in (arm, TRUE.name, SHUFFLED.name)
        }
        names.append(one.names[one.ids.index(token)])
        of_tags.append(
            Recombined(
                tag=names[-1],
                held_out=mean_interval(gaps[arm], documents),
                true=mean_interval(gaps[TRUE.name], documents),
                shuffled=mean_interval(gaps[SHUFFLED.name], documents),
                above_control=mean_interval(gaps[arm] - gaps[SHUFFLED.name], documents),
                lost=mean_interval(gaps[TRUE.name] - gaps[arm], documents),
            )
        )
    return Recombination(
        tags=(names[0], names[1]),
        trained=int(has_both(trained, pair).sum()),
        spans=int(both.sum()),
        documents=n_documents(documents[both]),
        of_tags=tuple(of_tags),
        recombined=all(each.above_control.above_zero for each in of_tags)
        if n_documents(documents[both]) >= LEAST
        else None,
    )
