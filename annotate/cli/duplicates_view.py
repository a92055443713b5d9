"""A report of the near-duplicate filter on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from annotate.amounts import counted
from annotate.cli.terminal import say, visible
from annotate.cli.text_diff import difference
from annotate.reports.duplicates import DuplicatesReport, Sources
from annotate.reports.large_clusters import Cluster, Document, SizeClass

BAR = 10  # characters of the bar for a chance of 100 %


def print_report(report: DuplicatesReport, out: Console) -> None:
    """Print all sections of a report."""
    out.print(_documents(report))
    for style, text in loud(report):
        say(out, text, style)
    if report.sizes:
        _title(out, f"Clusters of 2 documents or more, by size: {report.clusters:,} in all")
        out.print(_sizes(report))
    if report.largest:
        _title(out, _largest_title(report))
        for cluster in report.largest:
            _print_cluster(cluster, out)
    if report.sources.total is None:
        say(out, f"The column {report.sources.of!r} has too many values to be listed as sources.", "yellow")
    elif report.dropped:
        _title(out, _sources_title(report.sources))
        out.print(_sources(report.sources))
    _title(out, _curve_title(report))
    out.print(_curve(report))
    _title(out, "Split groups")
    _print_groups(report, out)


def loud(report: DuplicatesReport) -> list[tuple[str, str]]:
    """The lines that must not be overlooked, each after its style."""
    said = [("bold red", f"! {visible(text)}") for text in report.remarks]
    if not report.dropped and not report.remarks:
        said.append(("bold yellow", "! no duplicates found"))
    return said


def _title(out: Console, text: str) -> None:
    out.print()
    say(out, visible(text), "bold")


def _share(n: int, of: int) -> str:
    return f"{n / of:.1%}" if of else "-"


def _right(table: Table, *columns: int) -> Table:
    for i in columns:
        table.columns[i].justify = "right"
        table.columns[i].no_wrap = True
    return table


def _documents(report: DuplicatesReport) -> Table:
    table = _right(Table("", "documents", "share", title="Documents"), 1, 2)
    rows = {
        "input": report.documents + report.not_reached,
        "exact copies, dropped": report.exact_copies,
        "near-duplicates, dropped": report.near_duplicates,
        "unusable (null, empty, not UTF-8)": report.unusable,
        "kept": report.kept,
    }
    if report.not_reached:
        rows["not reached (--limit)"] = report.not_reached
    for name, n in rows.items():
        table.add_row(name, f"{n:,}", _share(n, report.documents + report.not_reached))
    dropped, all_ = report.characters_dropped, report.characters
    table.add_section()
    table.add_row("characters dropped", f"{dropped:,}", _share(dropped, all_))
    return table


def _range(size: SizeClass) -> str:
    if size.most is None:
        return f"{size.least:,} or more"
    return f"{size.least:,}" if size.most == size.least else f"{size.least:,} to {size.most:,}"


def _sizes(report: DuplicatesReport) -> Table:
    table = _right(Table("size", "clusters", "documents"), 0, 1, 2)
    for size in report.sizes:
        table.add_row(_range(size), f"{size.clusters:,}", f"{size.documents:,}")
    return table


def _largest_title(report: DuplicatesReport) -> str:
    n = len(report.largest)
    which = "The largest cluster" if n == 1 else f"The {n} largest clusters"
    return f"{which}; [-only in the keeper-] and {{+only in its least similar document+}}"


def named(document: Document) -> str:
    """A document, for people: its shard, row and id."""
    of = ", of the older corpus" if document.against else ""
    name = f" ({document.id}{of})" if document.id is not None else of
    return visible(f"{document.shard}:{document.row}{name}")


def _print_cluster(cluster: Cluster, out: Console) -> None:
    members = ", ".join(named(document) for document in cluster.members[1:])
    left = cluster.documents - len(cluster.members)
    out.print(
        Text.assemble(
            (f"{counted(cluster.documents, 'document')}", "bold"),
            (f"  cluster {cluster.cluster}", "dim"),
            f"\n  keeper {named(cluster.keeper)}; others: {members}" + (f" and {left:,} more" if left else ""),
        ),
        soft_wrap=True,
    )
    if cluster.texts is None or cluster.other is None or cluster.similarity is None:
        say(out, "  all its documents are kept", "dim")
        return
    title = f"keeper and {named(cluster.other)}, similarity {cluster.similarity:.2f}"
    out.print(Panel(difference(*cluster.texts), title=Text(title), title_align="left"))


def _sources_title(sources: Sources) -> str:
    of = "Dropped by shard" if sources.of is None else f"Dropped by {visible(sources.of)}"
    listed = len(sources.sources)
    return of if listed == sources.total else f"{of}: the {listed} of {sources.total:,} with the most dropped"


def _sources(sources: Sources) -> Table:
    table = _right(Table(Column(Text(visible(sources.of or "shard"))), "documents", "dropped", "share"), 1, 2, 3)
    for source in sources.sources:
        name = Text("null", style="dim") if source.name is None else Text(visible(source.name))
        table.add_row(name, f"{source.documents:,}", f"{source.dropped:,}", _share(source.dropped, source.documents))
    return table


def _ways(report: DuplicatesReport) -> list[str]:
    return [f"{bands} x {rows}" for bands, rows in report.ways]


def _curve_title(report: DuplicatesReport) -> str:
    return f"Chance that a pair is found, by its similarity, with bands x rows {' and '.join(_ways(report))}"


def _curve(report: DuplicatesReport) -> Table:
    ways = [f"candidate by {way}" for way in _ways(report)]
    how = "estimated at" if report.verify == "estimate" else "exactly"
    both = f"candidate, and {how} {report.threshold:g} or above"
    table = _right(Table("similarity", *ways, both), 0, *range(1, 1 + len(ways)))
    for chance in report.curve:
        bar = f"{chance.found:5.1%}".rjust(6) + " " + "█" * round(chance.found * BAR)
        style = "bold" if chance.similarity == report.threshold else ""
        by_way = [f"{share:.1%}" for share in chance.caught]
        table.add_row(f"{chance.similarity:.4g}", *by_way, Text(bar), style=style)
    return table


def _print_groups(report: DuplicatesReport, out: Console) -> None:
    groups = report.groups
    if groups.groups:
        say(
            out,
            f"{counted(groups.groups, 'group')} of 2 documents or more, with {counted(groups.documents, 'document')}; "
            f"the largest has {groups.largest:,}.",
        )
    else:
        say(out, "No group has 2 documents or more.")
    if groups.cut:
        were = "1 group was" if groups.cut == 1 else f"{groups.cut:,} groups were"
        say(
            out,
            f"{were} too large and cut, with {counted(groups.documents_of_cut, 'document')}: each of their clusters is "
            "now a group.",
            "bold yellow",
        )
