"""The ledgers of a run as a table: one row for each state of documents, one column for each output."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from annotate.cli.terminal import visible
from annotate.engine.ledger import Ledger


def ledger_table(ledgers: Mapping[str, Ledger], described: Mapping[str, str]) -> Table:
    """Make a table of ledgers.

    Args:
        ledgers: by the name of the output.
        described: by the name of the output, its heading. No heading is shown for a single output without subset and
            control.
    """
    headings = [described.get(name, name) for name in ledgers]
    table = Table(show_header=len(ledgers) > 1 or headings != list(ledgers))
    table.add_column()
    for heading in headings:
        table.add_column(Text(visible(heading)), justify="right")
    table.add_row("input", *(f"{ledger.documents:,}" for ledger in ledgers.values()))
    for state in dict.fromkeys(state for ledger in ledgers.values() for state in ledger.states):
        counts = [ledger.states.get(state) for ledger in ledgers.values()]
        table.add_row(state.replace("_", " "), *("-" if n is None else f"{n:,}" for n in counts))
    for name in dict.fromkeys(name for ledger in ledgers.values() for name in ledger.beside):
        counts = [ledger.beside.get(name) for ledger in ledgers.values()]
        if any(counts):
            shown = ["-" if n is None else f"{n:,}" for n in counts]
            table.add_row(*(Text(each, style="dim") for each in (name.replace("_", " "), *shown)))
    return table
