"""A small corpus and a pipeline over it with a Python scorer that counts its calls, for tests of all layers."""

import hashlib
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from annotate import (
    Calibrate,
    Corpus,
    NearDuplicates,
    Pipeline,
    Place,
    PythonScorer,
    Render,
    RepeatedSpans,
    Schedule,
    Split,
    Tag,
    TagScheme,
    Thresholds,
    score,
)
from annotate.stages.shared.annotations import Annotations

WORDS = Path(__file__).with_name("words.txt").read_text().split()
"""Of a file that stays as it is: what tests count depends on the length of texts."""


def sentences(seed: int, n: int) -> str:
    """Text of n sentences, a function of the seed."""
    draw = random.Random(seed)
    return " ".join(" ".join(draw.choices(WORDS, k=draw.randint(4, 14))).capitalize() + "." for _ in range(n))


def write_corpus(folder: Path, shards: int = 3, documents: int = 30, start: int = 0, **options) -> Path:
    """Write shards `s0.parquet`, ... of different documents, a few of them near-copies of others."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(start, start + shards):
        texts = [sentences(1000 * shard + i, 3 + i % 5) for i in range(documents)]
        texts[-1] = texts[0]  # an exact copy
        texts[-2] = texts[1] + " And then."  # a near copy
        table = pa.table(
            {
                "id": [f"doc-{shard}-{i}" for i in range(documents)],
                "text": texts,
                "source": [f"source {i % 2}" for i in range(documents)],
            }
        )
        pq.write_table(table, folder / f"s{shard}.parquet", **options)
    return folder


class Counting:
    """Scores each text by a hash of it, and leaves a file for each call in a folder, named by the number of rows."""

    def __init__(self, folder: str, axes: int) -> None:
        self.folder, self.axes = Path(folder), axes

    def __call__(self, table: pa.Table) -> np.ndarray:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{table.num_rows}-{uuid.uuid4().hex}").touch()
        digests = [hashlib.sha256(text.encode()).digest() for text in table["text"].to_pylist()]
        lengths = pc.utf8_length(table["text"]).to_numpy().astype(np.float32)
        values = np.array([[d[i] for i in range(self.axes)] for d in digests], np.float32).reshape(-1, self.axes)
        return values + lengths[:, None] / 1000


def rows_scored(folder: Path) -> int:
    """Rows that `Counting` scorers were given, anchors included."""
    return sum(int(path.name.partition("-")[0]) for path in folder.iterdir()) if folder.exists() else 0


def scorer(folder: Path, *axes: str) -> PythonScorer:
    """A counting scorer of some axes."""

    class Scorer(Counting):
        def __init__(self) -> None:
            super().__init__(str(folder), len(axes))

    return PythonScorer(function=Scorer, axes=axes, version="+".join(axes))


TWO_SCORERS = (("niceness",), ("tone", "correctness"))
SMALL_UNITS = {"axes": TWO_SCORERS, "unit_bytes": 2000, "part_bytes": 4000}
"""Options of `pipeline` for several units a shard and several parts, from a small corpus."""


def pipeline(
    corpus: Path,
    calls: Path,
    *,
    axes: tuple[tuple[str, ...], ...] = (("niceness", "tone", "correctness"),),
    threshold: float = 0.8,
    groups: bool = False,
    quantile: float = 0.7,
    unit_bytes: int = 4000,
    part_bytes: int = 8_000,
    **options,
) -> Pipeline:
    """Corpus to shards, with one counting scorer for each group of axes.

    Near-duplicates are found, by 10 stages; with `groups` split groups too, by 17.
    """
    spelled = options.pop("spelled", "quarantine")
    verify, above = options.pop("verify", "estimate"), options.pop("repeated_above", None)
    documents = Corpus(str(corpus), unit_bytes=unit_bytes, **options)
    looser = {} if groups else {"group_threshold": threshold, "group_span": None}
    verdicts = NearDuplicates(documents, threshold=threshold, verify=verify, **looser)
    spans = Split(documents)
    scores = score(spans, skip=verdicts, scorers=[scorer(calls, *group) for group in axes])
    scheme = TagScheme(
        tags=(
            Tag(name="nice", rule=f"niceness >= q({quantile})"),
            Tag(name="firm", rule="tone >= 128"),
            Tag(name="correct", rule=f"correctness > q({quantile}) and not niceness < 10"),
        )
    )
    repeated = None if above is None else RepeatedSpans(drop=True, above=above, shortest=1)
    calibration = Calibrate(scores, sample=500, repeated=repeated)
    return to_shards(calibration, scheme, part_bytes=part_bytes, spelled=spelled)


def to_shards(
    scores: Calibrate | Sequence[Annotations], scheme: TagScheme, *, schedule: Schedule | None = None, **options
) -> Pipeline:
    """What comes after scoring, up to the training shards, with options of `Render`."""
    return Pipeline(Render(Place(Thresholds(scores, scheme), schedule=schedule), **options))


def shard_bytes(workdir: Path, output: str | None = None) -> dict[str, bytes]:
    """The training shards that the last run of a work directory left, by name, in order; of one output, if named."""
    from annotate import shards

    return {Path(path).name: Path(path).read_bytes() for path in shards(workdir, output)}
