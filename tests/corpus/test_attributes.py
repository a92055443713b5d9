"""Attribute files line by line: what a line may be, whose it is, and what is said of one that is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.corpus import attributes as module
from annotate.corpus import jsonl
from annotate.corpus.attributes import AttributeReader, Lines, content_of, find_attributes, stem
from annotate.corpus.source_files import SourceFile
from annotate.errors import InputError
from annotate.storage.store import Directory

NAME = "toxicity__v1__toxic"


def file_of(folder: Path, lines: Sequence[Any], name: str = "a.jsonl.gz") -> SourceFile:
    """Write lines, JSON values or what stands for a line as it is."""
    data = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode(
        "utf-8", "surrogatepass"
    )
    data = gzip.compress(data) if name.endswith(".gz") else data
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return SourceFile(Directory.at(folder), name, name, len(data))


def line(one: Any, value: Any = None, **others: Any) -> dict[str, Any]:
    return {"id": one, "attributes": {NAME: value, **others}}


def told(lines: Lines) -> dict[int, list[tuple[int, int, float]]]:
    """Ranges by place of the document."""
    found = lines.ranges[NAME]
    of = {int(document): [] for document in lines.documents}
    for document, *one in zip(found.document, found.start, found.end, found.score, strict=True):
        of[int(document)].append(tuple(each.item() for each in one))
    return of


def test_values_that_dolma_writes(tmp_path: Path) -> None:
    lines = [
        line("a", [[0, 3, 0.5], [3, 7, 1]], other=[[0, 3, "odd"]], another=1),
        {"attributes": {NAME: [[0.0, 2, 1e-3]]}, "source": "web", "id": "b"},
        line("c", None),
        {"id": "d", "attributes": {}},
        line("e", []),
        line("f", [[2, 2, 0.25], [0, 9, None]]),
    ]
    ids = pa.array(list("abcdef"))
    by_columns = AttributeReader(file_of(tmp_path, lines), [NAME]).take(ids)
    odd = [*lines, line("g", [[0, 1, True]])]  # of which Arrow can make no column
    by_line = AttributeReader(file_of(tmp_path, odd), [NAME]).take(ids)
    for found in (by_columns, by_line):
        np.testing.assert_equal(
            told(found),
            {
                0: [(0, 3, 0.5), (3, 7, 1.0)],
                1: [(0, 2, 0.001)],
                2: [],
                3: [],
                4: [],
                5: [(2, 2, 0.25), (0, 9, np.nan)],
            },
        )


@pytest.mark.parametrize("values", [[0.5, 1, None], [0.5, [[0, 3, 0.25]], None]])
def test_a_bare_number_is_of_the_whole_document(tmp_path: Path, values: list[Any]) -> None:
    file = file_of(tmp_path, [line(f"{i}", value) for i, value in enumerate(values)])
    found = AttributeReader(file, [NAME]).take(pa.array(["0", "1", "2"]))
    assert told(found)[0] == [(0, 1 << 53, 0.5)] and told(found)[2] == [] and len(told(found)[1]) == 1


def test_ids_may_be_integers_on_either_side(tmp_path: Path) -> None:
    file = file_of(tmp_path, [line(7, [[0, 1, 1]]), line("8"), line(1 << 70), line(9)])
    assert AttributeReader(file, [NAME]).take(pa.array([7, 8, 9], pa.uint64())).documents.tolist() == [0, 1]
    names = pa.chunked_array([["7", None], ["8", str(1 << 70), "9"]])
    assert AttributeReader(file, [NAME]).take(names).documents.tolist() == [0, 2, 3, 4]


def test_attributes_may_have_any_name_and_be_asked_for_twice(tmp_path: Path) -> None:
    names = ["id", "line", "0", "id"]
    file = file_of(tmp_path, [{"id": "a", "attributes": {name: [[0, i, i]] for i, name in enumerate(names)}}])
    found = AttributeReader(file, names).take(pa.array(["a"]))
    assert {name: ranges.score.tolist() for name, ranges in found.ranges.items()} == {"id": [3], "line": [1], "0": [2]}


@settings(deadline=None)
@given(data=st.data())
def test_lines_find_their_documents_in_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Documents without lines, repeated ids, units of any size, blocks of any size."""
    ids = data.draw(st.lists(st.sampled_from(["a", "b", "c", "d\u00e9", "\u4f60", None]), max_size=30))
    has = [one is not None and data.draw(st.booleans()) for one in ids]
    # A repeated id: the line is of the first document that it can be of.
    expected, at = [], -1
    kept = [one for one, with_line in zip(ids, has, strict=True) if with_line]
    for one in kept:
        at = ids.index(one, at + 1)
        expected.append(at)
    blank = data.draw(st.sampled_from(["", "\n", "\r\n", " \n"]))
    text = "".join(f"{json.dumps(line(one, [[i, i + 1, i]]))}\n{blank}" for i, one in enumerate(kept))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "BLOCK_BYTES", data.draw(st.integers(1, 400)))
        file = file_of(tmp_path_factory.getbasetemp(), [text], "drawn.jsonl")
        reader = AttributeReader(file, [NAME])
        found, scores, start = [], [], 0
        while start < len(ids):
            stop = start + data.draw(st.integers(1, 9))
            lines = reader.take(pa.array(ids[start:stop], pa.string()))
            found += (lines.documents + start).tolist()
            scores += lines.ranges[NAME].score.tolist()
            start = min(stop, len(ids))
            assert reader.documents == start
        reader.finish()
    assert found == expected and scores == list(range(len(kept)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"id": "b", "attributes": {', "it is not valid JSON"),
        ("[1]", "it is not a JSON object"),
        ({"attributes": {}}, "its id is None, which is neither"),
        ({"id": 1.5, "attributes": {}}, r"its id is 1\.5, which is neither"),
        ({"id": True, "attributes": {}}, "its id is True"),
        ('{"id": "\\ud800", "attributes": {}}', "its id '.ud800' has a lone surrogate"),
        ({"id": "b"}, "it has no object `attributes`"),
        ({"id": "b", "attributes": None}, "it has no object `attributes`"),
        (line("b", "high"), f"the attribute '{NAME}' is 'high', which is neither a list of ranges nor a number"),
        (line("b", [[0, 1]]), r"has \[0, 1\], which is no \[start, end, score\]"),
        (line("b", [[0, 1, 2, 3]]), r"which is no \[start, end, score\]"),
        (line("b", [None]), "has None, which is no"),
        (line("b", [[-1, 1, 0.5]]), r"has \[-1, 1, 0\.5\], which is no"),
        (line("b", [[2, 1, 0.5]]), r"has \[2, 1, 0\.5\], which is no"),
        (line("b", [[0, 1.5, 0.5]]), r"has \[0, 1\.5, 0\.5\], which is no"),
        (line("b", [[None, 1, 0.5]]), r"has \[None, 1, 0\.5\], which is no"),
        (line("b", [[0, 1, "0.5"]]), r"has \[0, 1, '0\.5'\], which is no"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    file = file_of(tmp_path, [line("a", [[0, 1, 1]]), "", bad, line("c")], "x/a.jsonl.gz")
    with pytest.raises(InputError, match=rf"x/a\.jsonl\.gz, line 3: .*{message}"):
        AttributeReader(file, [NAME]).take(pa.array(["a", "b", "c"]))


@pytest.mark.parametrize("ids", [["a", "c", "d"], ["b", "a", "c"]])
def test_a_line_of_no_document_is_named(tmp_path: Path, ids: list[str]) -> None:
    reader = AttributeReader(file_of(tmp_path, [line("a"), line("b"), line("c")]), [NAME])
    reader.take(pa.array(ids))
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, line \d: no document that is left has the id '[bc]'"):
        reader.finish()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = file_of(tmp_path, [line(str(i), [[0, i, i / 7]]) for i in range(3000)])
    data = (tmp_path / "a.jsonl.gz").read_bytes()[:-100]
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    reader = AttributeReader(SourceFile(file.directory, file.path, file.path, len(data)), [NAME])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz is truncated or damaged"):
        reader.take(pa.array([str(i) for i in range(3000)]))
    assert reader.documents > 3000  # it is behind no document, so nobody goes on from here


def test_a_file_of_several_gzip_members_is_read_whole(tmp_path: Path) -> None:
    data = b"".join(gzip.compress(f"{json.dumps(line(str(i)))}\n".encode()) for i in range(3))
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    reader = AttributeReader(SourceFile(Directory.at(tmp_path), "a.jsonl.gz", "a.jsonl.gz", len(data)), [NAME])
    assert reader.take(pa.array(["0", "1", "2"])).documents.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_a_file_is_known_by_what_is_in_it(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAIL_BYTES", 64)
    lines = [line(str(i), [[0, 9, 0.125]]) for i in range(500)]
    one = content_of(file_of(tmp_path / "one", lines, name))
    assert one == content_of(file_of(tmp_path / "two", lines, name))
    lines[3] = line("3", [[0, 9, 0.375]])
    other = content_of(file_of(tmp_path / "three", lines, name))
    assert one != other


def test_files_go_with_shards_of_any_ending(tmp_path: Path) -> None:
    for name in ("x/a.jsonl.gz", "b.json.gz", "c.jsonl", "README.md"):
        file_of(tmp_path, [], name)
    found = find_attributes(Directory.at(tmp_path))
    assert {key: file.path for key, file in found.items()} == {
        "x/a": "x/a.jsonl.gz",
        "b": "b.json.gz",
        "c": "c.jsonl",
    }
    assert [stem(path) for path in ("x/a.parquet", "b.JSON.gz", "c.ndjson.zst", "d")] == ["x/a", "b", "c", "d"]
    file_of(tmp_path, [], "c.jsonl.zst")
    with pytest.raises(InputError, match=r"two attribute files for one shard: c\.jsonl and c\.jsonl\.zst"):
        find_attributes(Directory.at(tmp_path))
    with pytest.raises(InputError, match="there are no attribute files in"):
        find_attributes(Directory.at(tmp_path / "none"))
