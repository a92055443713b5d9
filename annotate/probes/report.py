"""What the training of a probe reports: how well it follows the labels that it has not seen."""

from __future__ import annotations

import dataclasses
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
        held_out: of a probe trained in the same way on the other sources alone; None where there is no other.
    """

    name: str
    measure: Literal["auroc", "spearman"]
    train: int
    test: int
    result: Estimate | None
    held_out: Estimate | None


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """How far the probabilities of the test spans are from their labels; each source counts the same.

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
        repeats: labelled spans left out because a test span has the same text.
        understood: by source, a sentence: what its labels were taken for.
        contradictions: texts that a source has with different labels.
    """

    axis: str
    path: str
    size: int
    features: tuple[Feature, ...]
    penalty: float
    sources: tuple[SourceReport, ...]
    calibration: CalibrationReport
    repeats: int
    understood: tuple[str, ...]
    contradictions: int

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
    if len(np.unique(label)) < 2:
        return None

    def measure(rows: npt.NDArray[np.int64]) -> float:
        if len(np.unique(label[rows])) < 2:
            return float("nan")
        return spearman(score[rows], label[rows]) if spans.rated[source] else auroc(score[rows], label[rows] == 1)

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
