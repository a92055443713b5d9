"""Prints documents in colour, as tagged text or span by span with scores; each axis and each tag has a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from annotate.cli.terminal import LOG_WIDTH, visible

if TYPE_CHECKING:
    import pyarrow as pa

    from annotate.engine.datasets import Dataset
    from annotate.reports.documents import ScoredDocument
    from annotate.stages.render import Render

COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
BARS = "▁▂▃▄▅▆▇█"  # one for each eighth of the sorted calibration sample

LINE_BREAK = "↵"


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each axis or tag, by its position."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def tag_colours(tag_axes: Mapping[str, Sequence[str]], axes: Sequence[str]) -> dict[str, str]:
    """A colour for each tag: that of the axis in its rule. If two tags read one axis, colours go by position."""
    firsts = [next((axis for axis in used if axis in axes), "") for used in tag_axes.values()]
    if len(set(firsts)) < len(firsts) or "" in firsts:
        return colours(list(tag_axes))
    by_axis = colours(axes)
    return {tag: by_axis[axis] for tag, axis in zip(tag_axes, firsts, strict=True)}


def tagged_text(text: str, placements: Sequence[Mapping[str, object]], colour_of: Mapping[str, str]) -> Text:
    """Colour a tagged document: tags in bold, and the text after tags in the colour of the first of them.

    Args:
        text: the tagged text.
        placements: its placements, as a training shard has them.
        colour_of: colours by name of tag; other tags are dim.
    """
    text = visible(text)
    shown = Text()
    at = inserted = 0
    colour, place = "dim", -1
    for placement in placements:
        spelled = {"close": f"</{placement['tag']}>", "escape": "\\"}.get(
            str(placement["kind"]), f"<{placement['tag']}>"
        )
        offset = int(str(placement["offset"]))
        start = offset + inserted
        shown.append(text[at:start], style=colour)
        own = colour_of.get(str(placement["tag"]), "dim")
        colour = own if offset != place else colour
        shown.append(text[start : start + len(spelled)], style=f"bold reverse {own}")
        at, inserted, place = start + len(spelled), inserted + len(spelled), offset
    shown.append(text[at:], style=colour)
    return shown


def panel(body: Text, name: str, characters: int | None) -> Panel:
    """A document in a frame with its name. It is cut to `characters`, and a line says how many are left out."""
    left = len(body) - characters if characters is not None else 0
    if left > 0:
        body = body[:characters] + Text(f"\n... {left:,} more characters", style="dim")
    return Panel(body, title=Text(visible(name)), title_align="left")


def span_table(
    document: ScoredDocument,
    axis_colours: Mapping[str, str],
    tag_colours: Mapping[str, str],
    samples: Mapping[str, npt.NDArray[np.float32]],
    spans: int | None,
) -> Table:
    """A document as a table. A row is a span: its number, a score and a bar for each axis, its tags and its text.

    Args:
        document: the document.
        axis_colours: colour by axis.
        tag_colours: colour by tag.
        samples: sorted scores by axis, from which bars are drawn; an axis without a sample has no bar.
        spans: the most rows; None for all.
    """
    shown = list(document.scores)
    table = Table(box=None, pad_edge=False, show_header=bool(shown))
    table.add_column("", justify="right", style="dim")
    for axis in shown:
        table.add_column(Text(axis, style=axis_colours.get(axis, "")), justify="right", no_wrap=True)
    table.add_column("", ratio=1)
    for i, text in enumerate(document.spans[:spans]):
        scores = [_score(document.scores[axis][i], axis_colours.get(axis, ""), samples.get(axis)) for axis in shown]
        tags = [Text(f"<{tag}>", style=f"bold {tag_colours.get(tag, 'dim')}") for tag in document.tags[i]]
        table.add_row(str(i), *scores, Text.assemble(*tags, _one_line(text)))
    if spans is not None and len(document.spans) > spans:
        table.add_row(*[""] * (1 + len(shown)), Text(f"... {len(document.spans) - spans:,} more spans", style="dim"))
    return table


def _score(value: float | None, colour: str, sample: npt.NDArray[np.float32] | None) -> Text:
    if value is None:
        return Text("no score", style="dim")
    if sample is None or len(sample) == 0:
        return Text(f"{value:.3f}", style=colour)
    # Equal scores count half, so that neither a tie nor a sample of equal scores looks extreme.
    below, upto = (np.searchsorted(sample, np.float32(value), side) for side in ("left", "right"))
    share = float(below + upto) / 2 / len(sample)
    bar = BARS[min(int(share * len(BARS)), len(BARS) - 1)]
    return Text(f"{value:.3f} {bar}", style=colour)


def _one_line(text: str) -> Text:
    """A span's text with line breaks as dim marks; all dim if it is only blanks."""
    shown = Text(visible(text).replace("\n", LINE_BREAK), style="" if text.strip() else "dim")
    shown.highlight_regex(LINE_BREAK, "dim")
    return shown


def example(stage: Render, dataset: Dataset, console: Console, *, documents: int = 2, characters: int = 900) -> None:
    """Print some documents that show the most tags in the fewest characters."""
    from annotate.storage.parts import read_part

    tagged = (unit for unit in dataset.units() if any(entry.counts.get("tags") for entry in unit.entries))
    unit = next(tagged, next(dataset.units(), None))  # the first shards may be of a phase without tags
    if unit is None or not unit.entries:
        return
    table = read_part(dataset.directory, unit.entries[0].part, schema=stage.schema).slice(0, 2000)
    rows = sorted(range(table.num_rows), key=lambda i: -_variety(table, i))[:documents]
    colour_of = colours([name for place in stage.placements.places for name in place.scheme.shown])
    for i in rows:
        shown = tagged_text(table["text"][i].as_py(), table["placements"][i].as_py(), colour_of)
        # A log is read in any terminal, and longer lines of a frame would break. soft_wrap would cut them.
        width = None if console.is_terminal else min(LOG_WIDTH, console.width)
        console.print(panel(shown, str(table["id"][i].as_py()), characters), soft_wrap=False, width=width)


def _variety(table: pa.Table, i: int) -> float:
    placements = table["placements"][i].as_py()
    length = len(table["text"][i].as_py())
    return len({p["tag"] for p in placements}) + min(len(placements), 12) / 12 - abs(length - 800) / 4000
