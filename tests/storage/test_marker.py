"""What is a dataset of ours: its marker, the names below it, and a corpus in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dataset_folder import NAME, PART, RECIPE, write

from annotate.errors import StorageError
from annotate.storage.layout import MARKER
from annotate.storage.marker import FORMAT, datasets_in, mark, other_versions, read_marker
from annotate.storage.store import Directory


@pytest.fixture
def folder(tmp_path: Path) -> Directory:
    return Directory.at(tmp_path / "out" / NAME)


def test_a_marker_is_the_same_whoever_writes_it_and_found_again(folder: Directory) -> None:
    assert read_marker(folder) is None
    mark(folder, RECIPE, version=1, settings="")
    first = folder.get(MARKER)
    mark(folder, RECIPE, version=1, settings="")
    assert folder.get(MARKER) == first
    said = {"what": "", "dataset": NAME, "recipe": RECIPE, "format": FORMAT, "version": 1, "settings": ""}
    assert json.loads(first) | {"what": ""} == said
    assert [path for path, _ in folder.sizes("")] == [MARKER]


def test_only_an_empty_folder_is_marked(folder: Directory) -> None:
    mark(folder, RECIPE, version=1, settings="")
    folder.put("notes.txt", b"mine")  # what a user puts there later is no run's, and stops none
    mark(folder, RECIPE, version=1, settings="")
    folder.delete([MARKER])
    for name in ("notes.txt", PART):  # a part without a marker is of a copy, or of a version that put none
        with pytest.raises(StorageError, match=rf"has other files, such as {name}, and no dataset\.json"):
            mark(folder, RECIPE, version=1, settings="")
        assert read_marker(folder) is None
        folder.delete(["notes.txt"])
        folder.put(PART, b"x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "a corpus of mine"}', r"such as dataset\.json, and no dataset\.json of annotate"),
        ("{]", r"such as dataset\.json, and no dataset\.json of annotate"),
        ('{"what": "", "dataset": "spans-77b01e9a", "recipe": "", "format": 1}', r"and no dataset\.json of annotate"),
        (None, "is not the dataset of the recipe"),
    ],
)
def test_a_file_of_that_name_that_is_no_marker_of_this_dataset_is_refused(
    folder: Directory, content: str | None, message: str
) -> None:
    if content is None:
        mark(folder, "77b01e9a" + "1" * 24, version=1, settings="")
    else:
        folder.create()
        folder.put(MARKER, content.encode())
    before = folder.get(MARKER)
    with pytest.raises(StorageError, match=message):
        mark(folder, RECIPE, version=1, settings="")
    assert folder.get(MARKER) == before


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_a_format_that_is_not_known_is_named(folder: Directory, number: int) -> None:
    mark(folder, RECIPE, version=1, settings="")
    said = json.loads(folder.get(MARKER)) | {"format": number}
    folder.put(MARKER, json.dumps({**said, "more": "that a newer version says"}).encode())
    workdir = Directory.at(Path(folder.url).parent)
    for look in (lambda: mark(folder, RECIPE, version=1, settings=""), lambda: datasets_in(workdir)):
        with pytest.raises(StorageError, match=f"{NAME} has format {number}; this version .* format {FORMAT}"):
            look()


def test_datasets_of_other_versions_of_a_recipe_are_found(tmp_path: Path) -> None:
    workdir = Directory.at(tmp_path / "out")
    for name, version, settings in (("a", 1, "s"), ("b", 2, "s"), ("c", 1, "t")):
        mark(workdir.child(f"spans-{name * 8}"), name * 32, version=version, settings=settings)
    mark(workdir.child("tokens-dddddddd"), "d" * 32, version=1, settings="s")
    found = other_versions(datasets_in(workdir).values(), "spans", 2, "s")
    assert [(marker.dataset, marker.version) for marker in found] == [("spans-aaaaaaaa", 1)]
    assert other_versions(datasets_in(workdir).values(), "spans", 1, "t") == []


def test_datasets_are_told_by_their_marker_and_never_by_a_name(folder: Directory, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mark(folder, RECIPE, version=1, settings="")
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
