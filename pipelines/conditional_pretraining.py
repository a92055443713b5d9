"""Condition tags for a corpus: drop near-duplicates, split, score, calibrate, tag, write training shards.

    annotate run pipelines/conditional_pretraining.py --workdir out --set 'corpus=data/*.parquet'

Without `corpus`, it makes one from the docstrings and descriptions of the Python packages on this machine. Copy this
file and change the copy: scorers, axes, tags and how text is split are plain Python.
"""

from pathlib import Path
from typing import Any, Literal

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
    unit_mb: float | None = None,
    duplicate_threshold: float = 0.8,
    split_by: Literal["sentence", "line", "paragraph", "document"] = "sentence",
    niceness: str = "niceness",
    tone: str = "tone",
    correctness: str = "correctness",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    batch_tokens: int = 2048,
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
    *,
    span_ids: bool = False,
) -> Pipeline:
    """Build the pipeline; `--set NAME=VALUE` sets a parameter.

    Args:
        corpus: a file, directory, glob or URL; None makes the demo corpus.
        text: the column of texts.
        id: the column of ids; None if there is none.
        ids: "any" warns of repeated ids, "unique" makes them an error.
        columns: the other columns of text shards, as in `--set columns=source,url`; None for all.
        unit_mb: text in a work unit, in MB; None to choose it by the size of the corpus, once for a work directory.
        duplicate_threshold: Jaccard similarity from which documents are near-duplicates.
        split_by: what a span is.
        niceness: a probe: the name of one that is shipped, or a file that `annotate probe train --axis niceness` wrote.
        tone: the same for this axis.
        correctness: the same for this axis.
        dtype: of the encoder's layers; `annotate tune` measures what is fast where you run it.
        batch_tokens: padded tokens in a batch of the encoder; the same command measures it.
        quantile: of scores, from which a span gets a tag of the default scheme.
        repeated_above: if a span occurs more often than this in the corpus, keep only its first occurrence.
        scheme: a tag scheme, a TOML file such as `annotate scheme new my.toml` writes. None for three tags at
            `quantile`, and no tags on a tenth of the documents.
        order: of the documents in shards: "shuffled" by a hash, for training, or as in the "corpus".
        mix: weights of sources, as in `--set mix=wiki=0.5,web=0.5`. Without weights, all documents are used.
        mix_by: the column of sources.
        exhaustion: end the mix when the first source is used up, or when all are.
        exclude: a file of ids, one on each line: documents to leave out of the shards, such as takedowns.
        spelled: what to do with a document that spells a tag, in text shards.
        part_mb: text in a training shard, in MB.
        tokenizer: a directory, a tokenizer.json or a name on the hub; shards then have tokens. None for text.
        window: tokens in each row of a token shard.
        loss: whether tags are trained on.
        span_ids: whether token shards say which span each token is of, as `annotate prove` needs it.
    """
    tags = load_scheme(scheme) if scheme is not None else three_tags(quantile)
    if order == "corpus" and (mix or tags.phases):
        raise annotate.ConfigError(
            "a mix and phases choose the order of documents, but order=corpus keeps that of the corpus",
            hint="Leave order=corpus out.",
        )
    path = corpus or demo_corpus()
    unit_bytes = None if unit_mb is None else int(unit_mb * (1 << 20))
    documents = Corpus(path, text=text, id=id, ids=ids, columns=columns, unit_bytes=unit_bytes)
    verdicts = NearDuplicates(documents, threshold=duplicate_threshold)
    spans = Split(documents, Splitter(by=split_by))
    probes = [Probe(source, dtype=dtype, batch_tokens=batch_tokens) for source in (niceness, tone, correctness)]
    scores = score(spans, skip=verdicts, scorers=probes)
    repeated = RepeatedSpans(drop=True, above=repeated_above) if repeated_above is not None else None
    schedule = None
    if order == "shuffled":
        weights = Mix(column=mix_by, weights=weights_of(mix), exhaustion=exhaustion) if mix else None
        counted = tokenizer if tags.phases or mix else None  # budgets and weights count tokens if there is a tokenizer
        schedule = Schedule(mix=weights, tokenizer=counted)
    thresholds = Thresholds(Calibrate(scores, repeated=repeated), tags)
    placements = Place(thresholds, schedule=schedule)
    common: dict[str, Any] = {"part_bytes": int(part_mb * (1 << 20)), "exclude": exclude or ()}
    if tokenizer is None:
        return Pipeline(Render(placements, spelled=spelled, **common))
    return Pipeline(TokenShards(placements, tokenizer=tokenizer, window=window, loss=loss, span_ids=span_ids, **common))


def demo_corpus() -> str:
    """Make the demo corpus in the current directory, and give its path."""
    try:
        from demo_corpus import make_demo_corpus
    except ModuleNotFoundError:
        raise annotate.ConfigError(
            "no corpus was named, and demo_corpus.py, which makes one, is not beside the pipeline file",
            hint="Name yours, as in --set 'corpus=data/*.parquet'.",
        ) from None
    return str(make_demo_corpus(Path("demo-corpus")).paths[0].parent)


def weights_of(mix: tuple[str, ...]) -> list[tuple[str, float]]:
    """Read weights, each written as `source=0.5`."""
    pairs = [each.rpartition("=") for each in mix]
    try:
        return [(source, float(weight)) for source, _, weight in pairs]
    except ValueError:
        raise annotate.ConfigError(f"weights are written as source=0.5,other=0.5, got {', '.join(mix)}") from None


def three_tags(quantile: float) -> TagScheme:
    """Make a scheme with one tag for each axis, on the spans with the highest scores."""
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
