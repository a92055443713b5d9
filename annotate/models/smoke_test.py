"""Before a model scores a corpus: it gives scores, and a text scores alone as it does in a padded batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.errors import ConfigError
from annotate.models.base import Backbone, FloatArray, Forward, Prepared
from annotate.models.text_model import Dtype

TEXTS = (
    "A short text.",
    "Two lines:\nthe second is a little longer than the first.",
    "What is this? It is a text of several sentences. Nothing is said in it, but it has words, commas, 12 digits and "
    "an end; with the others it makes a batch in which most rows are padded.",
)
"""Texts of different lengths, so that in a batch all but one are padded."""

TOLERANCE: dict[Dtype, tuple[float, float]] = {
    "float32": (1e-3, 0.1),
    "bfloat16": (3e-2, 0.5),
    "float16": (1e-2, 0.5),
}
"""How far apart the two scores of a text may be: a share of the largest score, and the least this is taken for.

With tiny random models of 80 kinds, where padding is masked, they were apart by a share of at most 6e-5 in float32 (one
kind; the others 1e-6), and 3e-3 in bfloat16 (8 kinds); float16 is eight times as exact. Where padding was read
it was 4e-3 to 7e-2.
"""


class TextBackbone(Backbone, Protocol):
    """A backbone that batches tokens."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def dtype(self) -> Dtype:
        """Of its layers."""
        ...

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch at most; with 1 each text is scored alone."""
        ...


def smoke_test(forward: Forward, backbone: TextBackbone, count: int) -> Forward:
    """Score a few texts alone and in one batch. What fails or differs stops the run, before it spoils scores.

    Args:
        forward: a loaded model.
        backbone: what it was loaded from; columns that it reads beside the text are null here.
        count: number of scorers that `forward` was loaded with.

    Returns:
        `forward`.

    Raises:
        ConfigError: it gives no score, or other scores in a batch.
    """
    if not count:
        return forward
    _scores(forward, _prepare(backbone, TEXTS[:1]), np.array([0, 1]), count, backbone.name)
    if backbone.batch_tokens == 1:
        return forward
    prepared = _prepare(backbone, TEXTS)
    rows = len(prepared.arrays["lengths"])
    alone = _scores(forward, prepared, np.arange(rows + 1), count, backbone.name)
    padded = _scores(forward, prepared, np.array([0, rows]), count, backbone.name)
    share, least = TOLERANCE[backbone.dtype]
    allowed = share * np.maximum(np.abs(alone).max(axis=0), least)
    apart = np.abs(alone - padded)
    if not (apart > allowed).any():
        return forward
    row, column = np.unravel_index(int((apart / allowed).argmax()), apart.shape)
    raise ConfigError(
        f"model {backbone.name!r} scores a text alone as {alone[row, column]:.6g}, and in a batch with longer ones as "
        f"{padded[row, column]:.6g}: padding reaches its scores (at most {allowed[column]:.2g} apart are allowed in "
        f"{backbone.dtype})",
        hint="check that its tokenizer's padding_side and its config's pad_token_id are those it was trained with; "
        "if it takes no notice of padding at all, set batch_tokens=1, so that each text is scored alone",
    )


def _prepare(backbone: Backbone, texts: Sequence[str]) -> Prepared:
    nothing = pa.nulls(len(texts), pa.string())
    columns = dict.fromkeys(backbone.columns, nothing) | {"text": pa.array(texts)}
    return backbone.prepare(pa.table(columns))


def _scores(forward: Forward, prepared: Prepared, bounds: npt.NDArray[np.int64], count: int, name: str) -> FloatArray:
    """Scores of all inputs, float32 `[n, count]`, in batches cut at `bounds`."""
    cut = dataclasses.replace(prepared, arrays={**prepared.arrays, "bounds": bounds.astype(np.int64)})
    scores = forward(cut, range(count))
    for one in scores:
        if one.failures:
            raise ConfigError(f"model {name!r} can't score a short text: {next(iter(one.failures.values()))}")
    return np.concatenate([one.values for one in scores], axis=1)
