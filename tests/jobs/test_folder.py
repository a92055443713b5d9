"""What of a pipeline's folder goes to the cluster."""

import zipfile

import pytest
import support

from annotate.errors import ConfigError
from annotate.jobs import folder as folder_module
from annotate.jobs.folder import choose, pack


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "pipelines"
    for name, content in {
        "mine.py": "import helper\n",
        "helper.py": "x = 1\n",
        "schemes/tags.toml": "[tags]\n",
        "kindness.safetensors": "weights",
        "labels.parquet": "labels",
        ".env": "AWS_SECRET_ACCESS_KEY=no",
        ".git/objects/pack": "history",
        "__pycache__/helper.pyc": "",
        "env/pyvenv.cfg": "",
        "env/lib/torch.py": "",
        "out/latest.json": "{}",
        "out/events/run.jsonl": "",
        "spans-1/dataset.json": "{}",
        "lines/a.jsonl.zst": "",
        "lines/_SUCCESS": "",
        "helpers/__init__.py": "",
        "plain/__init__.py": "",
        "plain/words.jsonl": "{}",
        "rules/__init__.py": "",
        "rules/words.jsonl": "{}",
        "rules/more.jsonl": "{}",
        "rules/deep/data.parquet": "",
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    support.write_corpus(place / "data", shards=1, documents=4)
    (place / "link").symlink_to(tmp_path)
    (place / "linked.py").symlink_to(place / "helper.py")
    (place / "nowhere.py").symlink_to(place / "gone.py")
    return place


def test_modules_and_small_files_go_and_data_stay(folder):
    found = choose(folder)
    assert list(found.files) == [
        "helper.py", "helpers/__init__.py", "kindness.safetensors", "labels.parquet", "linked.py", "mine.py",
        "plain/__init__.py", "rules/__init__.py", "schemes/tags.toml",
    ]  # fmt: skip
    assert found.bytes == sum((folder / name).stat().st_size for name in found.files)
    assert found.left_out == {
        "data": "files of a corpus",
        "env": "a virtual environment",
        "lines": "files of a corpus",
        "link": "a link to a folder",
        "out": "written by runs",
        "plain/*.jsonl": "files of a corpus",
        "rules/*.jsonl": "files of a corpus",
        "rules/deep": "files of a corpus",
        "spans-1": "written by runs",
    }


def test_the_archive_holds_just_these_and_is_a_function_of_them(folder, tmp_path):
    found = choose(folder)
    pack(found, tmp_path / "a.zip")
    (folder / "helper.py").touch()
    (folder / "out" / "more").write_text("more")
    pack(choose(folder), tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == {
            name: (folder / name).read_bytes() for name in found.files
        }


def test_too_much_is_refused_by_its_largest_files(folder, monkeypatch):
    monkeypatch.setattr(folder_module, "MOST_BYTES", 1 << 20)
    (folder / "small.bin").write_bytes(bytes(300 << 10))
    (folder / "schemes" / "large.bin").write_bytes(bytes(2 << 20))
    with pytest.raises(ConfigError, match=r"2\.4 MB, .* at most 1\.0 MB.*schemes/large\.bin \(2\.1 MB\), small\.bin"):
        choose(folder)
    monkeypatch.setattr(folder_module, "MOST_FILES", 3)
    with pytest.raises(ConfigError, match="over 3 files"):
        choose(folder)


def test_a_file_that_goes_away_is_named(folder, tmp_path):
    found = choose(folder)
    (folder / "helper.py").unlink()
    with pytest.raises(ConfigError, match=r"helper\.py can't be read"):
        pack(found, tmp_path / "a.zip")
