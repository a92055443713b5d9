"""What commands do, from Python: plain values come back, and nothing is printed."""

import json
import textwrap
from pathlib import Path

import polars as pl
import pytest
from length_scorer import length_scorer
from support import write_corpus
from tiny_tokenizer import byte_tokenizer

import annotate
from annotate import (
    ConfigError,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Place,
    Render,
    Split,
    StorageError,
    Tag,
    TagScheme,
    TokenShards,
    score,
)
from annotate.exports import HuggingFace
from annotate.pipeline_files import load_pipeline, shipped_pipelines, write_pipeline
from annotate.reports import find_duplicates, scored_documents, tagged_documents
from annotate.tags import explain, preset, presets, sample

FILE = """
    import numpy as np
    from annotate import Corpus, Pipeline, Place, PythonScorer, Render, Split, Tag, TagScheme, score

    def loud(table):
        return np.array([text.count("!") for text in table["text"].to_pylist()], np.float32)

    def pipeline(corpus: str = "corpus", least: float = 1.0):
        scores = score(Split(Corpus(corpus)), [PythonScorer(function=loud, axes=["loud"])])
        return Pipeline(Render(Place(scores, TagScheme(tags=[Tag(name="loud", rule=f"loud >= {least}")]))))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("python") / "corpus", shards=1, documents=12)


@pytest.fixture(scope="module")
def pipeline(corpus):
    scores = score(Split(Corpus(corpus)), [length_scorer("niceness")])
    placed = Place(scores, TagScheme(tags=[Tag(name="nice", rule="niceness >= q(0.5)")]))
    tokens = TokenShards(placed, tokenizer=byte_tokenizer(corpus.parent / "tokenizer"), window=64, loss="mask")
    return Pipeline(text=Render(placed), tokens=tokens)


@pytest.fixture(scope="module")
def result(ray_cluster, corpus, pipeline):
    return pipeline.run(corpus.parent / "out", Options(workers=2))


@pytest.fixture(autouse=True)
def quiet(capfd):
    """Nothing is printed."""
    yield
    assert capfd.readouterr() == ("", "")


def test_a_run_and_its_result(result, corpus):
    assert result.workdir == str(corpus.parent / "out")
    assert list(result.outputs) == ["text", "tokens"]
    text = result.outputs["text"]
    written = pl.read_parquet(annotate.shards(result.workdir, output="text"))
    assert text.rows == len(written) == result.ledgers["text"].states["written"] == 12
    assert text.units == len(annotate.shards(result.workdir, output="text")) and text.bytes > 0
    assert Path(text.folder).parent == Path(result.workdir)
    assert result.datasets["spans"].rows == sum(table.num_rows for table in annotate.tables(result.workdir, "spans"))
    assert result.datasets["placements"].counts["<nice>"] > 0 and result.quarantined == {}
    with pytest.raises(ConfigError, match="ledgers of several outputs: text, tokens"):
        _ = result.ledger


def test_a_plan(result, pipeline, tmp_path):
    assert {stage.state for stage in pipeline.plan(result.workdir, sample=0).stages} == {"done"}
    plan = pipeline.plan(tmp_path / "nothing", sample=10)
    assert {stage.state for stage in plan.stages} == {"done", "new"}  # the corpus is always there
    assert plan.corpora[0].documents == 12 and plan.scoring[0].spans > 0
    assert not (tmp_path / "nothing").exists()


def test_the_status_of_a_work_directory(result, tmp_path):
    status = annotate.status(result.workdir)
    assert status.finished and status.workdir == result.workdir and status.holder is None
    assert {stage.label for stage in status.stages if stage.state == "done"} == set(result.datasets)
    assert status.ledgers == result.ledgers
    with pytest.raises(StorageError, match="there is no run"):
        annotate.status(tmp_path)


def test_documents_with_their_tags_and_scores(result):
    documents = list(tagged_documents(result.workdir))
    assert len(documents) == 12 and any("<nice>" in document.text for document in documents)
    [one] = tagged_documents(result.workdir, doc="doc-0-3", output="text")
    assert one.id == "doc-0-3" and one.text in {document.text for document in documents}
    [scored] = scored_documents(result.workdir, doc=one.id)
    assert scored.place == "s0.parquet:3"
    assert scored.scores["niceness"] == [float(len(span)) for span in scored.spans]
    pairs = zip(scored.spans, scored.tags, strict=True)
    assert "".join(("<nice>" if "nice" in tags else "") + s for s, tags in pairs) in one.text
    assert list(scored_documents(result.workdir, doc="none")) == []


def test_an_export(result, tmp_path):
    exported = annotate.export(result.workdir, tmp_path / "one", format="huggingface")
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert exported.folder == str(tmp_path / "one") and exported.format == "huggingface" and exported.window == 64
    assert exported.parts == len(manifest["parts"]) and vars(exported.counts) == manifest["counts"]
    assert exported.counts.windows == result.outputs["tokens"].counts["windows"]
    annotate.export(result.workdir, str(tmp_path / "two"), format=HuggingFace(row_group=1), output="tokens")
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["settings"]["row_group"] == 1
    with pytest.raises(ConfigError, match="no format 'megatrom'") as caught:
        annotate.export(result.workdir, tmp_path / "three", format="megatrom")
    assert "megatron" in caught.value.hint
    with pytest.raises(StorageError, match="no export to 'megatron'"):
        annotate.export(result.workdir, tmp_path / "one", format="megatron")


def test_a_clean_up(ray_cluster, corpus, tmp_path):
    def split(by):
        return Pipeline(Split(Corpus(corpus), by=by)).run(tmp_path / "out").outputs["spans"].folder

    old, kept = Path(split("line")), Path(split("sentence"))
    found = annotate.clean(tmp_path / "out", dry_run=True)
    assert not found.removed and old.exists() and found.bytes > 0
    assert {item.dataset for item in found.unused} == {old.name}
    asked = annotate.clean(tmp_path / "out", agree=lambda found: found.bytes < 0)
    assert asked == found and old.exists()
    assert annotate.clean(tmp_path / "out").removed and not old.exists() and kept.exists()
    assert annotate.clean(tmp_path / "out").unused == ()


def test_near_duplicates(ray_cluster, result, corpus, tmp_path):
    verdicts = NearDuplicates(Corpus(corpus), group_span=None, group_threshold=0.8)
    report = find_duplicates(verdicts, tmp_path / "dup", Options(workers=2), clusters=1)
    assert (report.documents, report.exact_copies, report.near_duplicates) == (12, 1, 1) and report.dropped == 2
    assert [len(cluster.members) for cluster in report.largest] == [2]
    with pytest.raises(ConfigError, match="is the work directory of a pipeline"):
        find_duplicates(verdicts, result.workdir)


def test_a_pipeline_file(ray_cluster, tmp_path):
    (tmp_path / "loud.py").write_text(textwrap.dedent(FILE))
    (tmp_path / "corpus").mkdir()
    pl.DataFrame({"id": ["a", "b"], "text": ["Stop!! ", "Go on. "]}).write_parquet(tmp_path / "corpus" / "a.parquet")
    pipeline = load_pipeline(tmp_path / "loud.py", corpus=str(tmp_path / "corpus"), least=2.0)
    pipeline.run(tmp_path / "out", Options(workers=1))
    assert pl.read_parquet(annotate.shards(tmp_path / "out"))["text"].to_list() == ["<loud>Stop!! ", "Go on. "]
    with pytest.raises(ConfigError, match="no parameter 'lest'; did you mean 'least'"):
        load_pipeline(tmp_path / "loud.py", lest=1)


def test_a_pipeline_file_to_start_from(tmp_path):
    assert next(iter(shipped_pipelines())) == "conditional_pretraining"
    written = write_pipeline("mine", folder=tmp_path)
    assert [Path(path).name for path in written] == ["mine.py", "demo_corpus.py"]
    assert all(Path(path).parent == tmp_path for path in written)
    with pytest.raises(ConfigError, match="no pipeline 'other' is shipped"):
        write_pipeline("mine", source="other", folder=tmp_path)


@pytest.mark.parametrize("name", presets())
def test_a_scheme(name):
    scheme = preset(name)
    assert explain(scheme)
    texts, placements = sample(scheme)
    assert len(texts) == 4 and set(placements["tag"].to_pylist()) <= set(scheme.shown)
