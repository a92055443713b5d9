"""How log-odds follow from spans under a tag, and from its direction."""

from __future__ import annotations

import dataclasses

import numpy as np

from annotate.directions.divergence import span_log_likelihoods
from annotate.directions.measures import RANDOM, Additivity, additivity, of_equal_norm
from annotate.directions.progress import Progress, Tell
from annotate.directions.readings import Readings
from annotate.directions.steering import Additions
from annotate.directions.subject import added
from annotate.models.base import FloatArray

COUNTS = 4
"""0 to 3 spans are under the tags."""


def log_odds(readings: Readings, own: tuple[str, ...], vectors: FloatArray, layer: int, tell: Tell) -> Additivity:
    """How the log-odds of a span with the tag follow from spans under the tags, and from the direction.

    The log-odds are the mean log-likelihood a token of spans that have the tag, less that of spans that don't: a token,
    since whatever disturbs a model costs long spans more. Only the fourth span of a document is looked at, so that it
    and up to two before it can be under the tags. Tags that stand once for a whole document have no such number.
    """
    subject, texts = readings.subject, readings.parts.measuring
    row = texts.documents
    place = np.arange(len(row)) - np.searchsorted(row, row)
    sides = [which & (place == COUNTS - 1) for which in texts.sides(own, readings.against)]
    trained = subject.reader.trained
    counts = range(COUNTS) if trained is not None and set(own) <= trained.every_span else range(1)
    grid = [(count, weight) for count in counts for weight in (0.0, *subject.weights)]
    drawn = of_equal_norm(vectors, RANDOM, seed=subject.seed)
    progress = Progress(tell, f"log-odds of spans in {len(texts.spans)} documents, steered and under tags")
    done, of = 0, len(grid) - 1 + len(drawn) * len(subject.weights)

    def odds(count: int, steering: Additions) -> float:
        nonlocal done
        chosen = (place < COUNTS) & (place >= COUNTS - count)
        values = readings.likelihoods
        if count or steering:
            rows = subject.reader.under(texts, own, chosen=chosen) if count else subject.reader.untagged(texts)
            values = span_log_likelihoods(subject.model, rows, len(row), steering, banned=subject.banned)
            progress.at(done := done + 1, of)
        means = [np.nanmean(values[which]) if np.isfinite(values[which]).any() else np.nan for which in sides]
        return float(means[0] - means[1])

    found = additivity(
        np.array([count for count, _ in grid], np.float64),
        np.array([weight for _, weight in grid]),
        np.array([odds(count, added(vectors, layer, weight)) for count, weight in grid]),
    )
    weights = np.array([0.0, *subject.weights])
    random = [
        additivity(
            np.zeros(len(weights)), weights, np.array([odds(0, added(each, layer, w)) for w in weights.tolist()])
        )
        for each in drawn
    ]
    return dataclasses.replace(found, b_random=max(abs(each.b) for each in random))
