"""The commands on a corpus of JSON lines, whose documents are read from what was imported."""

import json

import pytest
import support
from here import ray_here

from annotate import Options
from annotate.engine.events import Silent


class Record(Silent):
    """Remembers units of stages that ran."""

    def __init__(self):
        self.ran = []

    def started(self, stage, units, detail):
        self.ran.append((stage, units))


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A pipeline over JSON lines, and a work directory in which it ran to its end."""
    folder = tmp_path_factory.mktemp("lines")
    rows = [{"id": f"line-{i}", "text": support.sentences(i, 4)} for i in range(8)]
    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = support.pipeline(folder / "corpus", folder / "calls")
    with ray_here():
        made.run(str(folder / "out"), Options(workers=1))
    return made, folder / "out"


def test_show_reads_what_was_imported(annotate, lines):
    code, out, _ = annotate("show", lines[1], "--scores", "--doc", "line-3")
    assert code == 0 and "line-3" in out and support.sentences(3, 4).split()[0] in out


def test_status_lists_the_import(annotate, lines):
    code, out, _ = annotate("status", lines[1])
    assert code == 0 and "corpus (import)" in out and "finished" in out


def test_clean_keeps_imports_and_a_second_run_does_nothing(annotate, ray_in_process, lines, tree):
    made, workdir = lines
    imported = {path for path in tree(workdir) if path.parts[-3].startswith("corpus-")}
    assert annotate("clean", workdir, "--yes", "--old-units")[0] == 0
    assert imported == {path for path in tree(workdir) if path.parts[-3].startswith("corpus-")}
    calls = support.rows_scored(workdir.parent / "calls")
    again = Record()
    made.run(str(workdir), observer=again)
    assert not [stage for stage, _ in again.ran if not stage.startswith("corpus (")]
    assert support.rows_scored(workdir.parent / "calls") == calls
