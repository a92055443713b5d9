"""Text that is not trained on: which documents, and which of them are in the text of training too (metric 16)."""

from __future__ import annotations

import numpy as np

from annotate.proof.intervals import Bool, Float64, Int64
from annotate.proof.windows import NONE, Text
from annotate.randomness import keyed_hash, name_key, uniform

SHINGLE = 8  # tokens
SHARED = 0.5  # a document with a larger share of shingles that occur in training is left out


def drawn(documents: Int64, share: float, *, seed: int) -> Bool:
    """Which documents are held out, for shards that have no subset for evaluation: bool, the shape of `documents`."""
    return uniform(keyed_hash(seed, name_key("proof: held out"), documents)) < share


def shared_shingles(held: Text, trained: Text) -> Float64:
    """The share of 8-token shingles of each held-out segment that occur in the text of training: float64 `[segments]`.

    NaN for a segment that is too short to have one.
    """
    own, of_segment = _shingles(held)
    known = np.isin(own, np.unique(_shingles(trained)[0]))
    n = len(held.documents)
    found, of = np.bincount(of_segment, weights=known, minlength=n), np.bincount(of_segment, minlength=n)
    return np.divide(found, of, out=np.full(n, np.nan), where=of > 0)


def checked(held: Text, trained: Text) -> tuple[Int64, Int64]:
    """Check held-out documents against the text of training.

    A document is in training if one of its segments has more than half of its shingles there. A document of one
    segment that is too short for a shingle is, if training has the same segment. Short segments beside longer ones are
    not looked at. So these are not found: a copy of a short document that a window of training cuts, and a copy of less
    than half of a segment.

    Args:
        held: held-out text.
        trained: the text of training.

    Returns:
        The documents that are in training, and those that could not be checked, since windows cut them into segments
        that are all too short: int64 `[n]` each, rising.
    """
    shares = shared_shingles(held, trained)
    short = np.isnan(shares)
    alone = short & ~np.isin(held.documents, held.documents[~short])
    _, at, pieces = np.unique(held.documents, return_inverse=True, return_counts=True)
    cut = alone & (pieces[at] > 1)
    same = np.zeros(len(shares), bool)
    same[short] = np.isin(_short_segments(held), _short_segments(trained))
    there = (shares > SHARED) | (alone & same & ~cut)
    return np.unique(held.documents[there]), np.unique(held.documents[cut])


def _short_segments(text: Text) -> Int64:
    """The hash of each segment that is too short for a shingle, in order."""
    sizes = np.diff(text.segments)
    short = np.flatnonzero(sizes < SHINGLE)
    at = text.segments[short][:, None] + np.arange(SHINGLE - 1)
    inside = np.arange(SHINGLE - 1) < sizes[short][:, None]
    padded = np.where(inside, np.append(text.tokens, NONE)[np.where(inside, at, -1)], NONE)
    return keyed_hash(0, *padded.T).view(np.int64)


def _shingles(text: Text) -> tuple[Int64, Int64]:
    """The hash of each run of `SHINGLE` tokens within a segment, and the segment of each."""
    n = max(0, len(text.tokens) - SHINGLE + 1)
    of_segment = np.repeat(np.arange(len(text.documents)), np.diff(text.segments))
    columns = [text.tokens[i : i + n] for i in range(SHINGLE)]
    within = of_segment[:n] == of_segment[SHINGLE - 1 : SHINGLE - 1 + n]
    return keyed_hash(0, *columns).view(np.int64)[within], of_segment[:n][within]


def chosen_segments(text: Text, spans: int, *, seed: int) -> Bool:
    """Segments with about so many spans in all: whole documents, drawn by hash. bool `[n_segments]`."""
    documents = np.unique(text.documents)
    order = documents[np.argsort(keyed_hash(seed, name_key("proof: measured"), documents), kind="stable")]
    of_document = np.bincount(text.of_spans.documents, minlength=int(documents.max(initial=0)) + 1)
    enough = int(np.searchsorted(np.cumsum(of_document[order]), spans)) + 1
    return np.isin(text.documents, order[:enough])
