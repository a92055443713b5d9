"""What is a dataset of ours: its marker, the names below it, and a corpus in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.errors import StorageError
from annotate.storage.layout import MARKER
from annotate.storage.marker import FORMAT, datasets_in, mark, read_marker
from annotate.storage.store import Directory

NAME, RECIPE = "spans-77b01e9a", "77b01e9a" + "0" * 24
PART = "parts/0123456789abcdef01234567-0123456789abcdef.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Directory:
    return Directory.at(tmp_path / "out" / NAME)


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ["a"], "text": ["Some text."]}), path)
    return path


def test_a_marker_is_the_same_whoever_writes_it_and_found_again(folder: Directory) -> None:
    assert read_marker(folder) is None
    mark(folder, RECIPE)
    first = folder.get(MARKER)
    mark(folder, RECIPE)
    assert folder.get(MARKER) == first
    assert json.loads(first) | {"what": ""} == {"what": "", "dataset": NAME, "recipe": RECIPE, "format": FORMAT}
    assert [path for path, _ in folder.sizes("")] == [MARKER]


def test_a_folder_that_an_older_version_made_is_taken_over_and_one_with_other_things_is_not(folder: Directory) -> None:
    folder.create()
    folder.put(PART, b"x")
    folder.put("units/0123456789abcdef01234567-12", b"x")
    mark(folder, RECIPE)
    assert read_marker(folder) is not None
    folder.put("notes.txt", b"mine")  # what a user puts there later is no run's, and stops none
    mark(folder, RECIPE)
    folder.delete([MARKER])
    with pytest.raises(StorageError, match=r"holds what no run wrote: notes\.txt"):
        mark(folder, RECIPE)
    assert read_marker(folder) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "a corpus of mine"}', r"holds what no run wrote: dataset\.json"),
        ("{]", r"holds what no run wrote: dataset\.json"),
        ('{"what": "", "dataset": "spans-77b01e9a", "recipe": "", "format": 1}', "holds what no run wrote"),
        (None, "is not marked as the dataset of this recipe"),
    ],
)
def test_a_file_of_that_name_that_is_no_marker_of_this_dataset_is_refused(
    folder: Directory, content: str | None, message: str
) -> None:
    if content is None:
        mark(folder, "77b01e9a" + "1" * 24)
    else:
        folder.create()
        folder.put(MARKER, content.encode())
    before = folder.get(MARKER)
    with pytest.raises(StorageError, match=message):
        mark(folder, RECIPE)
    assert folder.get(MARKER) == before


def test_a_format_that_is_not_known_is_named(folder: Directory) -> None:
    mark(folder, RECIPE)
    folder.put(MARKER, folder.get(MARKER).replace(b'"format": 1', b'"format": 2'))
    workdir = Directory.at(Path(folder.url).parent)
    for look in (lambda: mark(folder, RECIPE), lambda: datasets_in(workdir)):
        with pytest.raises(StorageError, match=f"{NAME} has format 2; this version reads and writes format 1"):
            look()


def test_datasets_are_told_by_their_marker_and_never_by_a_name(folder: Directory, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mark(folder, RECIPE)
    write(out / "wiki-20231101" / "a.parquet")
    write(out / "wiki-20231102" / PART)
    shutil.copytree(out / NAME, out / "spans-77b01e9b")  # a copy says another name than its own
    (out / "spans-00000000" / "manifests").mkdir(parents=True)
    (out / "spans-00000000" / "manifests" / f"{'0' * 32}.json").write_text("{}")
    (out / "spans-11111111").symlink_to(out / "spans-11111111")
    assert {name: marker is not None for name, marker in datasets_in(Directory.at(out)).items()} == {
        NAME: True,
        "spans-00000000": False,
    }
