"""How fast a model is here, on a short sample of texts that are always the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from annotate.models.base import Backbone, Forward

PROSE = """
The ferry leaves the harbour at six, before the shops are open, and crosses the bay in a little under an hour. Most of
its passengers work in the town on the other side; they read, sleep, or watch the gulls that follow the boat. In winter
the deck is empty. "You get used to the cold," says the man who sells tickets, "but never to the wind." He has kept a
record of the weather since 1987: 412 days of storm, 38 of them too rough for sailing. Last year the company bought a
second boat, which is faster and uses less fuel, and the price of a ticket went up from 3.20 to 4.50. Nobody was pleased
about that, although everyone agreed that the old engine could not have lasted much longer.
""".split()  # noqa: SIM905 - as it reads
_SHORTEST, _LONGEST = 4, 64
"""Words of a text, without its number: what sentences and paragraphs of a corpus have."""

_FIRST, _TIMES, _MOST = 8, 4, 1 << 15
"""Texts of the first sample, how much larger each next one is, and of the last."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured.

    Attributes:
        tokens_per_second: of the loaded model, padding not counted.
        prepared_per_second: tokens a second of what goes before it: tokenizing, sorting, batching. As in a worker of a
            run, which gets the tokenizer ready.
        texts: number of texts of the sample.
        tokens: their tokens.
        seconds: what the model took for them.
    """

    tokens_per_second: float
    prepared_per_second: float
    texts: int
    tokens: int
    seconds: float


def measure_speed(backbone: Backbone, forward: Forward, *, seconds: float = 0.5) -> Speed:
    """Time a loaded model on samples that grow until one takes `seconds`.

    Args:
        backbone: what it was loaded from; other columns than the text are null.
        forward: the loaded model, with one scorer or more.
        seconds: see above. The whole takes at most about five times as long; or twice what eight texts take, if that is
            longer.
    """
    reading = backbone.reading()
    _timed(backbone, forward, _FIRST, reading)  # the first batches of a process are slow
    texts = _FIRST
    while (speed := _timed(backbone, forward, texts, reading)).seconds < seconds and texts < _MOST:
        texts *= _TIMES
    return speed


def _timed(backbone: Backbone, forward: Forward, texts: int, reading: Any) -> Speed:
    columns = dict.fromkeys(backbone.columns, pa.nulls(texts, pa.string())) | {"text": pa.array(sample(texts))}
    spans = pa.table(columns)
    started = time.perf_counter()
    prepared = backbone.prepare(spans, reading)
    before = time.perf_counter()
    forward(prepared, [0])
    taken = time.perf_counter() - before
    return Speed(
        tokens_per_second=prepared.tokens / taken,
        prepared_per_second=prepared.tokens / max(before - started, 1e-9),
        texts=texts,
        tokens=prepared.tokens,
        seconds=taken,
    )


def sample(texts: int) -> list[str]:
    """Different texts: a number and 4 to 64 words."""
    double = PROSE * 2
    lengths = (_SHORTEST + 37 * i % (_LONGEST - _SHORTEST + 1) for i in range(texts))
    starts = (53 * i % len(PROSE) for i in range(texts))
    pairs = zip(starts, lengths, strict=True)
    return [f"{i} {' '.join(double[start : start + length])}" for i, (start, length) in enumerate(pairs)]
