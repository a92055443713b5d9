"""Condition tags for a corpus: drop near-duplicates, split, score, calibrate, tag, write training shards.

    annotate run pipelines/conditional_pretraining.py --workdir out --set 'corpus=data/*.parquet'

Without a corpus it makes one from the docstrings and descriptions of the Python packages on this machine. Copy this
file and change it: scorers, axes, tags and how text is split are plain Python.
"""

from pathlib import Path
from typing import Literal

from demo_corpus import make_demo_corpus

import annotate
from annotate import (
    Calibrate,
    Corpus,
    NearDuplicates,
    Pipeline,
    Place,
    Probe,
    Render,
    RepeatedSpans,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    TokenShards,
    load_scheme,
    score,
)


def pipeline(
    corpus: str | None = None,
    text: str = "text",
    id: str | None = "id",
    ids: Literal["any", "unique"] = "any",
    columns: tuple[str, ...] | None = None,
    unit_mb: float = 0.25,
    duplicate_threshold: float = 0.8,
    split_by: Literal["sentence", "line", "paragraph", "document"] = "sentence",
    niceness: str = "niceness",
    tone: str = "tone",
    correctness: str = "correctness",
    quantile: float = 0.7,
    repeated_above: int | None = None,
    scheme: str | None = None,
    spelled: Literal["quarantine", "keep", "escape"] = "quarantine",
    part_mb: float = 64,
    tokenizer: str | None = None,
    window: int = 2048,
    loss: Literal["train", "mask", "mask-all-but-closing"] = "train",
) -> Pipeline:
    """Build the pipeline; the parameters are what `--set name=value` sets.

    `columns` are the other columns that travel to the shards, as in `--set columns=source,url`; none means all.
    Units of 0.25 MB suit models on CPUs; on GPUs use 8 MB, on a cluster 64. `niceness`, `tone` and `correctness` are
    probes: names of those that ship with annotate, or files that `annotate probe train --axis niceness` (or the other
    axis) wrote. A span that occurs more than `repeated_above` times in the corpus is left out, but for the first.
    `scheme` is a tag scheme as a TOML file, such as `annotate scheme new my.toml` writes; without, there are three tags
    at `quantile`, and a tenth of the documents has none. With a `tokenizer` (a directory, a tokenizer.json or a hub
    name) the shards are windows of `window` tokens; `loss` says whether tags are trained on.
    """
    path = corpus or str(make_demo_corpus(Path("demo-corpus")).paths[0].parent)
    documents = Corpus(path, text=text, id=id, ids=ids, columns=columns, unit_bytes=int(unit_mb * (1 << 20)))
    verdicts = NearDuplicates(documents, threshold=duplicate_threshold)
    spans = Split(documents, Splitter(by=split_by))
    scores = score(spans, skip=verdicts, scorers=[Probe(niceness), Probe(tone), Probe(correctness)])
    repeated = RepeatedSpans(spans, verdicts, drop=True, above=repeated_above) if repeated_above is not None else None
    calibration = Calibrate(scores, verdicts, repeated=repeated)
    tags = load_scheme(scheme) if scheme is not None else three_tags(quantile)
    thresholds = Thresholds(scores, verdicts, calibration, tags)
    placements = Place(scores, verdicts, thresholds)
    part_bytes = int(part_mb * (1 << 20))
    if tokenizer is None:
        return Pipeline(Render(documents, verdicts, placements, part_bytes=part_bytes, spelled=spelled))
    return Pipeline(
        TokenShards(
            documents, verdicts, placements, part_bytes=part_bytes, tokenizer=tokenizer, window=window, loss=loss
        )
    )


def three_tags(quantile: float) -> TagScheme:
    """A tag for each axis, on the best spans."""
    return TagScheme(
        tags=(
            Tag(name="nice", rule=f"niceness >= q({quantile})"),
            Tag(name="authoritative_tone", rule=f"tone >= q({quantile})"),
            Tag(name="correct", rule=f"correctness >= q({quantile})"),
        ),
        document_dropout=0.1,
    )


if __name__ == "__main__":
    annotate.main(pipeline)
