"""The near-duplicate filter through the engine: columns, older corpora, growth, damage, any number of workers."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import sentences

from annotate import ConfigError, Corpus, InputError, NearDuplicates, Options, Pipeline, StorageError, tables
from annotate.engine.events import Silent
from annotate.graph import Shuffle
from annotate.pipeline import make
from annotate.stages.duplicates.clusters import LISTED
from annotate.storage.parts import Entry, read_entry
from annotate.storage.store import Directory

UNIT_BYTES = 2000


class Told(Silent):
    """Keeps what a run tells."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.details: dict[str, tuple[int, str]] = {}
        self.warnings: list[str] = []

    def started(self, stage: str, units: int, detail: str) -> None:
        self.ran.append(stage)
        self.details[stage] = (units, detail)

    def said(self, level: str, message: str) -> None:
        if level == "warning":
            self.warnings.append(message)


class Filtered:
    """A run of the filter: its result, what it told, and the verdicts."""

    def __init__(self, corpus: Path, workdir: Path, workers: int = 2, **settings: Any) -> None:
        old = settings.pop("against", None)
        against = Corpus(str(old), unit_bytes=UNIT_BYTES) if old else None
        self.stage = NearDuplicates(Corpus(str(corpus), unit_bytes=UNIT_BYTES), against=against, **settings)
        self.told = Told()
        self.result = make(Pipeline(self.stage), workdir, Options(workers=workers), self.told)
        self.dataset = self.result.datasets[self.stage]

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """In order, with the shard of each."""
        return [
            {"shard": unit.shard, **row}
            for unit in self.dataset.units()
            for row in self.stage.read(self.dataset.directory, unit).to_pylist()
        ]

    def kept(self) -> list[tuple[str, int]]:
        return [(row["shard"], row["row"]) for row in self.verdicts if row["kept"]]


def write(folder: Path, shard: str, texts: list[str | None], **columns: Any) -> Path:
    """Write a shard of a corpus; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{shard}-{i}" for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string()), **columns}), folder / f"{shard}.parquet")
    return folder


def copies(seed: int, n: int) -> list[str]:
    """Different texts of a shard; the last are copies of texts of other seeds, so of other shards."""
    texts = [sentences(1000 * seed + i, 6) for i in range(n)]
    texts[-1] = sentences(1000 * ((seed + 1) % 3), 6)
    texts[-2] = sentences(1000 * ((seed + 2) % 3) + 1, 6) + " And then some."
    return texts


def three_shards(folder: Path) -> Path:
    for shard in range(3):
        write(folder, f"s{shard}", copies(shard, 24))
    return folder


@pytest.fixture(scope="module")
def corpus(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_shards(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of an undisturbed run, to be copied."""
    workdir = tmp_path_factory.mktemp("finished")
    Filtered(corpus, workdir)
    return workdir


def parts(workdir: Path) -> dict[str, bytes]:
    """All parts of all datasets."""
    return {str(path.relative_to(workdir)): path.read_bytes() for path in workdir.glob("*/parts/*")}


def test_every_dataset_has_equal_bytes_for_any_number_of_workers(corpus: Path, finished: Path, tmp_path: Path) -> None:
    made = parts(finished)
    assert {name.partition("-")[0] for name in made} >= {"signatures", "candidates", "components", "verdicts"}
    for workers in (1, 3):
        found = Filtered(corpus, tmp_path / str(workers), workers=workers)
        assert parts(tmp_path / str(workers)) == made
    # Copies are in other shards than what they copy, and in other units: workers that work alone would find none.
    dropped = [row for row in found.verdicts if not row["kept"]]
    assert len(dropped) == 6
    assert all(row["shard"] != row["keeper_shard"] for row in dropped)


# Keepers by a column.


def test_the_highest_value_of_a_column_is_kept_and_no_value_is_below_all(ray_cluster: str, tmp_path: Path) -> None:
    one, two, three = (sentences(seed, 6) for seed in (1, 2, 3))
    reward = pa.array([None, 0.5, math.nan, -7.0, None, math.nan, None], pa.float64())
    write(tmp_path / "corpus", "a", [one, one, one, two, two, three, three], reward=reward)
    write(tmp_path / "corpus", "b", [one, two, three], reward=pa.array([0.25, math.nan, -math.inf], pa.float64()))
    found = Filtered(tmp_path / "corpus", tmp_path / "out", keep="highest:reward")
    assert found.kept() == [("a.parquet", 1), ("a.parquet", 3), ("a.parquet", 5)]
    assert [row["keeper_row"] for row in found.verdicts] == [1, 1, 1, 3, 3, 5, 5, 1, 3, 5]


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(21, 2), pa.bool_()], ids=str)
def test_a_column_of_any_numbers_can_choose(ray_cluster: str, tmp_path: Path, kind: pa.DataType) -> None:
    text = sentences(4, 6)
    values = pa.array([0, None, 1, 1, 0]).cast(pa.int64()).cast(kind)
    write(tmp_path / "corpus", "a", [text] * 5, nice=values)
    assert Filtered(tmp_path / "corpus", tmp_path / "out", keep="highest:nice").kept() == [("a.parquet", 2)]


@pytest.mark.parametrize(
    "values",
    [pa.array(["good", "bad"]), pa.array([[1.0], [2.0]]), pa.array([{"x": 1}, {"x": 2}]), pa.array([b"\1", b"\2"])],
    ids=lambda values: str(values.type),
)
def test_a_column_that_has_no_numbers_is_named(ray_cluster: str, tmp_path: Path, values: pa.Array) -> None:
    write(tmp_path / "corpus", "a", [sentences(4, 6)] * 2, nice=values)
    with pytest.raises(ConfigError, match=r"column 'nice' of a\.parquet has no numbers") as caught:
        Filtered(tmp_path / "corpus", tmp_path / "out", keep="highest:nice")
    assert "keep='highest:nice'" in caught.value.message
    assert "a column of numbers" in caught.value.hint


def test_a_column_that_is_missing_is_named_with_those_that_are_there(ray_cluster: str, tmp_path: Path) -> None:
    write(tmp_path / "corpus", "a", [sentences(4, 6)] * 2, nice=pa.array([1, 2]))
    with pytest.raises(
        InputError, match=r"a\.parquet has no column 'nicer', which .* it has: id, text, nice"
    ) as caught:
        Filtered(tmp_path / "corpus", tmp_path / "out", keep="highest:nicer")
    assert caught.value.hint == "Did you mean 'nice'?"


# An older corpus.


def test_an_older_corpus_wins_and_its_own_verdicts_stay(ray_cluster: str, tmp_path: Path) -> None:
    old = write(tmp_path / "old", "o", copies(0, 10))
    longer = sentences(105, 6) + " It is longer."
    write(old, "p", [sentences(105, 6), sentences(106, 6), sentences(106, 6) + " And then some."])
    new = write(tmp_path / "new", "n", [sentences(107, 6), longer, sentences(0, 6), sentences(107, 6) + " And so on."])
    alone = Filtered(old, tmp_path / "out")
    before = parts(tmp_path / "out")
    own = alone.verdicts
    found = Filtered(new, tmp_path / "out", against=old)
    assert [row["kept"] for row in found.verdicts] == [False, False, False, True]
    assert [(row["keeper_shard"], row["keeper_row"]) for row in found.verdicts][1:3] == [
        ("against:p.parquet", 0),
        ("against:o.parquet", 0),
    ]
    assert "signatures" in found.told.ran and "signatures #2" not in found.told.ran, "the old ones are found committed"
    assert before.items() <= parts(tmp_path / "out").items()
    again = Filtered(old, tmp_path / "out")
    assert again.told.ran == []
    assert again.verdicts == own
    assert {row["shard"] for row in found.verdicts} == {"n.parquet"}


def test_a_keeper_in_an_older_corpus_is_not_taken_for_the_document_in_its_place(
    ray_cluster: str, tmp_path: Path
) -> None:
    """The shards of both corpora have one name, and the copy is in the row of what it copies."""
    text = sentences(8, 6)
    old, new = write(tmp_path / "old", "s", [text]), write(tmp_path / "new", "s", [text, sentences(9, 6)])
    found = Filtered(new, tmp_path / "out", against=old, drop=False)
    [unit] = found.dataset.units()
    table = found.stage.read(found.dataset.directory, unit)
    assert found.stage.similarities(table, unit.shard).tolist() == [1.0, 0.0]
    assert [row["keeper_shard"] for row in found.verdicts] == ["against:s.parquet", "s.parquet"]


# A corpus that grew.


@pytest.mark.parametrize("shard", ["s9", "a0"])
def test_a_corpus_that_grew_reuses_signatures_and_gets_the_verdicts_of_the_whole(
    finished: Path, tmp_path: Path, shard: str
) -> None:
    """The new shard sorts behind the others, or before them: then all documents have other numbers."""
    shutil.copytree(finished, tmp_path / "out")
    grown = write(three_shards(tmp_path / "corpus"), shard, [*copies(1, 24)[3:], sentences(77, 6)])
    found = Filtered(grown, tmp_path / "out")
    units, detail = found.told.details["signatures"]
    old = len(list(finished.glob("signatures-*/units/*")))
    assert old > 10
    assert units > old
    assert detail == f"{old} committed before"
    assert len(list((tmp_path / "out").glob("signatures-*/units/*"))) == units
    whole = Filtered(grown, tmp_path / "new")
    assert "committed" not in whole.told.details["signatures"][1]
    assert found.verdicts == whole.verdicts
    assert {name: data for name, data in parts(tmp_path / "out").items() if name in parts(tmp_path / "new")} == parts(
        tmp_path / "new"
    )
    assert sum(not row["kept"] for row in found.verdicts) == 6 + 21, "of the new shard only its last is new"


# Too many, too few.


def test_a_corpus_of_duplicates_is_told_loudly(ray_cluster: str, tmp_path: Path) -> None:
    for shard in "abc":
        write(tmp_path / "corpus", shard, [sentences(1, 6)] * 20)
    found = Filtered(tmp_path / "corpus", tmp_path / "out")
    assert found.kept() == [("a.parquet", 0)]
    assert len({(row["cluster"], row["split_group"]) for row in found.verdicts}) == 1
    remark = "verdicts: 59 of 60 documents are near-duplicates: more than half of the corpus"
    assert remark in found.result.remarks
    assert found.told.warnings == list(found.result.remarks)


def test_a_corpus_without_duplicates_is_told_loudly(ray_cluster: str, tmp_path: Path) -> None:
    """As when a wrong column is named as the text: here that of ids."""
    write(tmp_path / "corpus", "a", ["the same text of all"] * 1000)
    stage = NearDuplicates(Corpus(str(tmp_path / "corpus"), text="id", id=None))
    told = Told()
    result = Pipeline(stage).run(str(tmp_path / "out"), Options(workers=2), told)
    assert told.warnings == list(result.remarks)
    remark = "verdicts: no near-duplicates found among 1,000 documents: is the text column right?"
    assert remark in told.warnings
    with pytest.raises(InputError, match=r"a\.parquet has no text column 'body'|a\.parquet has no column 'body'"):
        Pipeline(NearDuplicates(Corpus(str(tmp_path / "corpus"), text="body"))).run(str(tmp_path / "out"))


def test_ten_thousand_identical_documents_meet_nowhere(ray_cluster: str, tmp_path: Path) -> None:
    n = 10_000
    write(tmp_path / "corpus", "a", [sentences(1, 2)] * n)
    write(tmp_path / "corpus", "b", [sentences(2, 2), sentences(1, 2)])
    stage = NearDuplicates(Corpus(str(tmp_path / "corpus"), unit_bytes=100_000))
    result = make(Pipeline(stage), tmp_path / "out", Options(workers=2))
    rows = {s.label: d.manifest.rows for s, d in result.datasets.items() if d.manifest is not None}
    counts = result.datasets[stage].manifest.counts
    assert (counts["kept"], counts["near_duplicates"]) == (2, n)
    assert counts["exact_copies"] == n
    units = result.datasets[stage.inputs["signatures"]].manifest.units
    assert n > 100 * units
    # A partition can't know that another has the same pair; what puts signatures to them drops repeats.
    partitions = next(d.manifest.units for s, d in result.datasets.items() if s.name == "candidates")
    assert rows.pop("candidates") <= 2 * units * partitions
    assert all(
        rows[s.label] <= 2 * LISTED * units for s in result.datasets if isinstance(s, Shuffle) and s.label in rows
    )


# Damage.


Damage = Callable[[Path], None]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(at: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(bytes(data))

    return damage


def sent(dataset: Path) -> list[Entry]:
    """The entries of what was sent to the partitions of an exchange."""
    entries = [read_entry(Directory.at(dataset), path.name) for path in sorted(dataset.glob("units/*"))]
    return [entry for entry in entries if entry is not None and entry.part.path.endswith(".slices")]


def test_a_truncated_signature_part_is_made_again(corpus: Path, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    before = parts(finished)
    for path in (tmp_path / "out").glob("verdicts-*/manifests/*"):
        path.unlink()
    [path, *_] = sorted((tmp_path / "out").glob("signatures-*/parts/*"))
    truncate(path)
    found = Filtered(corpus, tmp_path / "out", threshold=0.7)
    units = len(list((tmp_path / "out").glob("signatures-*/units/*")))
    assert found.told.details["signatures"] == (units, f"{units} committed before")
    assert {name: data for name, data in parts(tmp_path / "out").items() if name in before} == before
    assert found.verdicts == Filtered(corpus, tmp_path / "new", threshold=0.7).verdicts


def test_a_flipped_bit_in_a_signature_part_stops_the_run_until_it_is_deleted(
    corpus: Path, finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "out")
    [path, *_] = sorted((tmp_path / "out").glob("signatures-*/parts/*"))
    flip(10)(path)
    with pytest.raises(StorageError, match=f"{path.name} is damaged") as caught:
        Filtered(corpus, tmp_path / "out", threshold=0.7)
    assert "Delete the file" in caught.value.hint
    path.unlink()
    found = Filtered(corpus, tmp_path / "out", threshold=0.7)
    assert found.verdicts == Filtered(corpus, tmp_path / "new", threshold=0.7).verdicts


@pytest.fixture
def cut_short(finished: Path, tmp_path: Path) -> Path:
    """A run that was cut short: of each exchange only what was sent is committed."""
    workdir = shutil.copytree(finished, tmp_path / "out")
    for folder in [path.parent for path in workdir.glob("*/units") if path.parent.name.rpartition("-")[0] != "corpus"]:
        entries = {entry.key for entry in sent(folder)}
        if entries or folder.name.startswith(("verdicts", "repeated-ids-")):
            for path in [*folder.glob("manifests/*"), *folder.glob("units/*")]:
                if path.name not in entries:
                    path.unlink()
    return workdir


@pytest.mark.parametrize(
    "damage", [truncate, flip(10), flip(-100), flip(-6)], ids=["truncated", "page", "footer", "end"]
)
def test_damage_to_what_was_sent_is_healed_or_named(
    corpus: Path, finished: Path, cut_short: Path, damage: Damage
) -> None:
    """The first part of each exchange is damaged; a run heals it, or names it, and goes on when it is deleted."""
    damaged = {}
    for folder in cut_short.iterdir():
        if folder.is_dir() and (entries := sent(folder)):
            path = folder / max(entries, key=lambda entry: entry.part.bytes).part.path
            damage(path)
            damaged[path.name] = path
    assert len(damaged) > 10
    named = set()
    while True:
        try:
            found = Filtered(corpus, cut_short)
            break
        except StorageError as error:
            assert damage is not truncate, "what is truncated is seen to be so, and made again"
            [name] = [name for name in damaged if name in error.message]
            assert "Delete the file" in error.hint
            assert name not in named
            named.add(name)
            damaged[name].unlink()
    if damage is not truncate:
        assert named == set(damaged)
    assert parts(cut_short) == parts(finished)
    assert found.dataset.manifest is not None


def test_tables_are_read_with_their_shards(corpus: Path, finished: Path) -> None:
    verdicts = pa.concat_tables(tables(finished, "verdicts"))
    shards = {path.name for path in corpus.glob("*.parquet")}
    assert set(verdicts["shard"].to_pylist()) == shards
    rows = sum(pq.read_metadata(corpus / shard).num_rows for shard in shards)
    assert verdicts.num_rows == rows == sum(table.num_rows for table in tables(finished, "signatures"))
    with pytest.raises(StorageError, match="left no dataset 'keepers'") as caught:
        next(tables(finished, "keepers"))
    assert "verdicts" in str(caught.value.hint)


def test_the_newest_of_a_cluster_can_be_kept(ray_cluster: str, tmp_path: Path) -> None:
    times = pa.array([1_700_000_000_000_000_001 + i * 10**12 for i in (0, 2, 1)], pa.timestamp("ns"))
    corpus = write(tmp_path / "corpus", "s", [sentences(1, 9)] * 3, at=times)
    assert Filtered(corpus, tmp_path / "out", keep="highest:at").kept() == [("s.parquet", 1)]


def test_the_folder_of_a_corpus_is_no_work_directory(ray_cluster: str, tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus", "s", ["a b c"])
    with pytest.raises(ConfigError, match="is the folder of a corpus"):
        Filtered(corpus, corpus)
    assert [path.name for path in corpus.iterdir()] == ["s.parquet"]
