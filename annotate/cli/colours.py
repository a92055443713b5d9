"""Documents in colour: tagged text as it stands in a shard, each tag and the span after it in the tag's colour."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from annotate.engine.datasets import Dataset
from annotate.stages.render import Render
from annotate.storage.parts import read_part

COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")


def tagged_text(text: str, placements: list[dict[str, object]], tags: list[str]) -> Text:
    """Colour a tagged document: tags bold in their colour, the text after them in the colour of the last.

    Args:
        text: the tagged text.
        placements: its placements, as a training shard has them.
        tags: names of all tags, whose order gives the colours.
    """
    shown = Text()
    at = inserted = 0
    colour = "dim"
    place = -1
    for placement in placements:
        spelled = f"<{placement['tag']}>" if placement["kind"] == "open" else "\\"
        offset = int(str(placement["offset"]))
        start = offset + inserted
        shown.append(text[at:start], style=colour)
        colour = COLOURS[tags.index(str(placement["tag"])) % len(COLOURS)] if placement["tag"] in tags else "dim"
        shown.append(
            text[start : start + len(spelled)], style=f"bold reverse {colour}" if offset != place else f"bold {colour}"
        )
        at, inserted, place = start + len(spelled), inserted + len(spelled), offset
    shown.append(text[at:], style=colour)
    return shown


def example(stage: Render, dataset: Dataset, console: Console, *, documents: int = 2, characters: int = 900) -> None:
    """Print some documents that show the most tags in the fewest characters."""
    unit = next(dataset.units(), None)
    if unit is None or not unit.entries:
        return
    table = read_part(dataset.directory, unit.entries[0].part, schema=stage.schema).slice(0, 2000)
    rows = sorted(range(table.num_rows), key=lambda i: -_variety(table, i))[:documents]
    tags = [tag.name for tag in stage.placements.scheme.tags]
    for i in rows:
        shown = tagged_text(table["text"][i].as_py(), table["placements"][i].as_py(), tags)
        shown.truncate(characters, overflow="ellipsis")
        console.print(Panel(shown, title=str(table["id"][i].as_py()), title_align="left"))


def _variety(table: pa.Table, i: int) -> float:
    placements = table["placements"][i].as_py()
    length = len(table["text"][i].as_py())
    return len({p["tag"] for p in placements}) + min(len(placements), 12) / 12 - abs(length - 800) / 4000
