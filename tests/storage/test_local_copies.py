"""Copies of models and files at a URL: whole, made once, and made anew when what lies at the URL is written anew."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import object_store
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_models import save_tiny_model
from tiny_tokenizer import byte_tokenizer

from annotate.corpus.files import corpus_directory, find_files
from annotate.errors import ConfigError
from annotate.probes.labels import read_labels
from annotate.scorers import Encoder
from annotate.stages.shared.listed_ids import read_ids
from annotate.storage import connections, local_copies
from annotate.storage.local_copies import local_copy
from annotate.storage.store import Directory
from annotate.tags import load_scheme, presets
from annotate.tokens.tokenizer import load_tokenizer, pin_tokenizer, tokenizer_hash


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with object_store.s3() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    for name, value in {**object_store.environment(endpoint), "ANNOTATE_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    forget()
    yield Directory.at(f"s3://{object_store.BUCKET}/{tmp_path.name}")
    forget()


def forget() -> None:
    """What another process would not know."""
    connections.forget()
    local_copies._copied.cache_clear()


def test_a_local_path_is_itself(tmp_path: Path) -> None:
    assert local_copy(str(tmp_path)) == tmp_path
    assert local_copy("~/x") == Path.home() / "x"


def test_a_folder_and_a_file_are_copied_and_only_the_files_that_are_wanted(bucket: Directory) -> None:
    for path in ("model/config.json", "model/deep/a.json", "model/optimizer.pt", "model-2/config.json"):
        bucket.put(path, path.encode())
    place = local_copy(f"{bucket.url}/model/", ("*.json",))
    found = {path.relative_to(place).as_posix(): path.read_text() for path in place.rglob("*") if path.is_file()}
    assert found == {"config.json": "model/config.json", "deep/a.json": "model/deep/a.json"}
    file = local_copy(f"{bucket.url}/model/optimizer.pt")
    assert (file.name, file.read_text()) == ("optimizer.pt", "model/optimizer.pt")


def test_what_is_written_anew_is_copied_anew_and_else_not(bucket: Directory) -> None:
    bucket.put("a.txt", b"one")
    first = local_copy(f"{bucket.url}/a.txt")
    stamp = first.stat().st_mtime_ns
    forget()
    assert local_copy(f"{bucket.url}/a.txt") == first and first.stat().st_mtime_ns == stamp
    bucket.put("a.txt", b"two")
    forget()
    assert local_copy(f"{bucket.url}/a.txt").read_text() == "two"
    assert first.read_text() == "one"  # a run that reads it goes on


def test_processes_that_start_together_make_one_copy_and_what_a_killed_one_left_is_no_copy(
    bucket: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("m/a.json", b"{}" * 1000)
    copies = []
    copy = local_copies._copy
    monkeypatch.setattr(local_copies, "_copy", lambda *args: (copies.append(args), copy(*args)))
    with monkeypatch.context() as patch:
        patch.setattr(local_copies.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            local_copy(f"{bucket.url}/m")
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(lambda _: local_copies._copied.__wrapped__(f"{bucket.url}/m", ("*",)), range(4)))
    assert len(set(places)) == 1 and len(copies) == 2
    assert (places[0] / "a.json").read_bytes() == b"{}" * 1000
    assert not list((tmp_path / "cache").glob("*.part"))


def test_what_is_missing_is_named(bucket: Directory) -> None:
    with pytest.raises(ConfigError, match=f"there is nothing at {bucket.url}/none"):
        local_copy(f"{bucket.url}/none")


def test_a_cache_that_can_not_be_written_is_named(
    bucket: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a", b"1")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANNOTATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"can't be written to .*file") as error:
        local_copy(f"{bucket.url}/a")
    assert "ANNOTATE_CACHE" in str(error.value.hint)


def test_a_corpus_may_be_one_object_or_a_folder_of_that_name(bucket: Directory) -> None:
    for path in ("one.parquet", "one.parquet.jsonl", "spark.parquet/part-0.parquet", "spark.parquet/_SUCCESS"):
        bucket.put(path, b"x")
    [one] = find_files(f"{bucket.url}/one.parquet")
    assert (one.directory, one.shard) == (bucket, "one.parquet")
    assert [file.shard for file in find_files(f"{bucket.url}/spark.parquet")] == ["part-0.parquet"]
    assert corpus_directory(f"{bucket.url}/one.parquet.jsonl") == bucket
    assert corpus_directory(f"{bucket.url}/spark.parquet/") == bucket.child("spark.parquet")


def test_tokenizers_schemes_and_lists_are_read_from_urls(bucket: Directory, tmp_path: Path) -> None:
    folder = byte_tokenizer(tmp_path / "tokenizer")
    for path in folder.iterdir():
        bucket.put(f"tokenizer/{path.name}", path)
    bucket.put("my.toml", presets()["korbak"].encode())
    bucket.put("ids.txt", b"one\ntwo\n")
    expected = tokenizer_hash(load_tokenizer(str(folder)))
    for name in ("tokenizer", "tokenizer/tokenizer.json"):
        url = f"{bucket.url}/{name}"
        assert pin_tokenizer(url) == (url, None)  # each node makes its own copy
        assert tokenizer_hash(load_tokenizer(url)) == expected
    assert load_scheme(f"{bucket.url}/my.toml").tags
    assert read_ids(f"{bucket.url}/ids.txt") == ("one", "two")


def test_a_model_at_a_url_is_known_by_its_files(bucket: Directory, tmp_path: Path) -> None:
    save_tiny_model("bert-encoder", tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        bucket.put(f"model/{path.name}", path)
    bucket.put("model/optimizer.pt", b"not wanted")
    there, here = Encoder(f"{bucket.url}/model"), Encoder(tmp_path / "model")
    assert there.identity() == here.identity()
    assert there.resolved().model == f"{bucket.url}/model"  # each node makes its own copy
    assert "optimizer.pt" not in {path.name for path in there.files().directory.iterdir()}


def test_labels_are_read_from_a_url(bucket: Directory, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "rating": [1.0]}), tmp_path / "labels.parquet")
    bucket.put("labels.parquet", tmp_path / "labels.parquet")
    with pytest.raises(ConfigError, match=r"have no column 'label'; they have \['text', 'rating'\]"):
        read_labels(f"{bucket.url}/labels.parquet", text="text", label="label", source=None, split=None, seed=0)
