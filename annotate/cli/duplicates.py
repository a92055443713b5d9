"""`annotate duplicates`: the near-duplicate filter alone, with a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import click
import pyarrow as pa

from annotate.cli.duplicates_view import print_report
from annotate.cli.run import HOW, HOW_NAMES, WORKDIR, ready_to_run, with_options
from annotate.cli.terminal import console
from annotate.corpus.files import find_files, is_jsonl
from annotate.engine.options import Options
from annotate.errors import ConfigError, InputError
from annotate.minhash.reference import Tokens
from annotate.pipeline import Pipeline
from annotate.reports.duplicates import check_workdir, filter_alone, find_duplicates
from annotate.stages.corpus import Corpus
from annotate.stages.duplicates.clusters import HIGHEST
from annotate.stages.near_duplicates import NearDuplicates

MOST_MB = 1 << 16

_OPTIONS = with_options(
    WORKDIR,
    click.option("--text", default="text", show_default=True, help="The column with the text."),
    click.option("--id", "name", metavar="COL", help="The column with ids, which are shown beside shard and row."),
    click.option("--threshold", default=0.8, show_default=True, help="Least Jaccard similarity of near-duplicates."),
    click.option(
        "--keep", default="longest", show_default=True, help="Of a cluster, keep the longest, earliest, or highest:COL."
    ),
    click.option("--most", default=1, show_default=True, help="How many documents of a cluster are kept."),
    click.option(
        "--against", metavar="CORPUS", help="An older corpus, whose documents are kept before those of CORPUS."
    ),
    click.option("--shingle", default=5, show_default=True, help="Tokens in a shingle."),
    click.option("--tokens", type=click.Choice(get_args(Tokens)), default="words", show_default=True),
    click.option("--permutations", default=128, show_default=True, help="Values in a signature."),
    click.option(
        "--bands", metavar="B,R", help="Bands and rows to find candidates by, as 9,13 [datasketch's optimum]."
    ),
    click.option(
        "--verify",
        type=click.Choice(["estimate", "exact"]),
        default="estimate",
        show_default=True,
        help="Whether similarity is estimated from signatures, or computed exactly from the texts.",
    ),
    click.option(
        "--group-threshold", type=float, help="Least similarity for one split group [0.45, at most --threshold]."
    ),
    click.option("--group-bands", metavar="B,R", default="32,4", show_default=True, help="--bands, for split groups."),
    click.option(
        "--group-span",
        type=click.IntRange(0),
        default=100,
        show_default=True,
        help="Shared tokens in a row that suffice for one split group; 0: none do.",
    ),
    click.option("--unit-mb", type=float, help="Text in a work unit; by default chosen by the size of the corpus."),
    click.option(
        "--unreadable",
        type=click.Choice(["error", "quarantine"]),
        default="error",
        show_default=True,
        help="What to do with files that can't be read: stop with an error, or pass them over.",
    ),
    *HOW,
    click.option("--source", metavar="COL", help="Show the share dropped for each value of this column [each shard]."),
    click.option("--clusters", type=click.IntRange(0, 1000), default=5, show_default=True, help="Clusters to show."),
    click.option(
        "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file."
    ),
)


@click.command()
@click.argument("corpus")
@_OPTIONS
def command(
    corpus: str, *, workdir: str, source: str | None, clusters: int, file: Path | None, **settings: Any
) -> None:
    """Find near-duplicates in CORPUS, and report on them.

    CORPUS is a file, directory, glob or URL; it is not changed. Verdicts are kept in the work directory, so another
    report with --source or --clusters takes seconds.
    """
    options = Options(**{name: settings.pop(name) for name in HOW_NAMES})
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(
            f"--json {file}: there is no directory {file.absolute().parent}", hint="Make it, or name another file."
        )
    verdicts = the_filter(corpus, source=source, **settings)
    check_workdir(workdir)
    _check_columns(verdicts, source)
    out = console()
    with ready_to_run(Pipeline(**filter_alone(verdicts)), workdir, options, out) as watching:
        report = find_duplicates(verdicts, workdir, options, source=source, clusters=clusters, observer=watching)
    print_report(report, out)
    if file is not None:
        file.write_text(json.dumps(report.figures(), indent=1) + "\n", "utf-8")


def the_filter(
    path: str,
    *,
    source: str | None,
    text: str,
    name: str | None,
    keep: str,
    against: str | None,
    unit_mb: float | None,
    unreadable: Literal["error", "quarantine"],
    bands: str | None,
    group_bands: str,
    group_span: int,
    **settings: Any,
) -> NearDuplicates:
    """The filter with the settings of the command line.

    From JSON lines, only the text, the ids and the columns that are named are imported.

    Raises:
        ConfigError: a setting is wrong.
        InputError: there is no such corpus.
    """
    if unit_mb is not None and not 0 < unit_mb <= MOST_MB:
        raise ConfigError(
            f"--unit-mb must be above 0 and at most {MOST_MB}, got {unit_mb}",
            hint="Leave it out: then the size of the corpus decides.",
        )
    unit_bytes = None if unit_mb is None else max(1, round(unit_mb * (1 << 20)))

    def corpus(path: str, *named: str | None) -> Corpus:
        imported = is_jsonl(find_files(path)[0].path)
        columns = tuple(dict.fromkeys(column for column in named if column is not None)) if imported else ()
        return Corpus(path, text=text, id=name, columns=columns, unit_bytes=unit_bytes, unreadable=unreadable)

    return NearDuplicates(
        corpus(path, source, _chooser(keep)),
        keep=keep,
        against=None if against is None else corpus(against, _chooser(keep)),
        bands=None if bands is None else _bands("--bands", bands),
        group_bands=_bands("--group-bands", group_bands),
        group_span=group_span or None,
        **settings,
    )


def _chooser(keep: str) -> str | None:
    """The column that chooses keepers; None if no column does."""
    return keep.removeprefix(HIGHEST) if keep.startswith(HIGHEST) else None


def _bands(option: str, text: str) -> tuple[int, int]:
    try:
        bands, rows = map(int, text.split(","))
    except ValueError:
        raise ConfigError(
            f"{option} takes two numbers, bands and rows, got {text!r}", hint=f"Write them as in {option} 9,13."
        ) from None
    return bands, rows


def _check_columns(verdicts: NearDuplicates, source: str | None) -> None:
    """Check that the first file has the named columns. This is done before Ray is started."""
    chooser = _chooser(verdicts.keep)
    for corpus, names in ((verdicts.corpus, (source, chooser)), (verdicts.against, (chooser,))):
        wanted = [name for name in names if name is not None]
        if isinstance(corpus, Corpus) and wanted and not is_jsonl((files := corpus.files())[0].path):
            for file, footer in corpus.footers(files[:1], threads=1):
                if not isinstance(footer, Exception):
                    _check_schema(str(file), footer.schema, wanted, source)


def _check_schema(file: str, schema: pa.Schema, wanted: Sequence[str], source: str | None) -> None:
    for name in wanted:
        if name not in schema.names:
            raise InputError(
                f"{file} has no column {name!r}; it has: {', '.join(schema.names)}", hint="Name one of these columns."
            )
    if source in wanted and pa.types.is_nested(schema.field(source).type):
        raise ConfigError(
            f"column {source!r} can't name sources: its type is {schema.field(source).type}",
            hint="Choose a column of strings, numbers or dates.",
        )
