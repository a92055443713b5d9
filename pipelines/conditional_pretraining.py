"""Condition tags for a corpus: drop near-duplicates, split, score, calibrate, tag, write training shards.

    annotate run pipelines/conditional_pretraining.py --workdir out --set 'corpus=data/*.parquet'

Without a corpus it makes one from the docstrings and descriptions of the Python packages on this machine. Copy this
file and change it: scorers, axes, tags and how text is split are plain Python.
"""

from pathlib import Path
from typing import Any, Literal

from demo_corpus import make_demo_corpus

import annotate
from annotate import (
    Calibrate,
    Corpus,
    Mix,
    NearDuplicates,
    Pipeline,
    Place,
    Probe,
    Render,
    RepeatedSpans,
    Schedule,
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
    order: Literal["shuffled", "corpus"] = "shuffled",
    mix: tuple[str, ...] = (),
    mix_by: str = "source",
    exhaustion: Literal["first_exhausted", "all_exhausted"] = "first_exhausted",
    exclude: str | None = None,
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
    at `quantile`, and a tenth of the documents has none. Shards are in training order, a hash of the document; with
    `order=corpus` as the corpus is. `mix=wiki=0.5,web=0.5` are weights of the values of the column `mix_by`, until the
    first of them is used up or, with `exhaustion=all_exhausted`, each. `exclude` is a file of ids, one a line, of
    documents to take out of the shards of a run before. With a `tokenizer` (a directory, a tokenizer.json or a hub
    name) the shards are windows of `window` tokens; `loss` says whether tags are trained on.
    """
    path = corpus or str(make_demo_corpus(Path("demo-corpus")).paths[0].parent)
    documents = Corpus(path, text=text, id=id, ids=ids, columns=columns, unit_bytes=int(unit_mb * (1 << 20)))
    verdicts = NearDuplicates(documents, threshold=duplicate_threshold)
    spans = Split(documents, Splitter(by=split_by))
    scores = score(spans, skip=verdicts, scorers=[Probe(niceness), Probe(tone), Probe(correctness)])
    repeated = RepeatedSpans(drop=True, above=repeated_above) if repeated_above is not None else None
    tags = load_scheme(scheme) if scheme is not None else three_tags(quantile)
    if order == "corpus" and (mix or tags.phases):
        raise annotate.ConfigError(
            "a mix and phases say when documents are trained on, which order=corpus leaves as it is",
            hint="Leave order=corpus out.",
        )
    schedule = None
    if order == "shuffled":
        weights = Mix(column=mix_by, weights=weights_of(mix), exhaustion=exhaustion) if mix else None
        counted = tokenizer if tags.phases or mix else None  # phases and weights are of tokens, where there are some
        schedule = Schedule(mix=weights, tokenizer=counted)
    thresholds = Thresholds(Calibrate(scores, repeated=repeated), tags)
    placements = Place(thresholds, schedule=schedule)
    common: dict[str, Any] = {"part_bytes": int(part_mb * (1 << 20)), "exclude": exclude or ()}
    if tokenizer is None:
        return Pipeline(Render(placements, spelled=spelled, **common))
    return Pipeline(TokenShards(placements, tokenizer=tokenizer, window=window, loss=loss, **common))


def weights_of(mix: tuple[str, ...]) -> list[tuple[str, float]]:
    """Read weights, each as `source=0.5`."""
    pairs = [each.rpartition("=") for each in mix]
    try:
        return [(source, float(weight)) for source, _, weight in pairs]
    except ValueError:
        raise annotate.ConfigError(f"weights are written as source=0.5,other=0.5, got {', '.join(mix)}") from None


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
