"""What the measures mean, in words: learned, not learned, or can't tell at this size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from annotate.amounts import counted
from annotate.proof.intervals import LEAST, Interval
from annotate.proof.judged import HIGHEST_OF, Judged
from annotate.proof.markdown import shown
from annotate.proof.measures import OfFamily, OfTag

Outcome = Literal["learned", "not learned", "can't tell at this size"]
SMALLEST = 0.05
"""The share of H(Y) below which a swap gap counts as none."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On one tag: the outcome, and the reason in a sentence or two."""

    tag: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Something that was to be shown: what, whether it was (None: it could not be measured), and the figure."""

    what: str
    passed: bool | None
    figure: str


def verdict(of: OfTag, family: OfFamily) -> Verdict:
    """Judge a tag by its swap gap and by its AUROC among spans of equal length, both against the control.

    - Learned: the intervals of both are above 0.
    - Not learned: the interval of the gap is not above 0, and its upper end is below 5 % of H(Y).
    - Can't tell: neither. More documents or more training would tell.
    """
    if math.isnan(of.gap.value):
        few = f"{counted(of.spans, 'span')} with the tag, in fewer than {LEAST} documents: nothing could be measured."
        return Verdict(tag=of.name, outcome="can't tell at this size", reason=few)
    gap, margin = of.gap, of.matched.margin
    said = f"swap gap {gap.value:+.3f} nats a span above the control [{gap.low:+.3f}, {gap.high:+.3f}]"
    size = f"{of.spans:,} spans show a gap of {of.shows:.3f} or more"
    limit = SMALLEST * family.entropy
    if gap.above_zero and margin.above_zero:
        return Verdict(tag=of.name, outcome="learned", reason=f"{said}. {_beside_words(of)}")
    if gap.low <= 0 and gap.high < limit:
        less = f"{said}: less than {limit:.3f}, 5 % of H(Y). {size}."
        return Verdict(tag=of.name, outcome="not learned", reason=less)
    if gap.above_zero:
        if math.isnan(margin.value):
            said += f", but AUROC at equal length needs {LEAST} documents with the tag and {LEAST} without"
        else:
            said += (
                f", but AUROC at equal length is {margin.value:+.3f} above it [{margin.low:+.3f}, {margin.high:+.3f}]"
            )
    return Verdict(tag=of.name, outcome="can't tell at this size", reason=f"{said}. {size}.")


def _beside_words(of: OfTag) -> str:
    """How the models compare with the bag of words."""
    above = of.above_bag_of_words
    figures = f"AUROC {of.bag_of_words:.2f}, the models {of.matched.true:.2f}, at equal length"
    if above.above_zero:
        return "It is more than a bag of words finds."
    if above.high < 0:
        return f"A bag of words does better ({figures}): only lexical cues are shown."
    return (
        f"It can't be told apart from what a bag of words finds ({figures}; the models are {above.value:+.2f} above it "
        f"[{above.low:+.2f}, {above.high:+.2f}]): more than lexical cues is not shown."
    )


def _above_zero(interval: Interval) -> bool | None:
    """None if nothing could be measured."""
    return None if math.isnan(interval.value) else interval.above_zero


def gates(family: OfFamily) -> list[Gate]:
    """What a proof has to show of a family, and whether it did."""
    last, sharp = family.steps[-1].difference, family.sharpening
    tags = " ".join(f"<{name}>" for name in family.tags)
    found = [
        Gate(
            what=f"{tags}: swap gap, true less shuffled: interval above 0",
            passed=_above_zero(last),
            figure=f"{shown(last)} nats a span",
        )
    ]
    if sharp is not None:
        grown = sharp.last_less_first
        found.append(
            Gate(
                what=f"{tags}: the same is larger at the last checkpoint than at the first: interval above 0",
                passed=_above_zero(grown),
                figure=shown(grown),
            )
        )
    for of in family.of_tags:
        margin = of.matched.margin
        found.append(
            Gate(
                what=f"<{of.name}>: AUROC among spans of equal length, true less shuffled: interval above 0",
                passed=_above_zero(margin),
                figure=f"{shown(margin)}, {of.pairs:,} pairs",
            )
        )
    return found


def written_remarks(found: Judged) -> list[str]:
    """What a reader of a judge's scores should not miss."""
    said = []
    texts, spans = found.left_out
    if texts or spans:
        said.append(
            f"{counted(texts, 'text')} of each tag and model and {counted(spans, 'held-out span')} left out of what "
            "the judge says: it gave no score, of texts to one of that number at least"
        )
    few = [f"<{tag.name}>" for family in found.families for tag in family.tags if math.isnan(tag.corpus.value)]
    if few:
        said.append(
            f"what the judge says of held-out spans is not compared for {', '.join(few)}: fewer than {LEAST} held-out "
            "documents have the tag, or one that it is compared with"
        )
    blind = [
        f"<{tag.name}>"
        for family in found.families
        for tag in family.tags
        if tag.fidelity is None and not math.isnan(tag.corpus.value)
    ]
    if blind:
        said.append(
            f"the judge ({found.judge}) does not tell the held-out spans of {', '.join(blind)} apart from those of "
            "other tags: it can't tell either whether texts under them are as they should be"
        )
    if found.texts < LEAST:
        said.append(
            f"{counted(found.texts, 'text')} of each tag are too few to measure a difference: {LEAST} are needed"
        )
    if found.texts < HIGHEST_OF:
        said.append(f"of {counted(found.texts, 'text')} the expected highest of {HIGHEST_OF} is not known: --texts")
    return said


def remarks(family: OfFamily) -> list[str]:
    """What a reader should not miss."""
    said = []
    if family.control is not None and family.control.per_doubling.above_zero:
        grown = family.control.per_doubling
        said.append(
            f"the control rises: {grown.value:+.3f} nats a span for each doubling of steps [{grown.low:+.3f}, "
            f"{grown.high:+.3f}]. Something besides the tags tells of them: find it before you trust the rest"
        )
    if any((step.share_of_bound or 0) > 1 for step in family.steps):
        said.append(
            "the gain, true less shuffled, is above its bound H(Y): spans without a tag are badly modelled, so it "
            "measures nothing here"
        )
    return said
