import importlib.metadata
import shutil

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from annotate.errors import ConfigError
from pipelines import demo_corpus
from pipelines.demo_corpus import MAX_CHARACTERS, MIN_CHARACTERS, SCHEMA, main, make_demo_corpus, prose


def rows(corpus):
    return [row for path in corpus.paths for row in pq.read_table(path).to_pylist()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_demo_corpus(tmp_path_factory.mktemp("made"), documents=60, shards=3)


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made.paths[0].parent, tmp_path / "copied")


def test_shards_hold_the_documents_that_were_asked_for(made):
    assert made.written
    assert [pq.read_schema(path) for path in made.paths] == [SCHEMA] * 3
    assert [pq.read_metadata(path).num_rows for path in made.paths] == [20, 20, 20]
    documents = rows(made)
    assert made.documents == len(documents) == len({each["id"] for each in documents}) == 60
    assert made.characters == sum(len(each["text"]) for each in documents)
    assert all(MIN_CHARACTERS <= len(each["text"]) <= MAX_CHARACTERS for each in documents)


def test_sources_are_mixed_in_every_shard(made):
    assert "stdlib" in made.sources
    assert len(made.sources) > 10
    assert sum(made.sources.values()) == 60
    assert all(len(set(pq.read_table(path)["source"].to_pylist())) > 3 for path in made.paths)
    for each in rows(made):
        assert each["id"].split("/")[0] == each["source"].removeprefix("package:")


def test_equal_bytes_when_made_twice(made, tmp_path):
    make_demo_corpus(tmp_path / "again", documents=60, shards=3)
    assert contents(tmp_path / "again") == contents(made.paths[0].parent)


def test_a_corpus_that_is_there_is_not_written_again(made, copied, monkeypatch):
    monkeypatch.setattr(demo_corpus, "choose_documents", lambda documents: pytest.fail("read the machine again"))
    before = {path: path.stat().st_mtime_ns for path in copied.iterdir()}
    found = make_demo_corpus(copied, documents=60, shards=3)
    assert not found.written
    assert (found.documents, found.characters, found.sources) == (made.documents, made.characters, made.sources)
    assert found.paths == tuple(copied / path.name for path in made.paths)
    assert {path: path.stat().st_mtime_ns for path in copied.iterdir()} == before


@pytest.mark.parametrize("damage", ["no summary", "half a summary", "no shard", "half a shard"])
def test_an_incomplete_corpus_is_made_anew(made, copied, damage):
    path = copied / ("corpus.json" if "summary" in damage else made.paths[1].name)
    path.unlink() if damage.startswith("no") else path.write_bytes(path.read_bytes()[:-9])
    assert make_demo_corpus(copied, documents=60, shards=3).written
    assert contents(copied) == contents(made.paths[0].parent)


def test_another_size_replaces_what_is_there(copied):
    corpus = make_demo_corpus(copied, documents=40, shards=2)
    assert corpus.written
    assert {path.name for path in copied.iterdir()} == {"corpus.json", *(path.name for path in corpus.paths)}
    assert len(rows(corpus)) == 40


def test_other_peoples_files_are_left_alone(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"other Parquet files: mine\.parquet"):
        make_demo_corpus(tmp_path, documents=60, shards=3)
    assert contents(tmp_path) == {"mine.parquet": b"mine"}


@pytest.mark.parametrize(("documents", "shards"), [(0, 1), (5, 0), (3, 4)])
def test_impossible_sizes_are_refused(tmp_path, documents, shards):
    with pytest.raises(ConfigError, match=f"documents={documents}, shards={shards}"):
        make_demo_corpus(tmp_path / "new", documents=documents, shards=shards)
    assert not (tmp_path / "new").exists()


def test_nothing_is_imported(tmp_path):
    package = tmp_path / "trap"
    (package / "tests").mkdir(parents=True)
    sentence = "This sentence tells the reader of the docstring what is going on here. "
    (package / "__init__.py").write_text(f'"""{sentence * 4}"""\nraise SystemExit("imported")\n')
    (package / "broken.py").write_text("def (:\n")
    (package / "tests" / "test_trap.py").write_text(f'"""{sentence * 4}"""\n')
    info = tmp_path / "Tr.ap-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Tr.ap\nVersion: 1.0\n\n{sentence * 5}\n")
    (info / "RECORD").write_text("trap/__init__.py,,\ntrap/broken.py,,\ntrap/tests/test_trap.py,,\ntrap/gone.py,,\n")
    documents = list(demo_corpus.package_documents(importlib.metadata.PathDistribution(info)))
    assert [(each.id, each.source) for each in documents] == [
        ("tr-ap/DESCRIPTION", "package:tr-ap"),
        ("tr-ap/trap", "package:tr-ap"),
    ]
    assert documents[1].text == (sentence * 4).strip()


def test_docstrings_have_the_names_that_python_gives_them():
    code = b'''
"""Module."""
if True:
    def function():
        """Function."""
        def inner():
            """Inner."""
class Outer:
    """Outer."""
    def method(self):
        """Method."""
    class Nested:
        """Nested."""
'''
    assert dict(demo_corpus._docstrings(code, module="m")) == {
        "m": "Module.",
        "m.function": "Function.",
        "m.Outer": "Outer.\n\nMethod.",
        "m.Outer.Nested": "Nested.",
    }


def test_prose_keeps_sentences_and_drops_the_rest():
    kept = ["The first paragraph says what the function does.", "A second one, indented,\nruns over two lines."]
    text = f"""{kept[0]}

    Parameters
    ----------
    x : array_like
        The array that is looked at by the function.

    >>> function(1)
    This looks like the sentence of a doctest.

    | a table | is not | a sentence at all.

    x = {{k: v[0] for k, v in f(a_b, c_d).items()}}; y = g(x)[1:2]; z = h(y).

    {kept[1].splitlines()[0]}
    {kept[1].splitlines()[1]}

    Too short.
    """
    assert prose(text) == "\n\n".join(kept)


def test_prose_stops_at_the_longest_text_allowed():
    paragraph = "Some words that go on and on until the end of it. " * 10
    kept = prose("\n\n".join([paragraph] * 100))
    assert MAX_CHARACTERS - len(paragraph) - 2 < len(kept) <= MAX_CHARACTERS
    assert set(kept.split("\n\n")) == {paragraph.strip()}


def test_the_command_says_what_it_did(made, copied, tmp_path):
    run = CliRunner().invoke(main, [str(copied), "--documents", "60", "--shards", "3"])
    assert run.exit_code == 0
    assert run.output.startswith(f"Found 60 documents, 0.1 MB of text, from {len(made.sources)} sources, in 3 shards")
    refused = CliRunner().invoke(main, [str(tmp_path / "new"), "--shards", "0"])
    assert refused.exit_code == ConfigError.exit_code
    assert "shards=0" in refused.output
