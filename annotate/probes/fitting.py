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
"""From so many sources on, sources that are left out have a say in the penalty."""


ROUGH = 1e-7
"""Tolerance of heads that are only compared."""


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

    def fit(
        self,
        rows: BoolVector,
        penalties: Sequence[float],
        start: LinearHead | None = None,
        tolerance: float = 1e-12,
    ) -> list[LinearHead]:
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
            tolerance=tolerance,
        )

    def choose(self) -> LinearHead:
        """The head of the fitting part, with the penalty that the training spans choose.

        With `CARRIED` sources or more it is the one whose heads rank best what they did not see: half of it the
        validation part of each source, half of it each source by a head of the others; by the mean AUROC, where ratings
        above the middle count as yes. They are tried from the strongest on, to the first that is no better than the one
        before. With fewer sources it is the penalty of the smallest cross-entropy on the validation part.
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
        """The penalty that carries best, as `choose` says; None where there are too few sources."""
        spans = self.spans
        own = [spans.train & (spans.sources == source) for source in np.unique(spans.sources[spans.train])]
        own = [rows for rows in own if self._both(rows) and self._both(rows & spans.validation)]
        if len(own) < CARRIED:
            return None
        left_out: list[LinearHead | None] = [None] * len(own)
        best, chosen, head = 0.0, PENALTIES[0], None
        for penalty in PENALTIES:
            head = self.fit(spans.fitting, [penalty], head, ROUGH)[0]
            found = [self._auroc(head, rows & spans.validation) for rows in own]
            for i, rows in enumerate(own):
                left_out[i] = other = self.fit(spans.train & ~rows, [penalty], left_out[i], ROUGH)[0]
                found.append(self._auroc(other, rows))
            if np.mean(found) <= best:
                break
            best, chosen = float(np.mean(found)), penalty
        return chosen

    def _both(self, rows: BoolVector) -> bool:
        """Whether some rows have labels of both kinds."""
        yes = self.spans.targets[rows] > 0.5
        return bool(yes.any() and not yes.all())

    def _auroc(self, head: LinearHead, rows: BoolVector) -> float:
        return auroc(head.scores(self.features[rows]), self.spans.targets[rows] > 0.5)
