"""Prints the summary of a run: ledger, tag rates, score quantiles, a sample, and how to load the shards."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from annotate.amounts import counted, size
from annotate.cli.colours import example
from annotate.cli.ledger_view import ledger_table
from annotate.cli.terminal import visible
from annotate.engine.datasets import Dataset, latest
from annotate.engine.run import Made
from annotate.stages.calibrate import Calibrate, sample_of
from annotate.stages.place import Place
from annotate.stages.render import Render
from annotate.stages.schedule import ScheduleDocuments
from annotate.stages.shared.training_shards import SHARDS, Shards
from annotate.stages.token_shards import TokenShards

MOST_REASONS = 10
QUANTILES = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)


def print_summary(result: Made, console: Console) -> None:
    """Print the summary of a run."""
    described = {name: latest(result.datasets[stage]).described for name, stage in result.outputs.items()}
    if result.ledgers:
        table = ledger_table(result.ledgers, described)
        table.title = "Documents"
        console.print(table)
    bad = result.quarantined
    for reason, n in list(bad.reasons.items())[:MOST_REASONS]:
        console.print(f"in quarantine: {counted(n, bad.nouns[reason])}: {visible(reason)}", markup=False)
        shown = "; ".join(bad.places[reason])
        console.print(f"  {visible(shown)}{' ...' if n > len(bad.places[reason]) else ''}", markup=False)
    if bad.reasons:
        console.print(f"  see {result.workdir.url}/quarantine", markup=False)
    for stage, dataset in result.datasets.items():
        of = f", {dataset.label}" if dataset.label != stage.label else ""
        if isinstance(stage, Place):
            _tag_rates(stage, dataset, of, console)
        if isinstance(stage, Calibrate) and _found(dataset):
            _scores(stage, dataset, of, console)
        if isinstance(stage, ScheduleDocuments) and (stage.phases or stage.mix) and _found(dataset):
            _phases(stage, dataset, of, console)
    several = sum(isinstance(stage, Shards) for stage in result.outputs.values()) > 1
    for name, stage in result.outputs.items():
        dataset = result.datasets[stage]
        if not isinstance(stage, Shards) or not _found(dataset):
            continue
        place = _Place(result.workdir.url, described[name], name if several else None)
        if isinstance(stage, Render):
            _shards(stage, dataset, place, console)
        elif isinstance(stage, TokenShards):
            _windows(stage, dataset, place, console)


@dataclass(frozen=True)
class _Place:
    """Where shards are.

    Attributes:
        workdir: path or URL of the work directory.
        described: the output, for display.
        output: the name of the output, if a call must name it; else None.
    """

    workdir: str
    described: str
    output: str | None

    def call(self, function: str) -> str:
        """A call of a function of `annotate`, to be copied and run."""
        named = "" if self.output is None else f', output="{self.output}"'
        return f"annotate.{function}({json.dumps(self.workdir, ensure_ascii=False)}{named})"

    @property
    def heading(self) -> str:
        """The text before the count of documents or windows."""
        return f"{self.described}: " if self.output is not None or self.described != SHARDS else ""


def _found(dataset: Dataset) -> bool:
    return dataset.manifest is not None or dataset.find()


def _tag_rates(stage: Place, dataset: Dataset, of: str, console: Console) -> None:
    if not _found(dataset) or dataset.manifest is None:
        return
    spans = dataset.manifest.counts.get("spans", 0)
    table = Table("tag", "rule", "spans", "share", title=f"Tags on {counted(spans, 'span')}{of}")
    rules = {tag.name: tag.rule for tag in stage.scheme.tags}
    for name, shown in zip(stage.scheme.names, stage.scheme.shown, strict=True):
        n = dataset.manifest.counts.get(f"<{shown}>", 0)
        table.add_row(
            visible(f"<{shown}>"), visible(rules.get(name, "")), f"{n:,}", f"{n / spans:.1%}" if spans else "-"
        )
    console.print(table)


def _scores(stage: Calibrate, dataset: Dataset, of: str, console: Console) -> None:
    unit = next(dataset.units())
    sample = sample_of(stage.read(dataset.directory, unit))
    title = f"Scores, over a sample of {counted(sample.num_rows, 'span')}{of}"
    table = Table("axis", *(f"q({q})" for q in QUANTILES), title=title)
    for axis in sample.column_names[1:]:
        values = sample[axis].to_numpy()
        values = values[~np.isnan(values)]
        shown = (
            [f"{v:.3f}" for v in np.quantile(values, QUANTILES, method="inverted_cdf")] if len(values) else ["-"] * 7
        )
        table.add_row(visible(axis), *shown)
    console.print(table)


def _phases(stage: ScheduleDocuments, dataset: Dataset, of: str, console: Console) -> None:
    unit = "bytes" if stage.asked.tokenizer is None else "tokens"
    schedule = stage.read(dataset.directory, next(dataset.units()))
    title = f"Phases, in training order{of}"
    table = Table("phase", "source", unit, "budget", "documents", "copies", "tag rate", title=title)
    for column in table.columns[2:]:
        column.justify = "right"
    phase = None
    for row in schedule.to_pylist():
        rates = dict.fromkeys(f"{100 * row[name]:.3g} %" for name in ("rate_from", "rate_to"))
        first, phase = row["phase"] != phase, row["phase"]
        table.add_row(
            visible(phase) if first else "",
            visible(row["source"] or ""),
            f"{row['size']:,}",
            f"{row['budget']:,}" if first else "",
            f"{row['documents']:,}",
            f"{row['copies']:,}",
            " to ".join(rates),
        )
    console.print(table)


def _shards(stage: Render, dataset: Dataset, place: _Place, console: Console) -> None:
    manifest = dataset.manifest
    assert manifest is not None, "it was found"
    example(stage, dataset, console)
    written = f"{counted(manifest.rows, 'document')} in {counted(manifest.units, 'training shard')}"
    console.print(
        f"{place.heading}{written}, {size(manifest.size)}: {dataset.directory.url}/parts",
        style="bold",
        markup=False,
    )
    console.print(f"  in Python:  polars.read_parquet({place.call('shards')})", markup=False)
    one = "" if place.output is None else f" --output {place.output}"
    console.print(f"  by eye:     annotate show {shlex.quote(place.workdir)}{one}", markup=False)


def _windows(stage: TokenShards, dataset: Dataset, place: _Place, console: Console) -> None:
    manifest = dataset.manifest
    assert manifest is not None, "it was found"
    counts = manifest.counts
    windows, tokens = counts.get("windows", 0), counts.get("tokens", 0)
    filled = tokens / (windows * stage.window) if windows else 0.0
    console.print(
        f"{place.heading}{windows:,} windows of {stage.window:,} tokens, filled to {filled:.1%}, in "
        f"{counted(manifest.units, 'token shard')}: {dataset.directory.url}/parts",
        style="bold",
        markup=False,
    )
    moved, tags = counts.get("moved_tags", 0), counts.get("tags", 0)
    console.print(
        f"  {tags:,} tags, {moved / max(tags, 1):.2%} of them moved, since their place was inside a token", markup=False
    )
    console.print(f"  in Python:  polars.read_parquet({place.call('shards')})", markup=False)
    console.print(f"  tokenizer:  in {place.call('tags_folder')}, beside tags.json", markup=False)
