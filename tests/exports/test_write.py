import json

import pyarrow as pa
import pytest
from token_tables import example, of_phase, to_table, vocabulary, window

from annotate.errors import InputError, StorageError
from annotate.exports.datatrove import Datatrove
from annotate.exports.huggingface import HuggingFace
from annotate.exports.mds import Mds
from annotate.exports.megatron import Megatron
from annotate.exports.olmo import Olmo
from annotate.exports.write import export_part, finish_export, write_export
from annotate.storage.store import Directory, checksum

FORMATS = [HuggingFace(), Megatron(), Datatrove(), Mds(), Olmo()]
each_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


def tables():
    return [example(seed=1), example(seed=2).slice(0, 0), example(seed=3, windows=5)]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@each_format
def test_the_manifest_tells_all(form, tmp_path):
    manifest = write_export(tables(), Directory.at(tmp_path / "out"), form, vocabulary())
    found = contents(tmp_path / "out")
    assert json.loads(found["manifest.json"]) == json.loads(json.dumps(manifest))
    assert manifest["format"] == form.name
    assert manifest["window"] == 16
    assert manifest["vocabulary"] == {"tokenizer": "test/tokenizer", "size": 1000, "eos": 1, "pad": 0}
    assert manifest["token_dtype"] == form.token_dtype(vocabulary()).name
    assert "target-aligned" in manifest["mask_alignment"]
    rows = [row for table in tables() for row in table.to_pylist()]
    counts = manifest["counts"]
    assert counts["windows"] == 13 and counts["tokens"] == 13 * 16
    assert counts["segments"] == counts["documents"] == 39
    assert counts["padding"] == 13 * 16 - sum(sum(row["segment_lengths"]) for row in rows)
    assert counts["mask_sum"] + counts["targets_without_context"] == sum(sum(row["loss_mask"]) for row in rows)
    without = sum(row["loss_mask"][0] for row in rows) if form.name == "megatron" else 0
    assert counts["targets_without_context"] == without
    assert [part["number"] for part in manifest["parts"]] == [0, 2]  # the empty one has no files
    named = [file for part in manifest["parts"] for file in part["files"]]
    assert {file["path"]: file["bytes"] for file in named}.items() <= {
        p: len(data) for p, data in found.items()
    }.items()
    assert all(checksum(found[file["path"]]) == file["checksum"] for file in named)
    assert "test/tokenizer" in found["README.md"].decode() and form.reader in found["README.md"].decode()


@each_format
def test_written_again_it_has_equal_bytes(form, tmp_path):
    write_export(tables(), Directory.at(tmp_path / "out"), form, vocabulary())
    first = contents(tmp_path / "out")
    write_export(tables(), Directory.at(tmp_path / "out"), form, vocabulary())
    assert contents(tmp_path / "out") == first


@each_format
def test_parts_don_t_depend_on_each_other(form, tmp_path):
    """Made alone, in another order, by other processes: the same export."""
    write_export(tables(), Directory.at(tmp_path / "one"), form, vocabulary())
    other = Directory.at(tmp_path / "other")
    parts = {n: export_part(tables()[n], n, other, form, vocabulary()) for n in (2, 0, 1)}
    finish_export([parts[n] for n in sorted(parts)], other, form, vocabulary())
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@each_format
def test_nothing_at_all(form, tmp_path):
    manifest = write_export([], Directory.at(tmp_path / "out"), form, vocabulary())
    assert manifest["parts"] == [] and manifest["counts"]["tokens"] == 0 and manifest["window"] is None


def test_a_cut_export_has_no_manifest(tmp_path):
    """Neither one that was complete before, so a reader can't take old parts with new ones."""
    out = Directory.at(tmp_path / "out")
    write_export(tables(), out, Olmo(), vocabulary())

    def broken():
        yield example(seed=4)
        yield example(size=2000, seed=5)

    with pytest.raises(InputError, match="part 1 has id"):
        write_export(broken(), out, Olmo(), vocabulary())
    assert out.size("manifest.json") is None
    write_export(tables(), out, Olmo(), vocabulary())
    assert out.size("manifest.json") is not None


def test_files_of_an_earlier_export_are_refused(tmp_path):
    out = Directory.at(tmp_path / "out")
    write_export(tables(), out, Datatrove(), vocabulary())
    with pytest.raises(StorageError, match="4 files that don't belong to this export, such as tokens_00002"):
        write_export(tables()[:1], out, Datatrove(), vocabulary())
    assert out.size("manifest.json") is None


def test_pieces_without_an_end_token_are_counted(tmp_path):
    """A piece that ends its window, or that padding follows, needs none."""
    rows = [
        window([[5, 6], [7, 1], [8]], 6, lambda _: True, 0),
        window([[5, 6], [7, 8, 9, 9]], 6, lambda _: True, 3),
    ]
    manifest = write_export([to_table(rows)], Directory.at(tmp_path), Olmo(), vocabulary())
    assert manifest["counts"]["segments_without_eos"] == 2


def test_phases_are_in_the_manifest(tmp_path):
    tables = [of_phase(example(seed=n), phase) for n, phase in enumerate(["tagged", "cooldown"])]
    manifest = write_export(tables, Directory.at(tmp_path / "out"), HuggingFace(), vocabulary())
    assert [part["phase"] for part in manifest["parts"]] == ["tagged", "cooldown"]
    with pytest.raises(InputError, match="part 0 has windows of the phases tagged, cooldown; a part has one phase"):
        write_export([pa.concat_tables(tables)], Directory.at(tmp_path / "mixed"), HuggingFace(), vocabulary())


@each_format
def test_object_storage_holds_the_same_bytes(form, tmp_path):
    remote = Directory.at(f"memory:///{form.name}")
    write_export(tables(), remote, form, vocabulary())
    write_export(tables(), Directory.at(tmp_path / "out"), form, vocabulary())
    found = contents(tmp_path / "out")
    assert {path: remote.get(path) for path, _ in remote.sizes("")} == found
