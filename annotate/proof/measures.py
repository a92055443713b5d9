"""What the checkpoints of all arms say together: the metrics of a family of tags, paired between arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate.proof.discrimination import margin_interval, matched_auroc, pairs_in_strata
from annotate.proof.gaps import (
    above_chance,
    contrasted,
    entropy,
    firsts,
    gains,
    likelihood_ratios,
    losses_added,
    swap_accuracy,
    swap_gaps,
)
from annotate.proof.intervals import Bool, Float64, Int64, Interval, detectable, mean_interval, ratio_interval
from annotate.proof.sharpening import Sharpening, sharpening
from annotate.proof.windows import TagFamily


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The spans that are measured, in the order of the text.

    Attributes:
        documents: int64 `[n]`, the document of each.
        tokens: int64 `[n]`, how many tokens of it count.
        states: int64 `[n]`, its tag in the family, from 1; 0 for none.
        random: int64 `[n]`, the tags of other spans: a model that has learned tags does worse with these (control ii).
    """

    documents: Int64
    tokens: Int64
    states: Int64
    random: Int64


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A likelihood ratio as a classifier of one tag (metric 3), at the last checkpoint.

    Attributes:
        true: AUROC of the models that were trained with true tags, mean over seeds.
        shuffled: of those that were trained with shuffled tags.
        margin: true less shuffled, in pairs of equal seed.
    """

    true: float
    shuffled: float
    margin: Interval


@dataclass(frozen=True, kw_only=True)
class OfTag:
    """One tag at the last checkpoint.

    Attributes:
        name: of the tag.
        spans: how many measured spans have it.
        gap: swap gap of its spans, true less shuffled, nats a span.
        shows: the smallest such gap that this many documents show.
        auroc: of sums over tokens; `per_token`: of means; `matched`: of sums, among spans of equal length.
        pairs: how many pairs of spans of equal length there are.
        bag_of_words: AUROC of the unigram model, among spans of equal length.
        above_bag_of_words: by how much the models with true tags are above it.
    """

    name: str
    spans: int
    gap: Interval
    shows: float
    auroc: Ratio
    per_token: Ratio
    matched: Ratio
    pairs: int
    bag_of_words: float
    above_bag_of_words: Interval


@dataclass(frozen=True, kw_only=True)
class AtStep:
    """A checkpoint. Gaps and gains are in nats a span; those of the control are called `shuffled`.

    Attributes:
        step: of training.
        true: swap gap of the models with true tags.
        shuffled: of the control.
        difference: of both, in pairs.
        accuracy: share of spans that are likelier under their own tag, each tag weighted alike.
        accuracy_shuffled: the same of the control.
        auroc: mean over seeds and tags.
        auroc_shuffled: the same of the control.
        gain: own tag less none; None where it means nothing.
        gain_shuffled: of the control: what a tag tells by standing there, such as that a span begins.
        gain_difference: of both, in pairs: what is left for the tag to mean.
        share_of_bound: `gain_difference` as a share of H(Y).
    """

    step: int
    true: Interval
    shuffled: Interval
    difference: Interval
    accuracy: float
    accuracy_shuffled: float
    auroc: float
    auroc_shuffled: float
    gain: Interval | None
    gain_shuffled: Interval | None
    gain_difference: Interval | None
    share_of_bound: float | None


@dataclass(frozen=True, kw_only=True)
class OfFamily:
    """What was measured of a family of tags.

    Attributes:
        tags: of the family.
        entropy: H(Y) of the tags of measured spans, nats.
        steps: each checkpoint.
        sharpening: of the swap gap, true less shuffled.
        control: of the swap gap of the shuffled arm: one that rises has found a cue.
        random_tags: swap gap of the models with true tags, by tags of other spans (control ii), less what tags drawn
            by their shares would give: `above_chance`. 0 is expected.
        of_tags: each tag, at the last checkpoint.
    """

    tags: tuple[str, ...]
    entropy: float
    steps: tuple[AtStep, ...]
    sharpening: Sharpening | None
    control: Sharpening | None
    random_tags: Interval
    of_tags: tuple[OfTag, ...]


def measure_family(
    family: TagFamily,
    spans: Measured,
    steps: Int64,
    likelihoods: Mapping[str, Float64],
    bag_of_words: Float64,
    *,
    left_out: bool,
) -> OfFamily:
    """Measure a family of tags.

    Args:
        family: which.
        spans: what is known of the measured spans.
        steps: int64 `[checkpoints]`.
        likelihoods: by arm, "true" and "shuffled": float64 `[checkpoints, seeds, n, states]`, equal seeds in one place.
        bag_of_words: float64 `[n, states]`, of the unigram model.
        left_out: whether spans without a tag are spans whose tag was left out by chance. Else there is no gain.
    """
    true, control = likelihoods["true"], likelihoods["shuffled"]
    gaps = {name: _per_span(values, spans.states, swap_gaps) for name, values in likelihoods.items()}
    difference = gaps["true"] - gaps["shuffled"]
    several = len(steps) > 1
    return OfFamily(
        tags=family.names,
        entropy=entropy(spans.states[spans.states > 0] if left_out else spans.states),
        steps=tuple(
            _at_step(int(step), k, spans, likelihoods, gaps, left_out=left_out) for k, step in enumerate(steps)
        ),
        sharpening=sharpening(steps, difference, spans.documents) if several else None,
        control=sharpening(steps, gaps["shuffled"], spans.documents) if several else None,
        random_tags=mean_interval(_per_span(true[-1:], spans.random, above_chance)[0], spans.documents),
        of_tags=tuple(
            _of_tag(name, state, spans, difference[-1], true[-1], control[-1], bag_of_words)
            for state, name in enumerate(family.names, start=1)
        ),
    )


def _per_span(values: Float64, states: Int64, function: Any) -> Float64:
    """Apply a function of `[n, states]` to each checkpoint and seed: float64 `[checkpoints, seeds, n]`."""
    return np.stack([np.stack([function(of_seed, states) for of_seed in at]) for at in values])


def _at_step(
    step: int,
    k: int,
    spans: Measured,
    likelihoods: Mapping[str, Float64],
    gaps: Mapping[str, Float64],
    *,
    left_out: bool,
) -> AtStep:
    accuracy = {name: float(np.mean([swap_accuracy(each, spans.states) for each in gaps[name][k]])) for name in gaps}
    auroc = {name: _mean_auroc(values[k], spans) for name, values in likelihoods.items()}
    gain = gain_shuffled = gain_difference = None
    if left_out:
        own, other = (_per_span(likelihoods[name][k : k + 1], spans.states, gains)[0] for name in ("true", "shuffled"))
        gain, gain_shuffled, gain_difference = (
            mean_interval(values, spans.documents) for values in (own, other, own - other)
        )
    return AtStep(
        step=step,
        true=mean_interval(gaps["true"][k], spans.documents),
        shuffled=mean_interval(gaps["shuffled"][k], spans.documents),
        difference=mean_interval(gaps["true"][k] - gaps["shuffled"][k], spans.documents),
        accuracy=accuracy["true"],
        accuracy_shuffled=accuracy["shuffled"],
        auroc=auroc["true"],
        auroc_shuffled=auroc["shuffled"],
        gain=gain,
        gain_shuffled=gain_shuffled,
        gain_difference=gain_difference,
        share_of_bound=None
        if gain_difference is None
        else gain_difference.value / entropy(spans.states[spans.states > 0]),
    )


def _mean_auroc(values: Float64, spans: Measured) -> float:
    """The mean over seeds and tags."""
    counted, columns = _counted(spans, values.shape[-1])
    tags = [state for state in columns if state]
    return float(
        np.mean(
            [
                matched_auroc(likelihood_ratios(each, t)[counted], spans.states[counted] == t)
                for each in values
                for t in tags
            ]
        )
    )


def _counted(spans: Measured, states: int) -> tuple[Bool, range]:
    """The spans that are compared, and the columns."""
    columns = contrasted(states)
    return np.isin(spans.states, np.array(columns)), columns


def _of_tag(
    name: str,
    state: int,
    spans: Measured,
    difference: Float64,
    true: Float64,
    control: Float64,
    bag_of_words: Float64,
) -> OfTag:
    own = spans.states == state
    counted, _ = _counted(spans, true.shape[-1])
    labels, documents, tokens = own[counted], spans.documents[counted], spans.tokens[counted]
    ratios = {
        name: np.stack([likelihood_ratios(each, state)[counted] for each in values])
        for name, values in (("true", true), ("shuffled", control))
    }
    words = likelihood_ratios(bag_of_words, state)[counted]

    def ratio(by: Float64 | None = None, strata: Int64 | None = None) -> Ratio:
        scaled = {name: values if by is None else values / by for name, values in ratios.items()}
        means = [
            float(np.mean([matched_auroc(each, labels, strata) for each in scaled[name]]))
            for name in ("true", "shuffled")
        ]
        margin = margin_interval(scaled["true"], scaled["shuffled"], labels, documents, strata=strata)
        return Ratio(true=means[0], shuffled=means[1], margin=margin)

    of_own = np.where(own, difference, np.nan)
    repeated = np.repeat(words[None], len(true), axis=0)
    return OfTag(
        name=name,
        spans=int(own.sum()),
        gap=mean_interval(of_own, spans.documents),
        shows=detectable(of_own, spans.documents),
        auroc=ratio(),
        per_token=ratio(by=np.maximum(1, tokens).astype(np.float64)),
        matched=ratio(strata=tokens),
        pairs=pairs_in_strata(labels, tokens),
        bag_of_words=matched_auroc(words, labels, tokens),
        above_bag_of_words=margin_interval(ratios["true"], repeated, labels, documents, strata=tokens),
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Metric 7, nats a token of untagged text: how much less likely it is for models that were trained with tags.

    `first_spans` is of the first span of each document, before which nothing stands (arXiv 2504.17562: short prompts).
    `seeds`: how many pairs of models of equal seed were compared. With one, the intervals are of documents only.
    """

    seeds: int

    all_spans: Interval
    first_spans: Interval


def measure_cost(tagged: Float64, plain: Float64, documents: Int64, tokens: Int64) -> Cost:
    """Compare untagged text under both kinds of models, at the last checkpoint.

    Args:
        tagged: float64 `[seeds, n]`, log-likelihoods without tags by models that were trained with true tags.
        plain: float64 `[seeds of these, n]`, by models that were trained without, in the same order of seeds.
        documents: int64 `[n]`.
        tokens: int64 `[n]`, how many tokens of each span count.
    """
    lost, first = losses_added(tagged, plain), firsts(documents)
    return Cost(
        seeds=len(lost),
        all_spans=ratio_interval(lost, tokens.astype(np.float64), documents),
        first_spans=ratio_interval(lost[:, first], tokens[first].astype(np.float64), documents[first]),
    )
