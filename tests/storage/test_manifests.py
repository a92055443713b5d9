"""Units: what they are stored as, and what identifies them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from annotate.storage.manifests import (
    OTHER_BYTES,
    WHOLE_FILE,
    FileRows,
    Manifest,
    ManifestWriter,
    Unit,
    fingerprints,
    missing_parts,
    read_units,
)
from annotate.storage.parts import Entry, Part
from annotate.storage.store import Directory

PART, BAD = Part("parts/k-s.parquet", 3, 700, "s"), Part("quarantine/k-b.parquet", 1, 90, "b")
ENTRY = Entry("k", PART, BAD, {"spans": 3}, {"device": "cpu"})
SOURCE = FileRows(
    path="parts/imported.parquet",
    size=4096,
    checksum="footer",
    content="all",
    text="text",
    group=2,
    other_bytes=40,
    types={"n": "int64", "a": "string"},
)
UNITS = (
    Unit("a.parquet", 0, 3, 500, (ENTRY,)),
    Unit("a.parquet", 3, 9, 200, (ENTRY, replace(ENTRY, key="k-1", quarantine=None))),
    Unit("b.jsonl", 0, 10, 900, source=SOURCE),
    Unit(
        "c.parquet", 0, 4, 0, source=FileRows(path="c.jsonl.gz", size=8, checksum="c", group=WHOLE_FILE, refused=(2,))
    ),
    Unit("", 0, 0, 0),
)


def written(directory: Directory) -> Manifest:
    writer = ManifestWriter(directory)
    for unit in UNITS:
        writer.add(unit)
    return writer.commit(stage="s", recipe="0" * 32, fingerprint="1" * 32, settings={}, inputs={})


def test_units_of_sources_and_of_other_stages_are_read_as_they_were_written(tmp_path: Path) -> None:
    directory = Directory.at(tmp_path)
    manifest = written(directory)
    assert tuple(read_units(directory, manifest)) == UNITS
    assert fingerprints(directory) == ["1" * 32]
    assert (manifest.units, manifest.rows) == (5, 3 + 6 + 10 + 4)
    assert manifest.size == 3 * 700 + 900  # of a source, the text; attributes have none
    assert manifest.counts == {"spans": 9, OTHER_BYTES: 40} and manifest.notes == {"device=cpu": 3}
    lost = missing_parts(directory, manifest)
    assert set(lost) == {PART.path, BAD.path}  # the files of sources are no parts of the dataset


IDENTIFYING = "size", "checksum", "content", "text", "refused", "unreadable"


@pytest.mark.parametrize("field", [field.name for field in fields(FileRows)])
def test_what_of_a_source_unit_is_in_its_identity(field: str) -> None:
    changes: dict[str, Any] = {"size": 1, "group": None, "other_bytes": 1, "types": {"n": "int32"}, "refused": (3,)}
    changes["unreadable"] = True
    unit = UNITS[2]
    other = replace(unit, source=replace(SOURCE, **{field: changes.get(field, "another")}))
    # Where the file lies and how it is read together change nothing; types do for who reads the column.
    assert (other.identity != unit.identity) == (field in IDENTIFYING)
    assert (other.identity_for(None) != unit.identity_for(None)) == (field not in ("path", "group", "other_bytes"))
    assert (other.identity_for(("n",)) != unit.identity_for(("n",))) == (field not in ("path", "group", "other_bytes"))
    assert (other.identity_for(("z",)) != unit.identity_for(("z",))) == (other.identity != unit.identity)


@pytest.mark.parametrize("changes", [{"shard": "x"}, {"start": 1}, {"stop": 2}])
def test_the_place_of_a_unit_is_in_its_identity(changes: dict[str, Any]) -> None:
    for unit in UNITS[:4]:
        assert replace(unit, **changes).identity != unit.identity


def test_of_a_committed_unit_the_checksums_are() -> None:
    unit = UNITS[0]
    other = replace(PART, checksum="t")
    assert replace(unit, entries=(replace(ENTRY, part=other),)).identity != unit.identity
    assert replace(unit, entries=(replace(ENTRY, key="other", counts={}, notes={}),)).identity == unit.identity
