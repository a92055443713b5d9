"""Columns many times as large as the text: read in slices, counted in parts, held no longer than the text is."""

from __future__ import annotations

import ctypes
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from here import ray_here
from length_scorer import length_scorer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from annotate import (
    Corpus,
    Mix,
    Pipeline,
    Place,
    Render,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    TokenShards,
    score,
    shards,
)
from annotate.corpus.rows import RowReader
from annotate.engine import parcels
from annotate.engine.result import Result
from annotate.stages.shared.training_shards import LARGE, Shards

TEXT, ROWS = 1 << 12, 512  # bytes of a document, documents: 2 MiB
UNIT = 1 << 20
ORDERS = ("corpus", "training")


def write(folder: Path, columns: dict[str, pa.Array], rows: int = ROWS, text: int = TEXT, **options: object) -> Path:
    """A corpus of one file and one row group, with pages of a few rows."""
    folder.mkdir()
    table = pa.table({"id": pa.array(range(rows)), "text": letters(rows, text), **columns})
    settings = {"use_dictionary": False, "write_batch_size": 8, **options}
    pq.write_table(table, folder / "a.parquet", **settings)
    return folder


def letters(rows: int, length: int, seed: int = 0) -> pa.LargeStringArray:
    """Strings of one length."""
    data = np.random.default_rng(seed).integers(ord("a"), ord("z") + 1, rows * length, np.uint8)
    edges = np.arange(rows + 1, dtype=np.int64) * length
    return pa.LargeStringArray.from_buffers(rows, pa.py_buffer(edges), pa.py_buffer(data))


def large(rows: int = ROWS, times: int = 20) -> dict[str, pa.Array]:
    """Columns of so many times the text: a string, and a list of structs."""
    each = 512
    n = TEXT * times // 4 // each
    values = pa.StructArray.from_arrays([pa.array(range(n * rows)), letters(n * rows, each, 1)], names=["at", "text"])
    edges = pa.array(np.arange(rows + 1) * n, pa.int32())
    return {"html": letters(rows, TEXT * times * 3 // 4, 2), "list": pa.ListArray.from_arrays(edges, values)}


def rendered(corpus: Path, order: str, *, part_bytes: int = UNIT, mix: Mix | None = None, **settings: object) -> Render:
    documents = Corpus(str(corpus), unit_bytes=settings.pop("unit_bytes", UNIT), **settings)
    spans = Split(documents, Splitter(by="document"))
    scores = score(spans, scorers=[length_scorer()])
    schedule = Schedule(mix=mix) if order == "training" else None
    return Render(Place(scores, scheme(), schedule=schedule), part_bytes=part_bytes)


def scheme() -> TagScheme:
    return TagScheme(tags=(Tag(name="long", rule="length > 0"),))


def run(stage: Shards, workdir: Path) -> tuple[Result, list[pl.DataFrame]]:
    """What was made, and the shards, a frame each."""
    with ray_here():
        result = Pipeline(stage).run(str(workdir))
    return result, [pl.read_parquet(path) for path in shards(workdir)]


def peak(stage: Shards, workdir: Path) -> int:
    """The most that Arrow held while a pipeline ran, in bytes."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    # Readers that are cached have memory of it until the process ends: without it, they would crash it then.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(pool))
    pa.set_memory_pool(pool)
    try:
        run(stage, workdir)
        return pool.max_memory()
    finally:
        pa.set_memory_pool(usual)


@pytest.mark.parametrize("order", ORDERS)
def test_large_columns_take_no_more_memory_than_the_text(tmp_path: Path, order: str) -> None:
    settings = {"unit_bytes": UNIT // 2, "part_bytes": UNIT // 2}
    without = peak(rendered(write(tmp_path / "small", {}), order, **settings), tmp_path / "small-out")
    corpus = write(tmp_path / "large", large())
    assert corpus.joinpath("a.parquet").stat().st_size > 20 * UNIT
    with_them = peak(rendered(corpus, order, **settings), tmp_path / "large-out")
    assert with_them < 1.5 * without + (2 << 20)  # buffers that do not grow with a unit


def same(frame: pl.DataFrame, corpus: Path) -> None:
    """Each document has the columns that it had."""
    source = pl.read_parquet(corpus / "a.parquet").sort("id")
    names = [name for name in source.columns if name not in ("id", "text")]
    assert frame.sort("id").select("id", *names).equals(source.select("id", *names))


@pytest.mark.parametrize("order", ORDERS)
def test_parts_count_all_that_they_hold(tmp_path: Path, order: str) -> None:
    corpus = write(tmp_path / "corpus", large())
    _, parts = run(rendered(corpus, order), tmp_path / "out")
    same(pl.concat(parts), corpus)
    sizes = [part.estimated_size() / UNIT for part in parts]
    assert len(parts) >= 38 and max(sizes) < 1.6
    if order == "corpus":
        assert pl.concat(parts)["id"].is_sorted()
    # The text comes as it would without them, in the same order.
    _, alone = run(rendered(corpus, order, columns=()), tmp_path / "alone")
    assert pl.concat(alone).equals(pl.concat(parts).select(pl.concat(alone).columns)) and len(alone) == 2


def test_parts_of_light_columns_are_whole_units(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus", {"n": pa.array(range(ROWS)), "source": pa.array(["web", "wiki"] * (ROWS // 2))})
    result, parts = run(rendered(corpus, "corpus", part_bytes=1), tmp_path / "out")
    assert len(parts) == result.datasets["corpus"].units == 3
    same(pl.concat(parts), corpus)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("why", ["dictionary", "skew"])
def test_columns_that_are_larger_than_the_footer_says(tmp_path: Path, order: str, why: str) -> None:
    """One long value in each row is in a dictionary once; some rows may have all there is."""
    rows = 4096
    if why == "dictionary":
        column = pa.array(["licence " * 512] * rows)
    else:
        column = pa.array([letters(1, 1 << 14)[0].as_py() if i < 1000 else "" for i in range(rows)])
    options = {"use_dictionary": ["column"]} if why == "dictionary" else {}
    corpus = write(tmp_path / "corpus", {"column": column}, rows, 256, **options)
    _, parts = run(rendered(corpus, order), tmp_path / "out")
    same(pl.concat(parts), corpus)
    most = max(part["column"].str.len_bytes().sum() for part in parts) / UNIT
    assert most < (LARGE + 0.1 if order == "training" else 1.2)
    assert len(parts) > 16 // LARGE and len({tuple(part["id"].to_list()) for part in parts}) == len(parts)


def test_copies_of_large_documents_are_sent_in_pieces(tmp_path: Path) -> None:
    rows = 128
    columns = {**large(rows), "source": pa.array(["rare" if i < 8 else "web" for i in range(rows)])}
    corpus = write(tmp_path / "corpus", columns, rows)
    mix = Mix(column="source", weights={"rare": 1.0, "web": 1.0}, exhaustion="all_exhausted")
    most: list[int] = []
    put = parcels.put_slices

    def spy(*arguments: object, **named: object) -> object:
        most.append(sum(table.nbytes for table in arguments[2]))
        return put(*arguments, **named)

    with mock.patch.object(parcels, "put_slices", spy):
        result, parts = run(rendered(corpus, "training", mix=mix, unit_bytes=UNIT // 4), tmp_path / "out")
    frame = pl.concat(parts)
    assert result.ledger is not None and result.ledger.beside["copies"] == len(frame) - rows == 8 * 14
    same(frame.unique("id"), corpus)
    assert max(most) < 1.6 * UNIT and len(most) > 12  # six units of text in a piece


@pytest.mark.parametrize("order", ORDERS)
def test_bytes_are_equal_after_a_failure_at_any_part(tmp_path: Path, order: str) -> None:
    corpus = write(tmp_path / "corpus", large(64), 64)
    stage = rendered(corpus, order, unit_bytes=UNIT // 4, part_bytes=UNIT // 4)
    run(stage, tmp_path / "whole")
    expected = [Path(path).read_bytes() for path in shards(tmp_path / "whole")]
    assert len(expected) > 15
    out = tmp_path / "out"
    points = {point: reached(point, stage, out) for point in ("commit: before part", "commit: entry created")}
    for point, before_end in itertools.product(points, (1, 4, 9, 14)):
        shutil.rmtree(out, ignore_errors=True)
        fault = mock.patch("annotate.storage.parts.reach", fails_at(point, points[point] - before_end))
        with fault, pytest.raises(Exception, match="Killed"):
            run(stage, out)
        result, _ = run(stage, out)
        assert [Path(path).read_bytes() for path in shards(out)] == expected
        assert result.ledger is not None and result.ledger.states["written"] == 64


@pytest.mark.parametrize("order", ORDERS)
def test_each_document_is_written_once_though_units_have_another_size_after_a_failure(
    tmp_path: Path, order: str
) -> None:
    corpus = write(tmp_path / "corpus", large(64), 64)  # one unit, whatever its size
    first, then = (rendered(corpus, order, unit_bytes=size, part_bytes=UNIT // 4) for size in (UNIT // 2, UNIT))
    point = "commit: entry created"
    number = reached(point, first, tmp_path / "out") - 4
    fault = mock.patch("annotate.storage.parts.reach", fails_at(point, number))
    with fault, pytest.raises(Exception, match="Killed"):
        run(first, tmp_path / "out")
    result, parts = run(then, tmp_path / "out")
    assert sorted(pl.concat(parts)["id"]) == list(range(64))
    assert result.ledger is not None and result.ledger.states["written"] == 64


def reached(point: str, stage: Shards, workdir: Path) -> int:
    """How often a point is reached in a whole run."""
    with mock.patch("annotate.storage.parts.reach") as reach:
        run(stage, workdir)
    shutil.rmtree(workdir)
    return [call.args[0] for call in reach.call_args_list].count(point)


def fails_at(point: str, number: int) -> Callable[[str], None]:
    """A fault hook that raises when a point is reached for the nth time."""
    seen = itertools.count(1)

    def reach(name: str) -> None:
        if name == point and next(seen) == number:
            raise RuntimeError("Killed")

    return reach


def test_a_part_that_is_lost_is_made_again(tmp_path: Path) -> None:
    stage = rendered(write(tmp_path / "corpus", large(64), 64), "corpus", unit_bytes=UNIT // 4, part_bytes=UNIT // 4)
    run(stage, tmp_path / "out")
    paths = shards(tmp_path / "out")
    expected = [Path(path).read_bytes() for path in paths]
    for path in (paths[0], paths[5]):
        Path(path).unlink()
        run(stage, tmp_path / "out")
        assert [Path(path).read_bytes() for path in shards(tmp_path / "out")] == expected


@pytest.mark.parametrize("order", ORDERS)
def test_damage_in_large_columns_takes_the_rest_of_a_unit(tmp_path: Path, order: str) -> None:
    pages = {"compression": "zstd", "write_batch_size": 1, "data_page_size": 1 << 15}
    corpus = write(tmp_path / "corpus", large(64), 64, **pages)
    leaf = pq.read_metadata(corpus / "a.parquet").row_group(0).column(2)
    assert leaf.path_in_schema == "html"
    data = bytearray((corpus / "a.parquet").read_bytes())
    middle = leaf.data_page_offset + leaf.total_compressed_size * 5 // 8
    data[middle : middle + 200_000] = bytes(200_000)
    (corpus / "a.parquet").write_bytes(data)
    settings = {"unit_bytes": UNIT // 8, "part_bytes": UNIT // 8, "unreadable": "quarantine"}
    result, parts = run(rendered(corpus, order, **settings), tmp_path / "out")
    ids = set(pl.concat(parts)["id"])
    assert result.ledger is not None and result.ledger.states["written"] == len(ids)
    # Units are of 22 rows or fewer; of that which has the damage, the slices before it are written.
    assert set(range(32)) <= ids and not ids & set(range(41, 64)) and len(ids) > 32
    assert result.ledger.states["quarantined"] == 64 - len(ids)
    assert next(iter(result.quarantined)).startswith("the file can't be read here")


def test_token_shards_read_no_other_columns(tmp_path: Path) -> None:
    stage = rendered(write(tmp_path / "corpus", large(64, 2), 64), "corpus", unit_bytes=UNIT // 4)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([], trainer)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>").save_pretrained(tmp_path / "tokenizer")
    given = {"tokenizer": str(tmp_path / "tokenizer"), "window": 1024, "loss": "train"}
    asked: set[str] = set()
    read = RowReader.read

    def spy(reader: RowReader, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        asked.update(columns)
        return read(reader, start, stop, columns)

    with mock.patch.object(RowReader, "read", spy):
        run(TokenShards(stage.placements, **given), tmp_path / "out")
        assert asked == {"id", "text"}
        run(stage, tmp_path / "out")
        assert asked == {"id", "text", "html", "list"}
