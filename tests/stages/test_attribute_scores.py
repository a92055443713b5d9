"""Attribute files as annotations, unit by unit, without Ray: which line is whose, and what a span gets of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer

from annotate import (
    AttributeScores,
    Calibrate,
    ConfigError,
    Corpus,
    InputError,
    NearDuplicates,
    Split,
    Splitter,
    score,
)
from annotate.engine.source import open_source
from annotate.graph import Tables
from annotate.stages import attributes as module
from annotate.storage.contracts import contract
from annotate.storage.manifests import Unit
from annotate.storage.parts import commit
from annotate.storage.store import Directory

NAME = "tox__v1__toxic"
TEXT = "Caf\u00e9 \U0001f600 one.\nTwo lines.\n"  # lines of 12 and 11 code points


def write(folder: Path, documents: int, lines: Sequence[dict[str, Any]], shard: str = "a") -> None:
    """A shard of equal texts, with ids 0, 1, ..., and its attributes."""
    place = folder / "documents" / f"{shard}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    ids = [str(i) for i in range(documents)]
    pq.write_table(pa.table({"id": ids, "text": [TEXT] * documents}), place, row_group_size=7)
    attributes = folder / "attributes" / f"{shard}.jsonl.gz"
    attributes.parent.mkdir(parents=True, exist_ok=True)
    attributes.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


def line(one: int, *ranges: list[Any]) -> dict[str, Any]:
    return {"id": str(one), "attributes": {NAME: list(ranges)}}


def made(folder: Path, unit_bytes: int = 100, **options: Any) -> AttributeScores:
    spans = Split(Corpus(str(folder / "documents"), unit_bytes=unit_bytes), Splitter(by="line", blanks="previous"))
    chosen = {"attributes": {"toxicity": NAME}, **options}
    return AttributeScores(spans, str(folder / "attributes"), **chosen)


def units(stage: AttributeScores, folder: Path) -> Iterator[Tables]:
    """What the units of the stage read."""
    workdir = Directory.at(folder / "out")
    corpus = open_source(stage.corpus, workdir)
    attributes = open_source(stage.files, workdir, inputs={"corpus": corpus})
    for i, (unit, files) in enumerate(zip(corpus.units(), attributes.units(), strict=True)):
        split = stage.spans.unit(Tables(stage.spans, workdir, {"corpus": unit}, {}))
        entry = commit(workdir.child(stage.spans.dataset), f"{i}", split, schema="spans")
        spans = Unit(unit.shard, unit.start, unit.stop, unit.text_bytes, (entry,))
        yield Tables(stage, workdir, {"spans": spans, "corpus": unit, "attributes": files}, {})


def scores(stage: AttributeScores, folder: Path, order: slice = slice(None)) -> pa.Table:
    """The annotations, with units made in some order, as the table of the whole."""
    outputs = {tables.rows.start: stage.unit(tables) for tables in list(units(stage, folder))[order]}
    tables = [contract("annotations").check(outputs[start].table, "here") for start in sorted(outputs)]
    return pa.concat_tables(tables)


LINES = [
    line(0, [0, 12, 0.25], [12, 23, 0.75]),
    line(2, [0, 23, 1]),
    line(3, [6, 18, 1.0]),
    {"id": "5", "attributes": {}},
    *[line(i, [0, 23, i / 64]) for i in range(6, 40, 3)],
]


def expected(unmarked: float | None) -> np.ndarray[Any, Any]:
    found = np.full((40, 2), np.nan)
    found[0], found[2] = (0.25, 0.75), 1
    found[3] = (1, 1) if unmarked is None else (6 / 12, 6 / 11)
    found[5] = np.nan if unmarked is None else 0
    found[6:40:3] = np.arange(6, 40, 3)[:, None] / 64
    return found.astype(np.float32)


@pytest.mark.parametrize("unit_bytes", [1, 500, 1 << 20])
@pytest.mark.parametrize("unmarked", [None, 0.0])
def test_spans_get_what_overlaps_them(tmp_path: Path, unit_bytes: int, unmarked: float | None) -> None:
    write(tmp_path, 40, LINES)
    table = scores(made(tmp_path, unit_bytes, unmarked=unmarked), tmp_path)
    assert table["row"].to_pylist() == np.repeat(np.arange(40), 2).tolist()
    assert table["span"].to_pylist() == [0, 1] * 40
    values = table["toxicity"].to_numpy(zero_copy_only=False).reshape(-1, 2)
    np.testing.assert_array_equal(values, expected(unmarked))
    assert table["toxicity"].null_count == np.isnan(values).sum()


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(3, None), slice(1, None, 2)])
def test_any_unit_finds_its_lines(tmp_path: Path, order: slice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that are committed are passed over, and a unit may be tried again."""
    monkeypatch.setattr(module, "MAX_ROWS_PER_UNIT", 3)
    write(tmp_path, 40, LINES)
    stage = made(tmp_path, 200)
    table = scores(stage, tmp_path, order)
    whole = scores(stage, tmp_path)
    rows = whole.filter(pa.array(np.isin(whole["row"].to_numpy(), table["row"].to_numpy())))
    assert table.num_rows > 0 and table.sort_by([("row", "ascending"), ("span", "ascending")]).equals(rows)


def test_a_shard_is_read_once_while_units_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Counted(module.AttributeReader):
        def __init__(self, *given: Any) -> None:
            opened.append(given)
            super().__init__(*given)

    monkeypatch.setattr(module, "AttributeReader", Counted)
    module._reader.cache_clear()
    for shard in ("a", "x/b"):
        write(tmp_path, 40, LINES, shard)
    stage = made(tmp_path)
    outputs = [stage.unit(tables) for tables in units(stage, tmp_path)]
    assert len(outputs) > 20 and [file.path for file, _ in opened] == ["a.jsonl.gz", "x/b.jsonl.gz"]
    module._reader.cache_clear()


def test_several_attributes_of_one_file(tmp_path: Path) -> None:
    lines = [{"id": str(i), "attributes": {NAME: [[0, 23, i]], "length": i + 0.5}} for i in range(5)]
    write(tmp_path, 5, lines)
    table = scores(made(tmp_path, attributes={"toxicity": NAME, "length": "length"}), tmp_path)
    assert table["toxicity"].to_pylist()[::2] == [0, 1, 2, 3, 4]
    assert table["length"].to_pylist()[1::2] == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_what_is_of_no_document_or_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, 40, [*LINES, line(99)])
    stage = made(tmp_path)
    with pytest.raises(InputError, match=r"a\.jsonl\.gz, line 17: no document that is left has the id '99'"):
        scores(stage, tmp_path)
    write(tmp_path, 2, [], "x/b")
    (tmp_path / "attributes" / "x" / "b.jsonl.gz").unlink()
    with pytest.raises(InputError, match=r"the shard x/b\.parquet has no attribute file: .*/attributes/x/b\.jsonl"):
        scores(stage, tmp_path)


def test_a_file_that_changes_meanwhile_is_no_longer_read(tmp_path: Path) -> None:
    write(tmp_path, 40, LINES)
    stage = made(tmp_path)
    tables = next(units(stage, tmp_path))
    write(tmp_path, 40, LINES[:-1])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz changed while it was being read"):
        stage.unit(tables)


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        (NAME, ["24 of 40 documents are not in the attribute files"]),
        ("x", ["24 of 40", "no span has a score on a: no document that is in the attribute files has ranges of 'x'"]),
    ],
)
def test_what_is_said_of_them(tmp_path: Path, attribute: str, said: list[str]) -> None:
    write(tmp_path, 40, LINES)
    stage = made(tmp_path, attributes={"a": attribute})
    counts: Counter[str] = Counter()
    for tables in units(stage, tmp_path):
        counts.update(stage.unit(tables).counts)
    remarks = stage.remarks(SimpleNamespace(counts=counts))  # type: ignore[arg-type]
    assert len(remarks) == len(said) and all(a.startswith(b) for a, b in zip(remarks, said, strict=True))


def test_documents_that_are_not_kept_have_none(tmp_path: Path) -> None:
    write(tmp_path, 40, LINES)
    plain = made(tmp_path)
    stage = made(tmp_path, skip=NearDuplicates(plain.corpus))
    verdicts = pa.table({"row": np.arange(40), "kept": np.arange(40) % 3 == 0})
    outputs = [
        stage.unit(Tables(stage, tables._workdir, tables._units, {"verdicts": verdicts}))
        for tables in units(plain, tmp_path)
    ]
    table = pa.concat_tables([output.table for output in outputs])
    assert table["row"].to_pylist() == np.repeat(np.arange(0, 40, 3), 2).tolist()
    found = table["toxicity"].to_numpy(zero_copy_only=False).reshape(-1, 2)
    np.testing.assert_array_equal(found, expected(None)[::3])


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    write(tmp_path, 2, [])
    spans = Split(Corpus(str(tmp_path / "documents"), id=None))
    with pytest.raises(ConfigError, match=r"go with documents by id, but the corpus .* has no id column"):
        AttributeScores(spans, "attributes", attributes={"toxicity": NAME})
    with pytest.raises(ConfigError, match="axes must be different names"):
        made(tmp_path, attributes={"row": NAME})
    with pytest.raises(ConfigError, match="unmarked must be a finite number or None, got nan"):
        made(tmp_path, unmarked=float("nan"))
    stage = made(tmp_path, attributes={"length": NAME})
    with pytest.raises(ConfigError, match="two scores are of the axis 'length'"):
        Calibrate((stage, *score(stage.spans, scorers=[length_scorer()])))
    with pytest.raises(ConfigError, match=r"no scorer can score the labelled texts of labels\.jsonl"):
        _ = Calibrate((stage,), labels="labels.jsonl").curves
