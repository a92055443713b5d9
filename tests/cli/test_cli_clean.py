import json
import shutil

import pytest

import annotate as package
from annotate import Options
from annotate.engine.events import Silent
from annotate.engine.lease import hold
from annotate.storage.store import Directory


class Record(Silent):
    """Remembers the stages that ran."""

    def __init__(self):
        self.ran = []

    def started(self, stage, units, detail):
        self.ran.append(stage)


def plant(workdir):
    """Leave what interrupted and older runs leave; gives the paths."""
    latest = json.loads((workdir / "latest.json").read_text())
    spans = workdir / latest["spans"]["dataset"]
    planted = [
        spans / "parts" / "0123456789abcdef-0123456789abcdef.parquet",
        spans / "quarantine" / "0123456789abcdef-0123456789abcdef.parquet",
        spans / "manifests" / "units-0123456789abcdef.parquet",
        spans / "parts" / "half-written.parquet#7",
        spans / "files" / "01234567" / "tokenizer" / "tokenizer.json",
        workdir / "spans-00000000" / "units" / "0123456789abcdef",
        workdir / "spans-00000000" / "parts" / "0123456789abcdef-0123456789abcdef.parquet",
    ]
    for path in planted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    return planted


def test_it_removes_what_nothing_names_and_a_second_run_finds_the_rest(annotate, workdir, tree, pipeline):
    spans = json.loads((workdir / "latest.json").read_text())["spans"]
    beside = workdir / spans["dataset"] / "files" / spans["fingerprint"][:8] / "tags.json"
    beside.parent.mkdir(parents=True)
    beside.write_text("{}")
    before = tree(workdir)
    planted = plant(workdir)
    code, out, _ = annotate("clean", workdir, "--yes")
    assert code == 0 and "spans-00000000" in out and "7.0 kB" in out
    assert not any(path.exists() for path in planted) and not (workdir / "spans-00000000").exists()
    assert [path.name for path in beside.parent.parent.iterdir()] == [beside.parent.name]
    assert tree(workdir) == before
    again = Record()
    result = pipeline.run(str(workdir), observer=again)
    assert again.ran == []
    assert result.ledger is not None and len(package.shards(workdir)) == 2


def test_a_dry_run_lists_and_removes_nothing(annotate, workdir, tree):
    plant(workdir)
    before = tree(workdir)
    code, out, _ = annotate("clean", workdir, "--dry-run")
    assert code == 0 and "no entry names it" in out and "no manifest names it" in out and "cut short" in out
    assert tree(workdir) == before


def test_a_clean_directory_stays_as_it_is(annotate, workdir, tree):
    before = tree(workdir)
    code, out, _ = annotate("clean", workdir)
    assert code == 0 and "holds nothing" in out
    assert tree(workdir) == before


def test_it_asks_and_takes_no_for_an_answer(annotate, workdir, tree, monkeypatch):
    plant(workdir)
    before = tree(workdir)
    code, _, err = annotate("clean", workdir)  # nobody to ask
    assert code == 2 and "--yes" in err
    answers = iter([False, True])
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("click.confirm", lambda text: next(answers))
    assert annotate("clean", workdir)[0] == 0 and tree(workdir) == before
    assert annotate("clean", workdir)[0] == 0 and len(tree(workdir)) == len(before) - 7


def test_units_that_only_an_older_run_used_go_when_asked(annotate, corpus, tmp_path, ray_cluster, tree):
    import support

    grown = shutil.copytree(corpus, tmp_path / "corpus")
    made = support.pipeline(grown, tmp_path / "calls", unit_bytes=2000, part_bytes=4000)
    workdir = tmp_path / "out"
    made.run(str(workdir), Options(workers=2))
    (grown / "s9.parquet").unlink()
    result = made.run(str(workdir), Options(workers=2))
    shown = support.shard_bytes(workdir)
    before = tree(workdir)
    assert "holds nothing" in annotate("clean", workdir, "--yes")[1]
    code, out, _ = annotate("clean", workdir, "--yes", "--old-units")
    assert code == 0 and "does not use this unit" in out
    gone = set(before) - set(tree(workdir))
    assert {path.parent.name for path in gone} == {"units", "parts", "quarantine", "manifests"}
    assert all(dataset.find() for dataset in result.datasets.values())
    again = Record()
    made.run(str(workdir), observer=again)
    assert again.ran == [] and support.shard_bytes(workdir) == shown


def test_it_refuses_while_a_run_goes_on(annotate, workdir, tree):
    plant(workdir)
    with hold(Directory.at(workdir), "20990101T000000-abcdef", share=False):
        before = tree(workdir)
        for flags in (["--yes"], ["--dry-run"]):
            code, _, err = annotate("clean", workdir, *flags)
            assert code == 4 and "20990101T000000-abcdef" in err
        assert tree(workdir).keys() == before.keys()


def test_it_warns_where_a_later_run_was_cut_short(annotate, workdir):
    plant(workdir)
    planned = [{"label": "spans", "dataset": "spans-00000000", "fingerprint": "0"}]
    event = {"time": 5.0, "event": "planned", "datasets": planned}
    assert "stopped before its end" not in annotate("clean", workdir, "--dry-run")[1]
    (workdir / "events" / "99990101T000000-abcdef-0.jsonl").write_text(json.dumps(event) + "\n")
    assert "stopped before its end" in annotate("clean", workdir, "--dry-run")[1]


@pytest.mark.parametrize("damage", ["units", "manifests"])
def test_where_it_cannot_tell_what_is_named_it_removes_nothing(annotate, workdir, damage):
    planted = plant(workdir)
    latest = json.loads((workdir / "latest.json").read_text())
    (workdir / latest["spans"]["dataset"] / damage / "extra.json").write_text("{]")
    code, _, err = annotate("clean", workdir, "--yes")
    assert code == 4 and "is damaged" in err and all(path.exists() for path in planted)


def test_a_directory_without_a_finished_run_is_left_alone(annotate, tmp_path, tree):
    (tmp_path / "spans-00000000").mkdir()
    (tmp_path / "spans-00000000" / "mine").write_text("x")
    before = tree(tmp_path)
    code, _, err = annotate("clean", tmp_path, "--yes")
    assert code == 4 and "no run has finished" in err and tree(tmp_path) == before


def test_other_people_s_folders_are_never_touched(annotate, workdir):
    mine = workdir / "my-notes" / "units" / "x"
    mine.parent.mkdir(parents=True)
    mine.write_text("x")
    assert annotate("clean", workdir, "--yes")[0] == 0 and mine.exists()
