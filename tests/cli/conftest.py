"""One small run for the whole session, and the command line with its output."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import support
from here import ray_here

from annotate import Options
from annotate.cli.app import app, guarded

ODD = {
    "id": ["steers", "[bold]marked[/bold]", "empty", "spells"],
    "text": [
        "It rings \x07 and turns red \x1b[31m here. Then it goes on for some more words.",
        "A first sentence of some length stands here.\r\n\r\nA second one has [red]markup[/red] and an :apple: in it.",
        "",
        "This one spells <nice> by itself, which only the pipeline may do.",
    ],
    "source": ["odd"] * 4,
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Two shards of ordinary documents, each with two near-duplicates, and one of odd ones."""
    folder = support.write_corpus(tmp_path_factory.mktemp("cli") / "corpus", shards=2, documents=14)
    pq.write_table(pa.table(ODD), folder / "s9.parquet")
    return folder


@pytest.fixture(scope="session")
def pipeline(corpus, tmp_path_factory):
    """Corpus to shards, in several units and two training shards."""
    return support.pipeline(corpus, tmp_path_factory.mktemp("calls"), **support.SMALL_UNITS)


@pytest.fixture(scope="session")
def finished(pipeline, tmp_path_factory):
    """A work directory whose run went to its end; tests only read it."""
    workdir = tmp_path_factory.mktemp("finished") / "out"
    with ray_here():
        pipeline.run(str(workdir), Options(workers=1))
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(finished, tmp_path / "out")


@pytest.fixture
def annotate(capsys):
    """Run the command line; gives exit code, output and errors."""

    def run(*arguments):
        code = guarded(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def tree():
    """All files below a folder with their contents, to tell that nothing changed."""

    def read(folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    return read
