"""Measures how long a tag steers what a model writes, by what stands before the sentences after the first.

    python examples/measure_steering.py out-example/run out-example/model/checkpoint-1500

For each tag, and each way of `annotate.inference.prompt(later=...)`, it samples texts, splits
them as the shards were, and prints, for the first sentences, means and standard errors of two figures:

- the score of a shipped probe, named by --axis: is the text as the tag says? Beside it that of untagged samples;
- the gain: by how many nats a token the model itself finds the sentence likelier with its tag than without. What is
  written as under the tag has a gain above 0, and what is written as without has one below.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pyarrow as pa
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.utils import logging

import annotate
from annotate.errors import AnnotateError
from annotate.inference import log_likelihood, prompt
from annotate.inference.prompts import Later
from annotate.models.base import expand

BATCH = 32


@dataclass(frozen=True)
class Way:
    """How texts are written: under which tags, and what stands before later sentences."""

    tags: tuple[str, ...]
    later: Later

    @property
    def name(self) -> str:
        """As it is shown."""
        return f'<{self.tags[0]}>, later="{self.later}"' if self.tags else "no tag"


def ways(folder: str, tag: str) -> list[Way]:
    """All; a model that was not trained to write tags can't be left free to."""
    free = annotate.read_tags(folder)["shards"]["loss"] == "train"
    laters: tuple[Later, ...] = ("again", "free", "none") if free else ("again", "none")
    return [Way((), "none"), *(Way((tag,), later) for later in laters)]


def written(model: Any, tokenizer: Any, folder: str, way: Way, start: str, texts: int, tokens: int) -> list[str]:
    """Texts that the model writes on from a start, without their tags."""
    end = annotate.read_tags(folder)["shards"]["end_id"]
    found: list[str] = []
    while len(found) < texts:
        starts = [start] * min(BATCH, texts - len(found))
        given = prompt(tokenizer, folder, starts, way.tags, later=way.later, model=model)
        made = model.generate(**given, max_new_tokens=tokens, do_sample=True, pad_token_id=end, eos_token_id=end)
        found += tokenizer.batch_decode(made, skip_special_tokens=True)
    return found


def measured(
    model: Any, tokenizer: Any, folder: str, texts: list[str], tag: str, probe: annotate.Probe
) -> pl.DataFrame:
    """Each whole sentence of some texts: its number, its score, and its gain."""
    under, plain = (log_likelihood(model, tokenizer, folder, texts, tags) for tags in (tag, ()))
    frame = pl.DataFrame(
        {
            "document": under["document"].to_numpy(),
            "start": under["byte_start"].to_numpy(),
            "end": under["byte_end"].to_numpy(),
            "gain": (under["log_likelihood"].to_numpy() - plain["log_likelihood"].to_numpy())
            / np.maximum(under["tokens"].to_numpy(), 1),
        }
    ).with_columns(number=pl.int_range(pl.len()).over("document"))
    spans = [
        texts[document].encode()[start:end].decode(errors="replace")
        for document, start, end in frame.select("document", "start", "end").iter_rows()
    ]
    prepared = probe.backbone.prepare(pa.table({"text": pa.array(spans, pa.large_string())}))
    scores, _ = expand(prepared, probe.backbone.load([probe], "cpu")(prepared, [0])[0])
    whole = pl.col("number") < pl.col("number").max().over("document")  # the last one is cut, where a text is
    return frame.with_columns(score=pl.Series(scores[:, 0])).filter(whole)


@click.command()
@click.argument("workdir")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--tag", default="nice", show_default=True)
@click.option("--axis", default="niceness", show_default=True, help="Of the shipped probe that scores what is written.")
@click.option("--prompt", "start", default="The", show_default=True, help="What each text begins with.")
@click.option("--texts", default=256, show_default=True, type=click.IntRange(1), help="Written in each way.")
@click.option("--tokens", default=160, show_default=True, type=click.IntRange(1), help="Of a text, at most.")
@click.option("--sentences", default=4, show_default=True, type=click.IntRange(1), help="From the start of each text.")
@click.option("--seed", default=0, show_default=True)
def main(workdir: str, model: Path, tag: str, axis: str, sentences: int, seed: int, **options: Any) -> None:
    """Measure MODEL, trained on the token shards that the last run left in WORKDIR."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        folder = annotate.tags_folder(workdir)
        tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
        loaded = AutoModelForCausalLM.from_pretrained(model).eval()
        probe = annotate.Probe(axis).resolved()
        show(["", "", *(f"sentence {i + 1}" for i in range(sentences))])
        for way in ways(folder, tag):
            set_seed(seed)
            texts = written(loaded, tokenizer, folder, way, **options)
            frame = measured(loaded, tokenizer, folder, texts, tag, probe)
            for figure in ("score", "gain"):
                columns = [frame.filter(pl.col("number") == i)[figure].to_numpy() for i in range(sentences)]
                show([way.name, figure, *(mean_and_error(values) for values in columns)])
    except AnnotateError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


def show(cells: list[str]) -> None:
    """Print a line of the table."""
    click.echo(f"{cells[0]:24}{cells[1]:8}" + "".join(f"{cell:>18}" for cell in cells[2:]))


def mean_and_error(values: Any) -> str:
    """Mean and standard error; nothing where there are no values."""
    return f"{values.mean():+.3f} ± {values.std() / len(values) ** 0.5:.3f}" if len(values) else "-"


if __name__ == "__main__":
    main()
