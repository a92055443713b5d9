"""Text that is not trained on, and that shares none with the text that is (metric 16)."""

from __future__ import annotations

import numpy as np

from annotate.proof.intervals import Bool, Float64, Int64
from annotate.proof.windows import Text
from annotate.randomness import keyed_hash, name_key, uniform

SHINGLE = 8  # tokens
SHARED = 0.5  # a document with a larger share of shingles that occur in training is left out


def drawn(documents: Int64, share: float, *, seed: int) -> Bool:
    """Which documents are held out, for shards that have no subset for evaluation: bool, the shape of `documents`."""
    return uniform(keyed_hash(seed, name_key("proof: held out"), documents)) < share


def shared_shingles(held: Text, trained: Text) -> Float64:
    """The share of 8-token shingles of each held-out segment that occur in the text of training: float64 `[segments]`.

    0 for a segment that is too short to have one.
    """
    own, of_segment = _shingles(held)
    known = np.isin(own, np.unique(_shingles(trained)[0]))
    n = len(held.documents)
    found = np.bincount(of_segment, weights=known, minlength=n)
    return found / np.maximum(1, np.bincount(of_segment, minlength=n))


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
