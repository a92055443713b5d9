"""Where tags of spans end, by the bytes of the text that is written, of both splits of a nesting."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from tokenizers import Tokenizer, models

from annotate.stages.shared.selection import SelectedDocuments
from annotate.stages.token_shards import placed_until
from annotate.tags.gaps import gaps_of, leave_out
from annotate.text.splitting import Splitter


def spans(*edges: tuple[int, int, int]) -> pa.Table:
    """Rows and ranges in bytes, of a text that has an `é` before all of it: a code point more counts for two."""
    names = ("row", "start", "end", "byte_start", "byte_end")
    ranges = [(row, max(0, a - 1), b - 1, a, b) for row, a, b in edges]
    return pa.table([pa.array(column, pa.int64()) for column in zip(*ranges, strict=True)], names=names)


def test_spans_end_where_they_do_without_what_is_left_out():
    texts = ["éa. bb. cc. dd.", "éone.", "éa. bb. cc."]
    inner = spans(
        (10, 0, 4), (10, 4, 8), (10, 8, 12), (10, 12, 16), (11, 0, 6), (12, 0, 4), (12, 4, 8), (12, 8, 12)
    )  # fmt: skip
    outer = spans((10, 0, 8), (10, 8, 16), (11, 0, 6), (12, 0, 12))
    dropped = [False, True, True, False, False, True, False, False]
    placements = [  # of the kept inner spans, of the outer ones, and of a family that goes on
        (10, 0, 0, "out"),
        (10, 0, 0, "in"),
        (10, 7, 8, "out"),
        (10, 11, 12, "in"),
        (11, 0, 0, "on"),
        (11, 0, 0, "in"),
        (12, 0, 0, "out"),
        (12, 3, 4, "in"),
    ]
    row, offset, byte_offset, tag = zip(*placements, strict=True)
    placed = pa.table({"row": row, "offset": offset, "byte_offset": byte_offset, "tag": tag, "kind": ["open"] * 8})
    gaps = gaps_of(inner, pa.array(dropped).to_numpy(zero_copy_only=False))
    gaps = gaps.set_column(0, "row", pa.array(gaps["row"].to_numpy() - 10))
    table = pa.table({"row": [10, 11, 12], "text": leave_out(pa.array(texts), gaps)})
    assert table["text"].to_pylist() == ["éa. dd.", "éone.", " bb. cc."]
    documents = SelectedDocuments(table, gaps).chosen(pa.array([True, False, True]).to_numpy(zero_copy_only=False))
    tables = {"placements": placed, "spans-0": outer, "spans-1": inner}
    unit = type("Unit", (), {"rows": range(10, 13), "__getitem__": lambda _, name: tables[name]})()
    found = placed_until(documents, unit, {0: ["out"], 1: ["in"]})
    assert found.to_pydict() == {
        "row": [0, 0, 0, 0, 1, 1],
        "byte_offset": [0, 0, 4, 4, 0, 0],
        "byte_end": [4, 4, 8, 8, 8, 4],
        "tag": ["out", "in", "out", "in", "out", "in"],
        "kind": ["open"] * 6,
    }
    alone = placed_until(SelectedDocuments(table, None), unit, {1: ["in"]})
    assert alone["byte_end"].to_pylist() == [None, 4, None, 16, None, 6, None, 8]


def test_tags_json_has_no_path_of_the_machine(tmp_path: Path):
    file = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(file))
    said = [Splitter(by="tokens", tokenizer=str(place)).settings() for place in (file, tmp_path)]
    assert said[0] == said[1] and str(tmp_path) not in json.dumps(said)
    assert said[0]["tokenizer"] == hashlib.sha256(file.read_bytes()).hexdigest() and said[0]["tokens"] == 128
    line = Splitter(by="line")
    assert line.settings() == asdict(line)
