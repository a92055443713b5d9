import json
import shutil

import polars as pl
import pytest

import annotate as package
from annotate.reports import documents
from annotate.storage.latest import read_latest
from annotate.storage.manifests import read_units
from annotate.storage.store import Directory

AXES = ("niceness", "tone", "correctness")


def squeezed(text):
    """What is shown, without frames, bars, blanks and line breaks."""
    return "".join("".join(c for c in text if c not in "│↵▁▂▃▄▅▆▇█").split())


def shards(workdir):
    return pl.read_parquet(package.shards(workdir))


def dataset(workdir, stage):
    """The directories of a stage's datasets."""
    latest = json.loads((workdir / "latest.json").read_text())
    return [workdir / item["dataset"] for item in latest.values() if item["stage"] == stage]


def rows_of(workdir, stage, shard, row):
    """A document's rows in the datasets of a stage, as one table for each."""
    directory = Directory.at(workdir)
    for item in read_latest(directory):
        if item.stage == stage:
            units = [u for u in read_units(directory.child(item.dataset), item.manifest(directory)) if u.shard == shard]
            paths = [workdir / item.dataset / entry.part.path for unit in units for entry in unit.entries]
            yield pl.concat([pl.read_parquet(path) for path in paths]).filter(pl.col("row") == row)


def test_a_work_directory_shows_its_training_shards(annotate, finished):
    code, out, _ = annotate("show", finished, "-n", 2)
    first = shards(finished).head(3)
    assert code == 0
    assert [name in out for name in first["id"]] == [True, True, False]
    for text in first["text"][:2]:
        assert squeezed(text) in squeezed(out)


@pytest.mark.parametrize("under", ["", "parts"])
def test_a_dataset_directory_is_shown(annotate, finished, under):
    [directory] = dataset(finished, "text-shards")
    code, out, _ = annotate("show", directory / under, "-n", 1)
    assert code == 0 and shards(finished)["id"][0] in out


def test_a_shard_is_shown_wherever_it_lies(annotate, finished, tmp_path):
    copied = shutil.copy(package.shards(finished)[1], tmp_path / "elsewhere.parquet")
    names = pl.read_parquet(copied)["id"]
    code, out, _ = annotate("show", copied, "-n", 2)
    assert code == 0 and names[0] in out and names[1] in out
    code, out, _ = annotate("show", copied, "--doc", names[2])
    assert code == 0 and names[2] in out and names[0] not in out


def test_a_document_is_found_by_id_and_by_place(annotate, finished):
    tagged = shards(finished).filter(pl.col("id") == "doc-1-3")["text"][0]
    for doc in ("doc-1-3", "s1.parquet:3"):
        for scores in ([], ["--scores"]):
            code, out, _ = annotate("show", finished, *scores, "--doc", doc)
            assert code == 0 and "doc-1-3" in out and "doc-1-2" not in out
            assert scores or squeezed(tagged) in squeezed(out)


def test_scores_and_tags_stand_beside_each_span(annotate, finished):
    code, out, _ = annotate("show", finished, "--scores", "--doc", "doc-0-4")
    [spans] = rows_of(finished, "spans", "s0.parquet", 4)
    [placed] = rows_of(finished, "placements", "s0.parquet", 4)
    scores = {
        axis: table[axis] for table in rows_of(finished, "annotations", "s0.parquet", 4) for axis in table.columns
    }
    tagged = shards(finished).filter(pl.col("id") == "doc-0-4")["text"][0]
    expected, rest = "", tagged
    for i in range(spans.height):
        tags = "".join(f"<{tag}>" for tag in placed.filter(pl.col("offset") == spans["start"][i])["tag"])
        length = len(tags) + spans["end"][i] - spans["start"][i]
        assert rest.startswith(tags)
        expected += str(i) + "".join(f"{scores[axis][i]:.3f}" for axis in AXES) + rest[:length]
        rest = rest[length:]
    assert rest == "" and placed.height
    assert code == 0 and squeezed(expected) in squeezed(out)
    assert all(axis in out for axis in AXES)


def test_an_annotation_dataset_shows_its_own_axes(annotate, finished):
    shown = [annotate("show", directory, "-n", 1)[1] for directory in dataset(finished, "annotations")]
    heads = [out.splitlines()[1].split() for out in shown]  # a document may hold the name of an axis
    assert sorted(heads) == [["niceness"], ["tone", "correctness"]]
    assert all("doc-0-0" in out and "doc-0-1" not in out for out in shown)


def test_it_says_why_a_document_has_no_scores(annotate, finished):
    code, out, _ = annotate("show", finished, "--scores", "--doc", "s0.parquet:13")
    assert code == 0 and "a near-duplicate of s0.parquet:0, similarity 1.00" in out
    code, out, _ = annotate("show", finished, "--scores", "--doc", "empty")
    assert code == 0 and "in quarantine: the text is empty" in out
    assert annotate("show", finished, "--scores", "--doc", "doc-0-0")[1].count("no scores") == 0


def test_an_unknown_document_is_an_error_that_counts(annotate, finished):
    written = shards(finished).height
    code, _, err = annotate("show", finished, "--doc", "doc-9-9")
    assert code == 2 and "doc-9-9" in err and f"looked through {written}" in err and "--scores" in err
    code, _, err = annotate("show", finished, "--scores", "--doc", "s0.parquet:14")
    assert code == 2 and "looked through 32" in err
    code, _, err = annotate("show", package.shards(finished)[0], "--doc", "doc-9-9")
    assert code == 2 and "no document 'doc-9-9'" in err


def test_text_never_steers_the_terminal(annotate, finished):
    for scores in ([], ["--scores"]):
        code, out, _ = annotate("show", finished, *scores, "--doc", "steers")
        assert code == 0 and "\x1b" not in out and "\x07" not in out and "␛[31m" in out and "␇" in out


def test_text_and_ids_are_not_taken_for_markup(annotate, finished):
    for scores in ([], ["--scores"]):
        code, out, _ = annotate("show", finished, *scores, "--doc", "[bold]marked[/bold]")
        assert code == 0 and "[bold]marked[/bold]" in out and "[red]markup[/red] and an :apple: in" in out


@pytest.mark.parametrize("scores", [[], ["--scores"]])
def test_no_more_is_read_than_is_shown(annotate, finished, monkeypatch, scores):
    read = []
    real = documents.read_part
    monkeypatch.setattr(
        documents, "read_part", lambda d, part, **kw: read.append((d.url, part.path)) or real(d, part, **kw)
    )
    annotate("show", finished, *scores, "-n", 1)
    datasets = [url for url, _ in dict.fromkeys(read)]
    assert datasets and all(datasets.count(url) == 1 for url in datasets)


def test_long_documents_are_cut_unless_asked_for(annotate, finished, monkeypatch):
    monkeypatch.setattr("annotate.cli.show.CHARACTERS", 50)
    monkeypatch.setattr("annotate.cli.show.SPANS", 1)
    assert "more characters" in annotate("show", finished, "-n", 1)[1]
    assert "more spans" in annotate("show", finished, "-n", 1, "--scores")[1]
    assert "more characters" not in annotate("show", finished, "--doc", "doc-0-0")[1]
    assert "more spans" not in annotate("show", finished, "--scores", "--doc", "doc-0-0")[1]


def test_a_wrong_path_is_an_error_that_says_what_is_right(annotate, finished, corpus, tmp_path):
    for path, exit_code, said in [
        (tmp_path / "nowhere", 4, "neither a work directory"),
        (tmp_path / "nowhere.parquet", 4, "no file"),
        (corpus / "s0.parquet", 4, "no column 'placements'"),
        (corpus, 4, "text-shards-"),
        (dataset(finished, "spans")[0], 2, "be shown by themselves"),
        (finished / "spans-00000000", 4, "annotations-"),
    ]:
        code, _, err = annotate("show", path)
        assert (code, said in err) == (exit_code, True), err
    assert not (tmp_path / "nowhere").exists()
    code, _, err = annotate("show", package.shards(finished)[0], "--scores")
    assert code == 2 and "has no scores" in err
    (tmp_path / "text.parquet").write_text("not Parquet")
    code, _, err = annotate("show", tmp_path / "text.parquet")
    assert code == 4 and "not Parquet" in err


def test_a_corpus_that_is_not_there_is_named(annotate, workdir):
    latest = json.loads((workdir / "latest.json").read_text())
    del latest["corpus"]["location"]
    (workdir / "latest.json").write_text(json.dumps(latest))
    code, _, err = annotate("show", workdir, "--scores")
    assert code == 4 and "Run the pipeline again" in err
    assert annotate("show", workdir)[0] == 0


def test_nothing_is_written(annotate, finished, tree):
    before = tree(finished)
    annotate("show", finished)
    annotate("show", finished, "--scores", "--doc", "doc-0-2")
    assert tree(finished) == before
