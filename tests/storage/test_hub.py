"""Corpora on the Hugging Face hub, of which a file system in memory takes the place."""

from __future__ import annotations

import io
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from annotate import Corpus, tally
from annotate.corpus.files import find_files
from annotate.errors import StorageError
from annotate.storage import connections, retries
from annotate.storage.store import Directory

TABLE = pa.table({"id": ["a", "b"], "text": ["One.", "Two."]})


class HubLike(MemoryFileSystem):
    """Has the paths of the hub; the next calls raise what is in `fails`."""

    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fails: ClassVar[list[Exception]] = []

    def open(self, *args: Any, **more: Any) -> Any:
        if self.fails:
            raise self.fails.pop()
        return super().open(*args, **more)


class Refused(Exception):
    """As the hub's client raises, with the status of the response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}\nmore")
        self.response = SimpleNamespace(status_code=status)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubLike]:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)
    HubLike.store.clear()
    HubLike.pseudo_dirs[:] = [""]
    fsspec.register_implementation("hf", HubLike, clobber=True)
    connections.forget()
    tally.taken()
    made = fsspec.filesystem("hf")
    data = io.BytesIO()
    pq.write_table(TABLE, data)
    for path, content in {
        "data/train-0.parquet": data.getvalue(),
        "data/deep/train-1.parquet": data.getvalue(),
        "README.md": b"card",
    }.items():
        made.pipe_file(f"/datasets/org/name@v1/{path}", content)
    yield made
    fsspec.register_implementation("hf", "huggingface_hub.HfFileSystem", clobber=True)


def test_files_are_listed_and_read(hub: HubLike) -> None:
    folder = Directory.at("hf://datasets/org/name@v1")
    sizes = dict(folder.sizes(""))
    assert sizes.keys() == {"README.md", "data/train-0.parquet", "data/deep/train-1.parquet"}
    assert dict(folder.sizes("", deep=False)) == {"README.md": 4}
    assert folder.folders() == ["data"]
    assert (folder.size("README.md"), folder.size("data"), folder.size("none")) == (4, None, None)
    assert folder.get("README.md") == b"card" and folder.version("README.md") is not None
    with pytest.raises(FileNotFoundError):
        folder.get("none")
    assert pq.read_table(pa.PythonFile(folder.open("data/train-0.parquet"))).equals(TABLE)


def test_a_corpus_is_found_by_folder_glob_and_name(hub: HubLike) -> None:
    place = "hf://datasets/org/name@v1"
    for path, shards in {
        place: ["data/deep/train-1.parquet", "data/train-0.parquet"],
        f"{place}/data/*.parquet": ["train-0.parquet"],
        f"{place}/data/train-0.parquet": ["train-0.parquet"],
    }.items():
        assert [file.shard for file in find_files(path)] == shards
    corpus = Corpus(f"{place}/data/*.parquet")
    [(file, footer)] = corpus.footers(corpus.files(), threads=1)
    assert file.shard == "train-0.parquet" and footer is not None


@pytest.mark.parametrize(
    "error, kind",
    [(Refused(429), "throttled"), (Refused(502), "server error"), (ConnectionResetError("reset"), "connection")],
)
def test_what_may_pass_is_tried_again_and_counted(hub: HubLike, error: Exception, kind: str) -> None:
    hub.fails.append(error)
    assert Directory.at("hf://datasets/org/name@v1").get("README.md") == b"card"
    assert {name: n for name, n in tally.taken().items() if name.startswith(retries.COUNTED)} == {f"retries: {kind}": 1}


def test_what_can_not_pass_is_an_error(hub: HubLike) -> None:
    folder = Directory.at("hf://datasets/org/name@v1")
    hub.fails.append(Refused(401))
    with pytest.raises(StorageError, match=r"README.md cannot be read: Refused: status 401\n"):
        folder.get("README.md")
    refused = Refused(403)
    refused.args = ("403 Forbidden: token marked-secret",)
    for error in (
        refused,
        ValueError('no JSON: {"key": "marked-secret"}'),
        ValueError("s3://marked-secret@h/x"),
    ):
        hub.fails.append(error)
        with pytest.raises(StorageError) as caught:
            folder.get("README.md")
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    for write in (
        lambda: folder.put("a", b""),
        lambda: folder.put_new("a", b""),
        folder.create,
        lambda: folder.delete(["a"]),
    ):
        with pytest.raises(StorageError, match="hf:// is for reading alone"):
            write()
