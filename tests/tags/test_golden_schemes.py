"""Every preset, layout, dropout and control, in a file for people: spans and scores, and the text they give.

PYTHONPATH=. python tests/tags/test_golden_schemes.py --write      # after a change that is meant
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from annotate.tags.group_quantiles import fit_quantiles
from annotate.tags.placing import place
from annotate.tags.rendering import render
from annotate.tags.scheme import TagScheme
from annotate.tags.scheme_file import parse_scheme, presets
from annotate.tags.states import Measured

GOLDEN = Path(__file__).parents[1] / "golden" / "schemes.txt"
DOCUMENTS = (
    ("One is here. ", "Two came late. ", "Three never did. ", "Four is the last of them."),
    ("Caf\u00e9 au lait. ", "\u4f60\u597d\u3002", "Five words, or is it six?"),
    ("Alone it stands, and has so many words that some of them are marked where marks are drawn.",),
)
SCORES = {
    "x": [0.9, 0.8, 0.1, 0.7, 0.2, None, 0.6, 0.95],
    "y": [0.1, 0.9, 0.9, 0.3, 0.5, 0.5, 0.8, 0.2],
    "toxicity": [0.0001, 0.00056, 0.0006, 0.9, None, 0.2, 0.0, 0.00055],
    "unsafety": [0, 5, 4, 3, 0, 1, 4.5, 5],
    "reward": [1, 2, 3, 4, 5, 6, 7, 8],
    **{axis: [0, 0.5, 0.6, 4, 2.6, 1.5, 1.51, 3] for axis in ("quality", "humor", "creativity")},
    **{axis: [1, 2, 3, 4, 5, 6, 7, 8] for axis in ("niceness", "tone", "correctness")},
}
COLUMNS = {"source": ["wiki", "github.com", "elsewhere"], "domain": ["News", "Wikipedia", None]}

ONE = """[[family]]
name = "x"
{}tags = {{ good = "x >= 0.5" }}
"""
TWO = """[[family]]
name = "x"
{0}tags = {{ good = "x >= 0.5", bad = "else" }}

[[family]]
name = "y"
{0}tags = {{ firm = "y >= 0.5" }}
"""
ALIAS = """
[[alias]]
name = "ideal"
tags = ["good", "firm"]
expand = false
"""
LAYOUTS = ("prefix", "begin-end", "change", "suffix")
CASES = {
    **{f'layout "{layout}"': ONE.format(f'layout = "{layout}"\n') for layout in LAYOUTS},
    'layout "repeat", every third word': ONE.format('layout = "repeat"\nrate = 0.333\n'),
    "a null tag": ONE.format('null = "unknown"\n'),
    "both polarities, nested": TWO.format('layout = "begin-end"\n'),
    "both polarities, nested, shuffled": 'order = "shuffled"\n' + TWO.format('layout = "begin-end"\n'),
    "a dead zone": ONE.format("").replace('{ good = "x >= 0.5" }', '{ good = "x >= 0.8", bad = "x <= 0.2" }'),
    "grades by cuts": '[[family]]\nname = "grade"\naxis = "x"\ncuts = [0.3, 0.8]\nnames = ["low", "middle", "high"]\n',
    "a quantile of each source": ONE.format("").replace("x >= 0.5", "x >= q(0.5, by=source)"),
    "grades of each domain, null being one": '[[family]]\nname = "grade"\naxis = "y"\nbins = 2\nby = ["domain"]\n',
    "composed of two axes": ONE.format("").replace("x >= 0.5", "x >= 0.5 and not y > 0.85"),
    "half of the documents untagged": "document_dropout = 0.5\n" + TWO.format(""),
    "half of each family's tags dropped": TWO.format("dropout = 0.5\n"),
    "an alias that stands for two": TWO.format("") + ALIAS,
    **{
        f'control "{control}"': f'control = "{control}"\n' + TWO.format("")
        for control in ("shuffled", "shuffled-in-document", "constant", "reversed", "hashed-names", "untagged")
    },
    **{f"preset {name}": text for name, text in presets().items()},
}  # fmt: skip


def tagged(scheme: TagScheme) -> list[str]:
    spans = [span for document in DOCUMENTS for span in document]
    rows, start, byte_start = [], 0, 0
    for row, document in enumerate(DOCUMENTS):
        start = byte_start = 0
        for number, span in enumerate(document):
            rows.append((row, number, start, start + len(span), byte_start, byte_start + len(span.encode())))
            start, byte_start = rows[-1][3], rows[-1][5]
    names = ("row", "span", "start", "end", "byte_start", "byte_end")
    table = pa.table([pa.array(column) for column in np.array(rows, np.int64).T], names=names)
    scores = {axis: np.array(values, np.float32) for axis, values in SCORES.items()}
    row = table["row"].combine_chunks()
    columns = {name: pa.array(values, pa.string()).take(row) for name, values in COLUMNS.items()}
    thresholds = fit_quantiles(scheme.quantiles, scores, columns)
    measured = Measured(spans=table, scores=scores, thresholds=thresholds, curves={}, columns=columns, shard="golden")
    placed = place(measured, scheme, texts=pa.array(spans, pa.large_string()))
    return render(pa.array(["".join(document) for document in DOCUMENTS], pa.large_string()), placed).to_pylist()


def golden() -> Iterator[str]:
    """The file, line by line."""
    yield "Spans and scores"
    number = 0
    for document in range(len(DOCUMENTS)):
        yield "    " + ", ".join(f"{name}: {values[document]}" for name, values in COLUMNS.items())
        for span in DOCUMENTS[document]:
            told = ", ".join(f"{axis} {values[number]}" for axis, values in SCORES.items())
            yield f"        {span!r}: {told}"
            number += 1
    for title, text in CASES.items():
        yield from ("", "=" * 100, title, "-" * 100, *text.rstrip().splitlines(), "")
        for shown in tagged(parse_scheme(text, title)):
            yield f"    {shown}"


def test_every_scheme_gives_the_golden_text() -> None:
    assert "\n".join(golden()) + "\n" == GOLDEN.read_text("utf-8")


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    GOLDEN.write_text("\n".join(golden()) + "\n", "utf-8")
