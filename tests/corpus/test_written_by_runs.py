"""A corpus in a dataset of ours, around one or beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dataset_folder import NAME, PART, RECIPE, write

from annotate.corpus.files import find_files
from annotate.errors import InputError
from annotate.storage.layout import MARKER
from annotate.storage.marker import mark
from annotate.storage.store import Directory


@pytest.fixture
def folder(tmp_path: Path) -> Directory:
    return Directory.at(tmp_path / "out" / NAME)


@pytest.mark.parametrize(
    "path", ["{}", "{}/parts", "{}/parts/*.parquet", "{}/" + PART, "{}/../*/parts/*.parquet", "{}/../../**/*.parquet"]
)
@pytest.mark.parametrize("older", [False, True])
def test_a_corpus_in_a_dataset_of_ours_is_refused(folder: Directory, path: str, older: bool) -> None:  # noqa: FBT001
    mark(folder, RECIPE, version=1, settings="")
    write(Path(folder.url) / PART)
    if older:
        folder.put("units/0123456789abcdef01234567", b"{}")
        folder.delete([MARKER])
    with pytest.raises(InputError, match=rf"lies in the dataset .*/out/{NAME}; a later run .* may remove it") as caught:
        find_files(path.format(folder.url))
    assert caught.value.hint is not None and "annotate.shards" in caught.value.hint


def test_a_copy_of_a_dataset_s_files_is_a_corpus(folder: Directory, tmp_path: Path) -> None:
    mark(folder, RECIPE, version=1, settings="")
    write(Path(folder.url) / PART)
    shutil.copytree(folder.url, tmp_path / "mine")
    assert len(find_files(str(tmp_path / "mine"))) == 1


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_into_a_dataset_of_ours_are_refused(folder: Directory, tmp_path: Path, what: str) -> None:
    mark(folder, RECIPE, version=1, settings="")
    part = write(Path(folder.url) / PART)
    (tmp_path / "corpus").mkdir()
    target, link = (part, "a.parquet") if what == "file" else (part.parent, "more")
    (tmp_path / "corpus" / link).symlink_to(target)
    with pytest.raises(InputError, match="holds links into the dataset"):
        find_files(str(tmp_path / "corpus"))
    (tmp_path / "corpus" / link).unlink()
    (tmp_path / "corpus" / "a.parquet").symlink_to(write(tmp_path / "elsewhere" / "a.parquet"))
    assert [file.shard for file in find_files(str(tmp_path / "corpus"))] == ["a.parquet"]


def test_what_a_run_keeps_beside_its_datasets_is_no_corpus(tmp_path: Path) -> None:
    write(tmp_path / "out" / "quarantine" / "annotations-0123abcd-0123abcd.parquet")
    for path in ("out/quarantine", "**/*.parquet"):
        with pytest.raises(InputError, match="lies in a work directory, and a run wrote it"):
            find_files(str(tmp_path / path))
    write(tmp_path / "mine" / "quarantine" / "a.parquet")
    assert [file.shard for file in find_files(str(tmp_path / "mine"))] == ["quarantine/a.parquet"]


def test_a_corpus_beside_datasets_is_one(folder: Directory, tmp_path: Path) -> None:
    mark(folder, RECIPE, version=1, settings="")
    write(tmp_path / "out" / "wiki-20231101" / "a.parquet")
    for path in ("out/wiki-20231101", "out/wiki-20231101/*.parquet", "out/wiki-*/*.parquet"):
        assert len(find_files(str(tmp_path / path))) == 1
