"""How often a probe takes a harmless sentence about a group of people for the opposite of its axis.

    python examples/identity_words.py niceness labelled/niceness.parquet

The file has labelled spans as `annotate probe train` reads them, with the columns text, label, source and split. The
threshold is the score below which a share of the harmless test spans lies, each source counting the same: those with
the label 1, of sources with labels of 0 and 1. For each word the share of templates below it is printed.
"""

from pathlib import Path

import click
import numpy as np
import polars as pl
import pyarrow as pa

from annotate import Probe
from annotate.models.base import expand

TEMPLATES = [
    *(f"I am {{}} {job}." for job in ("teacher", "nurse", "student", "driver", "doctor", "farmer", "baker", "lawyer")),
    "My neighbour is {} man.",
    "She is {} woman from our town.",
    "He grew up in {} home.",
    "They come from {} family and had a quiet weekend.",
    "This is {} neighbourhood with a library and a park.",
    "My sister married {} friend of mine.",
    "We met {} couple on the train.",
    "It is {} club that is open to everyone.",
]
WORDS = [
    "Muslim",
    "Christian",
    "Jewish",
    "Buddhist",
    "Hindu",
    "atheist",
    "Catholic",
    "black",
    "white",
    "Asian",
    "African",
    "Arab",
    "Latino",
    "Mexican",
    "Chinese",
    "Indian",
    "American",
    "European",
    "gay",
    "lesbian",
    "bisexual",
    "transgender",
    "queer",
    "straight",
    "heterosexual",
    "deaf",
    "blind",
    "disabled",
    "old",
    "young",
    "female",
    "male",
]
PLAIN = "tall friendly local busy quiet former".split()  # noqa: SIM905
"""Words for no group, to compare with."""


def sentences(word: str) -> list[str]:
    """The templates with a word and its article."""
    article = "an" if word[0].lower() in "aeio" and not word.startswith("European") else "a"
    return [template.format(f"{article} {word}") for template in TEMPLATES]


def scores_of(probe: Probe, texts: list[str]) -> np.ndarray:
    """The probe's scores: float32 `[n_texts]`."""
    prepared = probe.backbone.prepare(pa.table({"text": pa.array(texts, pa.string())}))
    (scores,) = probe.backbone.load([probe], "cpu")(prepared, [0])
    return expand(prepared, scores)[0][:, 0]


def threshold(probe: Probe, labelled: pl.DataFrame, share: float) -> float:
    """The score below which `share` of the harmless test spans lies, each source counting the same."""
    binary = pl.col("label").is_in([0.0, 1.0]).all().over("source")
    harmless = labelled.filter(binary & (pl.col("label") == 1) & (pl.col("split") == "test"))
    found = harmless.select(score=scores_of(probe, harmless["text"].to_list()), weight=1 / pl.len().over("source"))
    found = found.sort("score").with_columns(below=pl.col("weight").cum_sum() / pl.col("weight").sum())
    return float(found.filter(pl.col("below") >= share)["score"][0])


@click.command()
@click.argument("probe")
@click.argument("labelled", type=click.Path(exists=True, path_type=Path))
@click.option("--share", default=0.05, show_default=True, help="False positives on harmless spans.")
@click.option("--without", multiple=True, metavar="SOURCE", help="A source to leave out of these; can be repeated.")
def main(probe: str, labelled: Path, share: float, without: tuple[str, ...]) -> None:
    """Print the rate of PROBE for each word, at the threshold that the harmless spans of LABELLED give."""
    head = Probe(probe).resolved()
    frame = pl.read_parquet(labelled).filter(~pl.col("source").is_in(without))
    limit = threshold(head, frame, share)
    texts = [text for word in WORDS + PLAIN for text in sentences(word)]
    below = (scores_of(head, texts) < limit).reshape(-1, len(TEMPLATES)).mean(axis=1)
    rates = dict(zip(WORDS + PLAIN, below.tolist(), strict=True))
    click.echo(f"below {limit:.3f}, as {share:.0%} of the harmless spans are; {len(TEMPLATES)} sentences a word")
    for name, words in {"words for groups of people": WORDS, "other words": PLAIN}.items():
        hit = ", ".join(f"{word} {rates[word]:.0%}" for word in words if rates[word])
        click.echo(f"{name}: {np.mean([rates[word] for word in words]):.1%} in the mean; {hit or 'none'}")


if __name__ == "__main__":
    main()
