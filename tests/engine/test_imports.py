"""Corpora of JSON lines, imported on a real local Ray: once, whatever becomes of the files, with nothing lost."""

import json
import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest
import zstandard
from support import pipeline, write_corpus

from annotate import Corpus, InputError, Options, Pipeline, Split, shards
from annotate.corpus.footers import read_footer
from annotate.corpus.imports import import_files, scan_files
from annotate.engine.events import Silent
from annotate.pipeline import make
from annotate.stages.repeated_ids import RepeatedIds
from annotate.storage.manifests import file_rows
from annotate.storage.store import Directory

FIRST = ["corpus (fields)", "corpus (import)"]


class Told(Silent):
    """Keeps which stages did work."""

    def __init__(self):
        self.ran = []

    def started(self, stage, units, detail):
        self.ran.append(stage)


def write_lines(folder, name, rows, tail=b""):
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows) + tail
    (folder / name).write_bytes(zstandard.compress(data) if name.endswith(".zst") else data)


def split(tmp_path, **settings):
    """Import and split the corpus; gives the result and the stages that did work."""
    told = Told()
    corpus = Corpus(str(tmp_path / "corpus"), **settings)
    result = make(Pipeline(Split(corpus)), tmp_path / "out", Options(workers=2), told)
    return result.datasets[corpus], told.ran


def imported_parts(tmp_path):
    return sorted(path for path in tmp_path.glob("out/corpus-*/parts/*") if pq.read_metadata(path).num_rows)


def test_json_lines_give_the_shards_that_parquet_gives(ray_cluster, tmp_path):
    source = write_corpus(tmp_path / "parquet")
    for i, path in enumerate(sorted(source.iterdir())):
        write_lines(tmp_path / "lines", path.stem + (".jsonl.zst", ".jsonl")[i % 2], pq.read_table(path).to_pylist())
    results = {}
    for name in ("parquet", "lines"):
        out = tmp_path / f"out-{name}"
        results[name] = pipeline(tmp_path / name, tmp_path / "calls").run(str(out), Options(workers=2))
    assert results["parquet"].ledger.states == results["lines"].ledger.states
    # Units are cut elsewhere, as row groups are others.
    written = [pl.read_parquet(shards(tmp_path / f"out-{name}")) for name in results]
    assert written[0].equals(written[1])


def test_a_bad_line_is_quarantined_and_the_ledger_balances(ray_cluster, tmp_path):
    rows = [{"id": f"d{i}", "text": f"A sentence of document {i}. Another one.", "source": "s"} for i in range(20)]
    bad = b'{"id": "cut", "text": "no en\n\n[]\n{"id": "n", "text": 5}\n{"id": "o", "text": null}\n{"id": "p"}\n'
    write_lines(tmp_path / "corpus", "a.jsonl", rows, bad)
    made = make(pipeline(tmp_path / "corpus", tmp_path / "calls"), tmp_path / "out", Options(workers=2))
    ledger = made.result().ledger
    assert ledger.documents == 25
    assert ledger.states["quarantined"] == 5
    spans = next(d for stage, d in made.datasets.items() if stage.name == "spans")
    found = pl.concat(
        pl.read_parquet(f"{spans.directory.url}/{entry.quarantine.path}")
        for unit in spans.units()
        for entry in unit.entries
        if entry.quarantine
    )
    assert found.select("shard", "row", "id", "reason").rows() == [
        ("a.jsonl", 20, "a.jsonl:20", "the line is not valid JSON"),
        ("a.jsonl", 21, "a.jsonl:21", "the line is not a JSON object"),
        ("a.jsonl", 22, "n", "the text is a JSON number, not a string"),
        ("a.jsonl", 23, "o", "the text is null"),
        ("a.jsonl", 24, "p", "the text is null"),
    ]


def test_a_file_is_imported_once_and_copying_it_changes_nothing_downstream(ray_cluster, tmp_path):
    for name in ("a.jsonl", "b.jsonl.zst", "empty.jsonl"):
        rows = [] if name.startswith("empty") else [{"id": f"{name}-{i}", "text": "Some text."} for i in range(5)]
        write_lines(tmp_path / "corpus", name, rows)
    first, ran = split(tmp_path)
    assert ran[:2] == FIRST and sorted(ran[2:]) == ["id-partitions", "repeated-ids", "spans"]
    parts = {path: path.stat().st_mtime_ns for path in imported_parts(tmp_path)}
    assert len(parts) == 2
    again, ran = split(tmp_path)
    assert ran == FIRST  # which find all of it done
    assert {path: path.stat().st_mtime_ns for path in imported_parts(tmp_path)} == parts
    shutil.copytree(tmp_path / "corpus", tmp_path / "copy")
    shutil.rmtree(tmp_path / "corpus")
    (tmp_path / "copy").rename(tmp_path / "corpus")
    moved, ran = split(tmp_path)
    assert ran == FIRST
    assert first.fingerprint == again.fingerprint == moved.fingerprint
    # A lost part is made again.
    for path in imported_parts(tmp_path):
        path.unlink()
    split(tmp_path)
    assert imported_parts(tmp_path)


def test_a_grown_corpus_imports_and_splits_only_the_new_file(ray_cluster, tmp_path):
    write_lines(tmp_path / "corpus", "a.jsonl", [{"id": 1, "text": "One."}])
    split(tmp_path)
    before = imported_parts(tmp_path)
    write_lines(tmp_path / "corpus", "b.jsonl", [{"id": 2, "text": "Two."}])
    dataset, _ = split(tmp_path)
    assert [unit.shard for unit in dataset.units()] == ["a.jsonl", "b.jsonl"]
    assert set(before) < set(imported_parts(tmp_path))
    assert len(imported_parts(tmp_path)) == 2
    assert len(list(tmp_path.glob("out/spans-*/units/*"))) == 2
    # A field of its own makes the columns of all others: every part has them.
    write_lines(tmp_path / "corpus", "c.jsonl", [{"id": 3, "text": "Three.", "more": 1.5}])
    dataset, _ = split(tmp_path)
    columns = {
        tuple(pq.read_schema(f"{dataset.directory.url}/{file_rows(unit).path}").names) for unit in dataset.units()
    }
    assert columns == {("id", "text", "more", "_problem")}


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_an_unreadable_file_stops_the_run_or_is_passed_over(ray_cluster, tmp_path, damage):
    write_lines(tmp_path / "corpus", "a.jsonl", [{"id": "x", "text": "Some text."}])
    write_lines(tmp_path / "corpus", "b.jsonl.zst", [{"id": str(i), "text": f"Text {i * i}."} for i in range(5000)])
    data = (tmp_path / "corpus" / "b.jsonl.zst").read_bytes()
    (tmp_path / "corpus" / "b.jsonl.zst").write_bytes(data[:-50] if damage == "truncated" else b"no zstandard")
    said = {"truncated": "truncated or damaged: ", "other": "not zstd: it starts with b'no zs'"}[damage]
    with pytest.raises(InputError, match=rf"b\.jsonl\.zst is {said}"):
        split(tmp_path)
    dataset, _ = split(tmp_path, unreadable="quarantine")
    assert dict(dataset.manifest.counts) == {"documents": 1, "unreadable_files": 1}
    (note,) = (note for note in dataset.manifest.notes if note.startswith("unreadable"))
    assert note.startswith(f"unreadable: b.jsonl.zst: {said}")
    assert str(tmp_path) not in note


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"content": "a", "id": 1}], {}, r"/corpus: no line has a field 'text'; the fields are: content, id"),
        ([{"text": 5, "id": 1}], {}, r"the field 'text' has type int64, expected string"),
        ([{"text": "a"}], {}, r"^a\.jsonl has no column 'id'; it has: text"),
        ([{"text": "a", "id": 1.5}], {}, r"^a\.jsonl: id column 'id' has type double"),
        ([{"text": "a", "id": 1, "row": 1, "corpus_row": 2}], {}, r"^a\.jsonl: column 'row' has a name that"),
        ([], {}, r"no line has a field 'text'; the fields are: none"),
    ],
)
def test_fields_that_are_missing_or_wrong_are_errors(ray_cluster, tmp_path, rows, settings, message):
    write_lines(tmp_path / "corpus", "a.jsonl", rows)
    with pytest.raises(InputError, match=message):
        split(tmp_path, **settings)


def test_repeated_ids_over_imported_files(ray_cluster, tmp_path):
    write_lines(tmp_path / "corpus", "a.jsonl", [{"id": "x", "text": "One."}, {"id": "y", "text": "Two."}])
    write_lines(tmp_path / "corpus", "b.jsonl", [{"text": "Three."}, {"id": "x", "text": "Four."}])
    corpus = Corpus(str(tmp_path / "corpus"))
    result = Pipeline(RepeatedIds(corpus)).run(str(tmp_path / "out"), Options(workers=2))
    assert [remark for remark in result.remarks if "repeated" in remark] == [
        "repeated-ids: 1 id is repeated, e.g. 'x' at a.jsonl:0 and b.jsonl:1"
    ]
    unique = Corpus(str(tmp_path / "corpus"), ids="unique")
    with pytest.raises(InputError, match=r'which says ids="unique": .x. at a\.jsonl:0 and b\.jsonl:1'):
        Pipeline(RepeatedIds(unique)).run(str(tmp_path / "out"), Options(workers=2))


def test_a_rewritten_file_is_noticed_where_the_footer_of_its_part_stays_the_same(tmp_path):
    """The footer of an imported part holds no statistics: swapping two words often leaves it as it was."""
    out = Directory.at(tmp_path / "out")
    corpus = Corpus(str(tmp_path / "corpus"), id=None)
    same_footers = 0
    for i in range(20):
        units = []
        for text in (f"alpha beta {i} gamma", f"beta alpha {i} gamma"):
            write_lines(tmp_path / "corpus", "a.jsonl", [{"text": text}])
            scanned = scan_files(corpus, out, corpus.files())
            (imported,) = import_files(corpus, out, scanned, scanned[0].fields)
            footer = read_footer(imported, "text")
            (unit,) = corpus.units(imported, footer)
            assert corpus.read(out, unit)["text"].to_pylist() == [text]
            units.append(unit)
        before, after = (file_rows(unit).checksum for unit in units)
        same_footers += before == after
        assert units[0].identity != units[1].identity
    assert same_footers  # else this test would show nothing
