import json
import shutil

import pytest

import annotate as package
from annotate import Options
from annotate.engine.events import Silent
from annotate.engine.lease import hold
from annotate.errors import ConfigError, StorageError
from annotate.pipeline import make
from annotate.storage.layout import parse
from annotate.storage.marker import mark
from annotate.storage.refusals import Refusal, put_refusal
from annotate.storage.store import Directory

pytestmark = pytest.mark.usefixtures("ray_in_process")

KEY = "0123456789abcdef01234567"


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
        spans / "parts" / f"{KEY}-0123456789abcdef.parquet",
        spans / "quarantine" / f"{KEY}-0123456789abcdef.parquet",
        spans / "manifests" / "units-0123456789abcdef.parquet",
        spans / "parts" / f"{KEY}-f123456789abcdef.parquet#7",
        spans / "files" / "01234567" / "tokenizer" / "tokenizer.json",
        workdir / "spans-00000000" / "units" / KEY,
        workdir / "spans-00000000" / "parts" / f"{KEY}-0123456789abcdef.parquet",
    ]
    mark(Directory.at(workdir / "spans-00000000"), "0" * 32, version=1, settings="")
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
    assert code == 0 and "spans-00000000" in out and "7.2 kB" in out
    assert not any(path.exists() for path in planted) and not (workdir / "spans-00000000").exists()
    assert [path.name for path in beside.parent.parent.iterdir()] == [beside.parent.name]
    assert tree(workdir) == before
    again = Record()
    result = pipeline.run(str(workdir), observer=again)
    assert again.ran == []
    assert result.ledger is not None and len(package.shards(workdir)) == 3


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
    assert annotate("clean", workdir)[0] == 0 and len(tree(workdir)) == len(before) - 8


def test_units_that_only_an_older_run_used_go_when_asked(annotate, corpus, workdir, tmp_path, tree):
    import support

    grown = shutil.copytree(corpus, tmp_path / "corpus")
    made = support.pipeline(grown, tmp_path / "calls", **support.SMALL_UNITS)
    (grown / "s9.parquet").unlink()
    result = make(made, workdir, Options(workers=2))
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


EXTRA = {"units": KEY, "manifests": f"{'0' * 32}.json"}


@pytest.mark.parametrize("damage", list(EXTRA))
def test_where_it_cannot_tell_what_is_named_it_removes_nothing(annotate, workdir, damage):
    planted = plant(workdir)
    latest = json.loads((workdir / "latest.json").read_text())
    (workdir / latest["spans"]["dataset"] / damage / EXTRA[damage]).write_text("{]")
    code, _, err = annotate("clean", workdir, "--yes")
    assert code == 4 and "is damaged" in err and all(path.exists() for path in planted)


def test_a_directory_without_a_finished_run_is_left_alone(annotate, tmp_path, tree):
    (tmp_path / "spans-00000000").mkdir()
    (tmp_path / "spans-00000000" / "mine").write_text("x")
    before = tree(tmp_path)
    code, _, err = annotate("clean", tmp_path, "--yes")
    assert code == 4 and "no run has finished" in err and tree(tmp_path) == before


def test_without_a_finished_run_refused_documents_can_be_tried_again_and_nothing_else_goes(annotate, workdir, tree):
    plant(workdir)
    corpus = workdir / json.loads((workdir / "latest.json").read_text())["corpus"]["dataset"]
    (workdir / "latest.json").unlink()
    before = tree(workdir)
    code, out, _ = annotate("clean", workdir, "--refused", "--yes")
    assert code == 0 and "no refused documents" in out and tree(workdir) == before
    put_refusal(Directory.at(corpus), Refusal("s0.parquet", 3, "a", "b"))
    code, out, _ = annotate("clean", workdir, "--refused", "--yes")
    assert code == 0 and "the next run tries it again" in out and "No run has finished" in out
    assert tree(workdir) == before
    code, _, err = annotate("clean", workdir, "--yes")
    assert code == 4 and "--refused" in err


def put(path, content="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


OTHERS = (
    "my-notes/units/x",
    "wiki-20231101/a.parquet",  # a corpus whose folder has the name that a dataset could have
    "wiki-20231102/dataset.json",
    f"wiki-20231103/parts/{KEY}-0123456789abcdef.parquet",
    f"spans-11111111/units/{KEY}",  # of an older version, or a copy: it has no marker
    "spans-22222222/parts/mine.parquet",  # in folders of ours, but of no kind that runs write
    "spans-22222222/notes.md",
    "spans-22222222/files/0123abcd/tokenizer/model.safetensors",
    "spans-22222222/draft#2",
    "quarantine/mine.parquet",
    "quarantine/report-20231101.json",
    "events/party.jsonl",
    "leases/flat.json",
    "files/0123abcd/tags.json",
)


def test_what_no_run_wrote_is_never_touched(annotate, workdir, pipeline):
    used = json.loads((workdir / "latest.json").read_text())["spans"]["dataset"]
    others = [put(workdir / name) for name in (*OTHERS, f"{used}/parts/mine.parquet", f"{used}/mine/a.parquet")]
    mark(Directory.at(workdir / "spans-33333333"), "3" * 32, version=1, settings="")
    shutil.copy(workdir / "spans-33333333" / "dataset.json", workdir / "wiki-20231103")  # it says another name
    said = (workdir / "spans-33333333" / "dataset.json").read_text().replace("spans-33333333", "spans-22222222")
    marker = put(workdir / "spans-22222222" / "dataset.json", said)
    code, out, _ = annotate("clean", workdir, "--yes", "--old-units")
    assert code == 0 and not marker.exists() and not (workdir / "spans-33333333").exists()
    assert [path for path in others if not path.exists()] == []
    assert "Left alone: spans-11111111: it has no dataset.json" in out
    assert "Left alone: spans-22222222: 3 files that no run wrote, such as files/0123abcd/" in out
    assert f"Left alone: {used}: 2 files that no run wrote, such as mine/a.parquet" in out
    assert "wiki-" not in out and "my-notes" not in out
    pipeline.run(str(workdir), Options(workers=2, rescore=True))
    assert [path for path in others if not path.exists()] == []


def test_all_that_a_run_writes_in_a_dataset_has_a_name_of_ours(finished):
    latest = json.loads((finished / "latest.json").read_text())
    for item in latest.values():
        folder = finished / item["dataset"]
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        assert "dataset.json" in names and None not in map(parse, names), names


def test_a_dataset_in_which_the_last_run_read_a_corpus_stays(annotate, workdir):
    latest = json.loads((workdir / "latest.json").read_text())
    plant(workdir)
    latest["corpus"]["location"] = str(workdir / "spans-00000000" / "parts" / "*.parquet")
    (workdir / "latest.json").write_text(json.dumps(latest))
    code, out, _ = annotate("clean", workdir, "--yes")
    assert code == 0 and "Left alone: spans-00000000: a corpus of the last run lies there" in out
    assert len(list((workdir / "spans-00000000" / "parts").iterdir())) == 1


def test_the_store_of_the_corpus_is_not_asked(annotate, workdir, monkeypatch):
    """It may be gone, or have other credentials: where a corpus lies is told by its path."""
    latest = json.loads((workdir / "latest.json").read_text())
    latest["corpus"]["location"] = "s3://bucket/corpus/one.parquet"
    (workdir / "latest.json").write_text(json.dumps(latest))
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")  # plain HTTP without leave: any request fails at once
    code, out, err = annotate("clean", workdir, "--dry-run")
    assert code == 0, out + err


@pytest.mark.parametrize("part", ["", "parts"])
def test_a_dataset_that_is_reached_by_a_link_stays(annotate, workdir, tmp_path, tree, part):
    plant(workdir)
    theirs = tmp_path / "theirs" / "spans-00000000" / part
    shutil.move(workdir / "spans-00000000" / part, theirs)
    (workdir / "spans-00000000" / part).symlink_to(theirs)
    before = tree(tmp_path / "theirs")
    code, out, _ = annotate("clean", workdir, "--yes")
    assert code == 0 and "Left alone: spans-00000000: it is reached by a link" in out
    assert tree(tmp_path / "theirs") == before and (workdir / "spans-00000000" / "dataset.json").exists()


def test_scores_that_are_reached_by_a_link_are_not_dropped(workdir, pipeline, tmp_path, tree):
    name = next(path.name for path in workdir.glob("annotations-*"))
    shutil.move(workdir / name, tmp_path / "theirs" / name)
    (workdir / name).symlink_to(tmp_path / "theirs" / name)
    before = tree(tmp_path / "theirs")
    with pytest.raises(StorageError, match=f"{name} is reached by a link"):
        pipeline.run(str(workdir), Options(workers=2, rescore=True))
    assert tree(tmp_path / "theirs") == before


@pytest.mark.parametrize("name", ["latest.json", "ledger.json"])
@pytest.mark.parametrize("content", ["{}x", '{"books": {"2023": 7}}', "[1]"])
def test_a_run_writes_over_no_file_of_others(workdir, pipeline, tree, name, content):
    (workdir / name).write_text(content)
    before = tree(workdir)
    with pytest.raises(StorageError, match="is not what a run writes there"):
        pipeline.run(str(workdir))
    assert tree(workdir) == before


@pytest.mark.parametrize("folder", ["events", "quarantine/deep", "leases", "."])
def test_a_corpus_may_not_lie_where_a_run_writes(tmp_path, tree, folder):
    import support

    support.write_corpus(tmp_path / folder, shards=1)
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"lies where a run in|is the folder of a corpus"):
        support.pipeline(tmp_path / folder, tmp_path / "calls").run(str(tmp_path))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("place", [".", "wiki-20231101/out"])
def test_a_work_directory_around_a_corpus_or_in_its_folder_loses_nothing_of_it(
    annotate, corpus, finished, tmp_path, place
):
    import support

    data = tmp_path / "data"
    workdir = shutil.copytree(finished, data / place)
    mine = shutil.copytree(corpus, data / "wiki-20231101", dirs_exist_ok=True)
    again = Record()
    support.pipeline(mine, tmp_path / "calls", **support.SMALL_UNITS).run(str(workdir), observer=again)
    assert again.ran == []  # the corpus is what it was, without what lies in the work directory
    planted = plant(workdir)
    code, out, _ = annotate("clean", workdir, "--yes")
    assert code == 0 and "spans-00000000" in out and "wiki" not in out.replace(str(data), "")
    assert not any(path.exists() for path in planted)
    assert sorted(path.name for path in mine.glob("*.parquet")) == sorted(path.name for path in corpus.iterdir())
