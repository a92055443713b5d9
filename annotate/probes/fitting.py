"""Fits linear heads to labelled spans, and chooses the strength of the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annotate.models.base import FloatArray
from annotate.probes.labels import BoolVector, LabelledSpans
from annotate.probes.linear_head import PENALTIES, LinearHead, cross_entropy, fit_path
from annotate.probes.metrics import auroc

CARRIED = 3
"""From so many sources on, the penalty is the one whose heads do best on sources that were left out."""


@dataclass(frozen=True, kw_only=True)
class ReadSpans:
    """Labelled spans, and what a head reads of them.

    Attributes:
        spans: `n` labelled spans.
        features: float32 `[n, blocks * width + words]`.
        blocks: number of pooled hidden states.
        words: number of features of listed words.
    """

    spans: LabelledSpans
    features: FloatArray
    blocks: int
    words: int

    def fit(self, rows: BoolVector, penalties: Sequence[float], start: LinearHead | None = None) -> list[LinearHead]:
        """Fit a head to some rows, for each penalty."""
        spans = self.spans
        return fit_path(
            self.features[rows],
            spans.targets[rows],
            spans.sources[rows],
            spans.weights[rows],
            blocks=self.blocks,
            words=self.words,
            penalties=penalties,
            start=start,
        )

    def choose(self) -> LinearHead:
        """The head of the fitting part, with the penalty that the training spans choose.

        With `CARRIED` sources or more it is the one whose heads rank the spans of a source best that they were not
        fitted to, in the mean over sources: by the AUROC, where ratings above the middle count as yes. They are tried
        from the strongest on, to the first that is no better than the one before. With fewer sources it is the penalty
        of the smallest cross-entropy on the validation part.
        """
        spans = self.spans
        if (penalty := self._carried()) is not None:
            return self.fit(spans.fitting, [penalty])[0]
        rows = spans.validation
        path = self.fit(spans.fitting, PENALTIES)
        losses = [
            cross_entropy(
                head.scores(self.features[rows]),
                spans.targets[rows],
                spans.sources[rows],
                spans.weights[rows],
                head.offsets,
            )
            for head in path
        ]
        return path[int(np.argmin(losses))]

    def _carried(self) -> float | None:
        """The penalty whose heads carry best to sources that are left out; None where there are too few sources."""
        spans = self.spans
        yes = spans.targets > 0.5
        left_out = [spans.train & (spans.sources == source) for source in np.unique(spans.sources[spans.train])]
        left_out = [own for own in left_out if 0 < yes[own].sum() < own.sum()]
        if len(left_out) < CARRIED:
            return None
        heads: list[LinearHead | None] = [None] * len(left_out)
        best, chosen = 0.0, PENALTIES[0]
        for penalty in PENALTIES:
            found = []
            for i, own in enumerate(left_out):
                head = self.fit(spans.train & ~own, [penalty], heads[i])[0]
                found.append(auroc(head.scores(self.features[own]), yes[own]))
                heads[i] = head
            if np.mean(found) <= best:
                break
            best, chosen = float(np.mean(found)), penalty
        return chosen
