"""What the training of a probe reports: how well it follows the labels that it has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from annotate.curves import Curve
from annotate.probes.file import Feature
from annotate.probes.labels import LabelledSpans
from annotate.probes.metrics import (
    auroc,
    bootstrap_interval,
    brier,
    calibration_error,
    spearman,
)

FloatVector = npt.NDArray[np.float64]

WRONG = 5
"""Spans of each kind that a report names."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measure, and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """How the scores of one source's test spans follow its labels.

    Attributes:
        name: of the source.
        measure: "auroc" for labels of 0 and 1, "spearman" for ratings.
        train: number of training spans.
        test: number of test spans.
        result: of the probe; None where the test spans have only one kind of label.
        held_out: of a probe trained on the other sources alone, with the same penalty; None where there is no other.
            The source had a say in that penalty where it is trained on, so this may be a little too kind.
    """

    name: str
    measure: Literal["auroc", "spearman"]
    train: int
    test: int
    result: Estimate | None
    held_out: Estimate | None


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """How far the probabilities of test spans are from their labels; each source counts the same.

    Sources that are only measured are left out.

    Attributes:
        kind: "platt" or "isotonic".
        labels: number of labels that the curve was fitted on.
        error_before: expected calibration error where the score is taken for a logit.
        error_after: expected calibration error of the curve.
        brier_before: mean squared error where the score is taken for a logit.
        brier_after: mean squared error of the curve.
    """

    kind: Literal["platt", "isotonic"]
    labels: int
    error_before: float
    error_after: float
    brier_before: float
    brier_after: float

    @property
    def useful(self) -> bool:
        """Whether the curve's probabilities are nearer to the labels than the score taken for a logit."""
        return self.brier_after < self.brier_before


@dataclass(frozen=True, kw_only=True)
class LengthReport:
    """How scores follow the labels among test spans of about one length.

    Attributes:
        longest: characters of the longest.
        test: number of spans.
        result: AUROC, where ratings above their source's median count as yes; None where all labels are the same.
    """

    longest: int
    test: int
    result: Estimate | None


@dataclass(frozen=True, kw_only=True)
class WrongSpan:
    """A test span on which the probe is far from the label.

    Attributes:
        text: its text.
        source: its source.
        label: as given.
        probability: of "yes", by the probe's curve.
    """

    text: str
    source: str
    label: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """What `train_probe` did.

    Attributes:
        axis: what is measured.
        path: the probe's file.
        size: of the file, in bytes.
        features: what the head reads.
        penalty: the L2 penalty that the validation spans chose.
        sources: one report a source.
        calibration: of the curve in the file.
        lengths: three reports, each of a third of the test spans, from the shortest to the longest.
        scores_with_length: correlation of the ranks of scores and of lengths in characters, of the test spans.
        labels_with_length: the same of labels. Where scores follow length and labels do not, the probe reads length.
        wrong: the test spans on which it is most wrong: those with a "no" that it finds likeliest, then those with a
            "yes" that it finds least likely.
        repeats: labelled spans left out because a test span has the same text.
        unused: labelled spans neither trained on nor measured: their source has the weight 0, and the column of splits
            says "train".
        understood: by source, a sentence: what its labels were taken for.
        contradictions: texts that a source has with different labels.
        words: by feature of listed words, what one standard deviation more of it adds to the score.
        words_left_out: listed words that the encoder's tokenizer does not know, or cuts into too many tokens.
    """

    axis: str
    path: str
    size: int
    features: tuple[Feature, ...]
    penalty: float
    sources: tuple[SourceReport, ...]
    calibration: CalibrationReport
    lengths: tuple[LengthReport, ...]
    scores_with_length: float
    labels_with_length: float
    wrong: tuple[WrongSpan, ...]
    repeats: int
    unused: int
    understood: tuple[str, ...]
    contradictions: int
    words: Mapping[str, float]
    words_left_out: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**dataclasses.asdict(self), "path": self.path}


def measure_source(spans: LabelledSpans, scores: FloatVector, source: int, *, seed: int) -> Estimate | None:
    """Measure the test spans of one source.

    Args:
        spans: the labelled spans.
        scores: float64 `[n]`, of all of them; only those of the source's test spans are read.
        source: position of the source.
        seed: of the bootstrap.
    """
    own = spans.test & (spans.sources == source)
    score, label = scores[own], spans.labels[own]
    if not spans.rated[source]:
        return _estimated(score, label == 1, seed=seed)
    if len(np.unique(label)) < 2:
        return None

    def measure(rows: npt.NDArray[np.int64]) -> float:
        return spearman(score[rows], label[rows]) if len(np.unique(label[rows])) > 1 else float("nan")

    low, high = bootstrap_interval(measure, len(label), seed=seed)
    return Estimate(value=measure(np.arange(len(label))), low=low, high=high)


def measure_calibration(
    curve: Curve, scores: FloatVector, labels: npt.NDArray[np.bool_], weights: FloatVector, fitted_on: int
) -> CalibrationReport:
    """Compare the curve with taking the score for a logit.

    Args:
        curve: what is judged.
        scores: float64 `[n]`, of the test spans.
        labels: bool `[n]`.
        weights: float64 `[n]`, what each label counts.
        fitted_on: number of labels that the curve was fitted on.
    """
    before, after = np.asarray(expit(scores), np.float64), curve.probability(scores)
    return CalibrationReport(
        kind=curve.kind,
        labels=fitted_on,
        error_before=calibration_error(before, labels, weights),
        error_after=calibration_error(after, labels, weights),
        brier_before=brier(before, labels, weights),
        brier_after=brier(after, labels, weights),
    )


def measure_lengths(spans: LabelledSpans, scores: FloatVector, *, seed: int) -> tuple[LengthReport, ...]:
    """Measure thirds of the test spans, from the shortest to the longest.

    Args:
        spans: the labelled spans.
        scores: float64 `[n]`, of all of them; only those of test spans are read.
        seed: of the bootstrap.
    """
    lengths = characters(spans)
    test = np.flatnonzero(spans.test)
    thirds = np.array_split(test[np.argsort(lengths[test], kind="stable")], 3)
    return tuple(
        LengthReport(
            longest=int(lengths[rows].max()),
            test=len(rows),
            result=_estimated(scores[rows], spans.targets[rows] > 0.5, seed=seed),
        )
        for rows in thirds
        if len(rows)
    )


def _estimated(scores: FloatVector, yes: npt.NDArray[np.bool_], *, seed: int) -> Estimate | None:
    """The AUROC and its interval."""
    if yes.all() or not yes.any():
        return None

    def measure(rows: npt.NDArray[np.int64]) -> float:
        return auroc(scores[rows], yes[rows]) if 0 < yes[rows].sum() < len(rows) else float("nan")

    low, high = bootstrap_interval(measure, len(yes), seed=seed)
    return Estimate(value=measure(np.arange(len(yes))), low=low, high=high)


def characters(spans: LabelledSpans) -> npt.NDArray[np.int64]:
    """The number of characters of each span: int64 `[n]`."""
    return np.fromiter(map(len, spans.texts), np.int64, len(spans.texts))


def most_wrong(spans: LabelledSpans, scores: FloatVector, curve: Curve) -> tuple[WrongSpan, ...]:
    """The test spans with a "no" that are likeliest by the curve, and those with a "yes" that are least likely.

    Args:
        spans: the labelled spans.
        scores: float64 `[n]`, of all of them; only those of test spans are read.
        curve: of the probe.
    """
    yes, found = spans.targets > 0.5, []
    for rows, sign in ((spans.test & ~yes, -1), (spans.test & yes, 1)):
        at = np.flatnonzero(rows)
        found += at[np.argsort(sign * scores[at], kind="stable")][:WRONG].tolist()
    probabilities = curve.probability(scores[found])
    return tuple(
        WrongSpan(
            text=spans.texts[row],
            source=spans.names[spans.sources[row]],
            label=float(spans.labels[row]),
            probability=float(probability),
        )
        for row, probability in zip(found, probabilities, strict=True)
    )
