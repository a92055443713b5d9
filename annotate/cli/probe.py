"""`annotate probe`: train a probe on labelled spans, and look at one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from annotate.amounts import size
from annotate.cli.option_types import Device
from annotate.cli.terminal import console, say, visible
from annotate.storage import retries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from annotate.curves import Isotonic, Platt
    from annotate.probes.file import Feature, Head
    from annotate.probes.report import CalibrationReport, Estimate, ProbeReport

SHOWN = 100
"""Characters of a span that are printed."""


@click.group()
def command() -> None:
    """Train a probe on labelled spans, or show one."""


@command.command()
@click.argument("labelled")
@click.option("--axis", required=True, help="Name of what is measured.")
@click.option("--out", help="The probe's file [AXIS.safetensors].")
@click.option("--text", default="text", show_default=True, help="Column of texts.")
@click.option("--label", default="label", show_default=True, help="Column of labels: 0 and 1, or ratings.")
@click.option("--source", help="Column of sources; each is measured alone, also by a probe trained without it.")
@click.option("--split", help='Column that says "train" or "test" [a fifth of the texts are for the test].')
@click.option("--encoder", help="The encoder: a directory, or a name on the hub [all-MiniLM-L6-v2].")
@click.option("--prefix", default="", help='What stands before each text, such as "query: " for e5.')
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="LAYER[:POOL]",
    help="A hidden state that the head reads, such as 4 or 4:max; can be repeated [two middle layers].",
)
@click.option(
    "--words",
    multiple=True,
    metavar="FILE",
    help="CSV file of words to look for: text, and if wanted group and severity; can be repeated.",
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="SOURCE=N",
    help="How many spans one of SOURCE counts as; 0: only measured, all of it without --split; can be repeated [1].",
)
@click.option("--tail-layers", type=click.IntRange(0), default=0, show_default=True, help="Layers to train too; slow.")
@click.option("--anchors", nargs=2, metavar="LOW HIGH", help="A text that must score low, and one high [both picked].")
@click.option("--meaning", help="What a high score means, in a sentence.")
@click.option("--seed", default=0, show_default=True, help="Seed of all random choices.")
@click.option("--device", type=Device(auto=False), default="cpu", show_default=True, help="Where to run the encoder.")
def train(
    labelled: str,
    axis: str,
    out: str | None,
    text: str,
    label: str,
    source: str | None,
    split: str | None,
    encoder: str | None,
    prefix: str,
    features: tuple[str, ...],
    words: tuple[str, ...],
    weights: tuple[str, ...],
    tail_layers: int,
    anchors: tuple[str, str] | None,
    meaning: str | None,
    seed: int,
    device: str,
) -> None:
    """Fit a linear head to LABELLED, and measure it on spans that it never saw.

    LABELLED is a Parquet file with one labelled span in each row. A pipeline uses the file that is written as
    Probe("FILE"), and its rules can use the probability p(AXIS).
    """
    counts = dict(map(_weight, weights))
    from annotate.probes.feature_choice import parse_feature

    read = tuple(parse_feature(item) for item in features) or None
    from annotate.probes.encoder import Encoder
    from annotate.probes.training import train_probe

    shown = console()
    # What it reads is read first, while a person waits.
    with shown.status(f"training a probe of {axis} ..."), retries.within(retries.START_SECONDS):
        report = train_probe(
            labelled,
            axis,
            out=out or f"{axis}.safetensors",
            encoder=Encoder(encoder, prefix=prefix) if encoder else Encoder(prefix=prefix),
            text=text,
            label=label,
            source=source,
            split=split,
            features=read,
            words=words,
            weights=counts,
            tail_layers=tail_layers,
            anchors=anchors,
            meaning=meaning,
            seed=seed,
            device=device,
        )
    print_report(report, shown)


def _weight(given: str) -> tuple[str, float]:
    """Read SOURCE=N."""
    source, _, number = given.rpartition("=")
    try:
        return source, float(number)
    except ValueError:
        raise click.BadParameter(f"a weight is SOURCE=N, got {given!r}", param_hint="--weight") from None


@command.command()
@click.argument("probe")
def show(probe: str) -> None:
    """Show the card of PROBE: a file, or the name of one that is shipped."""
    from annotate.scorers.probe import Probe

    found = Probe(probe)
    print_card(found.head(), str(found.path()), console())


def print_report(report: ProbeReport, out: Console) -> None:
    """Print what training measured."""
    table = Table("source", "measure", "train", "test", "result (95 %)", "held out whole (95 %)")
    for column in table.columns[2:]:
        column.justify = "right"
    for source in report.sources:
        name = Text(visible(source.name))
        counts = (f"{source.train:,}", f"{source.test:,}")
        table.add_row(name, source.measure, *counts, _measured(source.result), _measured(source.held_out))
    say(out, f"{report.axis}, on spans that the probe never saw")
    out.print(table)
    if any(source.held_out and source.train for source in report.sources):
        said = "a probe of the other sources alone, with the penalty that all of them chose"
        say(out, f"Held out whole: {said}; so the figure may be a little too kind.")
    print_probability(report, out)
    _print_lengths(report, out)
    _print_wrong(report, out)
    for sentence in report.understood:
        say(out, visible(f"{sentence[0].upper()}{sentence[1:]}."))
    if report.contradictions:
        say(out, f"{report.contradictions:,} texts have different labels in one source: all their labels count.")
    if report.repeats:
        say(out, f"{report.repeats:,} spans were left out of training: a test span has the same text.")
    if report.unused:
        said = "spans were neither trained on nor measured: their source has the weight 0, and the split says train."
        say(out, f"{report.unused:,} {said}")
    _print_words(report, out)
    say(out, f"Wrote {report.path}, {size(report.size)}: {_features(report.features)}; penalty {report.penalty:g}.")
    say(out, f'  in a pipeline:  Probe("{report.path}")')
    say(out, f"  by eye:         annotate probe show {report.path}")


def print_probability(report: ProbeReport, out: Console) -> None:
    """Print how good the probabilities of a probe are."""
    say(out, f"Its probability, fitted on {report.calibration.labels:,} other labels")
    out.print(_calibration(report.calibration))
    if not report.calibration.useful:
        said = (
            "The fitted curve is no nearer to the labels than the score taken for a logit, so "
            f"p({report.axis}) in rules is not to be trusted: use quantiles, such as q(0.7), or label more spans."
        )
        say(out, said, "yellow")


def _print_lengths(report: ProbeReport, out: Console) -> None:
    table = Table("spans of up to", "test", "AUROC (95 %)")
    for column in table.columns:
        column.justify = "right"
    for third in report.lengths:
        table.add_row(f"{third.longest:,} characters", f"{third.test:,}", _measured(third.result))
    out.print(table)
    say(
        out,
        f"Scores follow length by {report.scores_with_length:+.2f}, labels by {report.labels_with_length:+.2f} "
        "(rank correlation): where these differ, the probe reads length.",
    )


def _print_words(report: ProbeReport, out: Console) -> None:
    if not report.words:
        return
    table = Table("listed words", "one standard deviation adds to the score")
    table.columns[1].justify = "right"
    for name, weight in report.words.items():
        table.add_row(Text(visible(name)), f"{weight:+.3f}")
    out.print(table)
    if report.words_left_out:
        say(out, f"{report.words_left_out:,} listed words were left out: the tokenizer does not know them whole.")


def _print_wrong(report: ProbeReport, out: Console) -> None:
    table = Table("label", "probability", "source", "spans on which it is most wrong")
    for span in report.wrong:
        text = " ".join(span.text.split())
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        table.add_row(f"{span.label:g}", f"{span.probability:.3f}", Text(visible(span.source)), Text(visible(shown)))
    out.print(table)


def _calibration(report: CalibrationReport) -> Table:
    table = Table("probability from", "expected error", "Brier score")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("the score as a logit", f"{report.error_before:.3f}", f"{report.brier_before:.3f}")
    table.add_row(f"the fitted curve ({report.kind})", f"{report.error_after:.3f}", f"{report.brier_after:.3f}")
    return table


def _measured(measured: Estimate | None) -> str:
    return f"{measured.value:.3f} ({measured.low:.3f} to {measured.high:.3f})" if measured else "-"


def _features(features: Sequence[Feature]) -> str:
    layers = [f"{f.pool} of {'its own ' if f.tail else ''}layer {f.layer}" for f in features]
    return ", ".join(layers)


def print_card(head: Head, path: str, out: Console) -> None:
    """Print what the file of a probe says about it."""
    card = head.card
    curve = card.calibration
    say(out, path)
    table = Table(show_header=False)
    table.add_row("axis", Text(card.axis))
    table.add_row("a high score means", Text(visible(card.meaning)))
    before = f"; texts stand after {card.prefix!r}" if card.prefix else ""
    table.add_row("encoder", Text(visible(f"{card.encoder.name}, {card.max_length} tokens at most{before}")))
    table.add_row("reads", f"{_features(card.features)}; width {head.width}")
    if head.words:
        names = ", ".join(head.words.groups)
        table.add_row("words", Text(visible(f"{head.words.entries:,} listed, in the groups {names}")))
    if head.tail:
        table.add_row("own layers", ", ".join(map(str, sorted(head.tail))))
    table.add_row("must score low", Text(visible(card.anchors[0])))
    table.add_row("must score high", Text(visible(card.anchors[1])))
    table.add_row("p(axis)", "no curve" if curve is None else _curve(curve))
    for source in card.sources:
        table.add_row("trained on", Text(visible(_plain(source))))
    out.print(table)


def _plain(data: object) -> str:
    """JSON for people: `name: forum; result: low 0.8, high 0.9`."""
    if not isinstance(data, dict):
        return str(data)
    nested = {key: ", ".join(f"{k} {v}" for k, v in d.items()) if isinstance(d, dict) else d for key, d in data.items()}
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in nested.items())


def _curve(curve: Platt | Isotonic) -> str:
    if curve.kind == "platt":
        return f"1 / (1 + exp(-({curve.a:.4g} * score + {curve.b:.4g})))"
    return f"isotonic, {len(curve.scores)} knots"
