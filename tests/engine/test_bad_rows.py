"""A corpus with every bad row there is: nothing stops, nothing is lost, and the ledger balances."""

import io
import json

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support import sentences, to_shards

from annotate import (
    Corpus,
    InputError,
    NearDuplicates,
    Options,
    PythonScorer,
    Split,
    Tag,
    TagScheme,
    score,
    shards,
)
from annotate.cli.summary_view import print_summary
from annotate.pipeline import make

GOOD = 20


class Fragile:
    """Raises on a text with "raise", gives NaN for one with "nan"; the others' scores are their lengths."""

    def __call__(self, table):
        texts = table["text"].to_pylist()
        if any("Raiseme" in text for text in texts):
            raise ValueError("a text that must not be scored")
        values = np.asarray(pc.utf8_length(table["text"]), np.float32)
        return np.where(["Givenan" in text for text in texts], np.float32("nan"), values)


def texts():
    """Every kind of bad text, after good ones; lone surrogates are the bytes that some writers let through."""
    good = [sentences(i, 3) for i in range(GOOD)]
    bad = [
        None,
        "",
        " \n\t\u3000",
        "Spells <long> itself. " + sentences(99, 1),
        "Raiseme now, please do it. " + sentences(98, 2),
        "Givenan here, please do it. " + sentences(97, 2),
        "Has a NUL \x00 in it. " + sentences(96, 1),
        "SURROGATE",
        good[0],
    ]
    return good + bad


def write(folder):
    folder.mkdir()
    values = texts()
    data = [
        b"lone \xed\xa0\x80 surrogate" if t == "SURROGATE" else t.encode() if t is not None else None for t in values
    ]
    binary = pa.array(data, pa.binary())
    text = pa.StringArray.from_buffers(len(binary), binary.buffers()[1], binary.buffers()[2], binary.buffers()[0])
    ids = [f"d{i}" for i in range(len(values))]
    ids[3] = ids[2]
    pq.write_table(pa.table({"id": ids, "text": text}), folder / "a.parquet")
    pq.write_table(pa.table({"id": ["x"], "text": ["One more. " + sentences(95, 2)]}), folder / "b.parquet")
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), folder / "c.parquet")
    (folder / "d.parquet").write_bytes((folder / "a.parquet").read_bytes()[:-30])
    return folder


def pipeline(folder, *, spelled="quarantine", **options):
    documents = Corpus(str(folder), unit_bytes=700, **options)
    verdicts = NearDuplicates(documents, group_span=None, group_threshold=0.8)
    scorers = [PythonScorer(function=Fragile, axes=("length",), version=1)]
    scores = score(Split(documents), skip=verdicts, scorers=scorers)
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"), Tag(name="any", rule="not length < -1")))
    return to_shards(scores, scheme, spelled=spelled)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "corpus")


def test_an_unreadable_file_stops_the_run_and_is_named(ray_in_process, folder, tmp_path):
    with pytest.raises(InputError, match=r"d\.parquet"):
        pipeline(folder).run(str(tmp_path / "out"), Options(workers=1))


@pytest.mark.parametrize("spelled", ["quarantine", "keep", "escape"])
def test_the_ledger_balances(ray_in_process, folder, tmp_path, spelled):
    asked = pipeline(folder, spelled=spelled, unreadable="quarantine")
    made = make(asked, str(tmp_path / "out"), Options(workers=2, by_value=(__name__,)))
    result = made.result()
    forged = spelled == "quarantine"
    assert result.ledger.documents == len(texts()) + 1
    assert result.ledger.states == {
        "written": GOOD + 5 - forged,
        "near_duplicate": 1,
        "quarantined": 4 + forged,
        "not_reached": 0,
    }
    assert result.ledger.beside["unreadable_files"] == 1
    assert result.ledger.beside["documents_that_spell_a_tag"] == 1
    assert result.ledger.beside["spans_with_a_null_score"] == result.ledger.beside["failed_scores (length)"] == 2
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["shards"]["states"] == result.ledger.states
    written = pl.read_parquet(shards(tmp_path / "out"))
    assert len(written) == result.ledger.states["written"]
    assert any("\x00" in text for text in written["text"])
    quarantine = pl.concat([pl.read_parquet(p) for p in (tmp_path / "out" / "quarantine").glob("*.parquet")])
    assert len({path.name.rpartition("-")[0] for path in (tmp_path / "out" / "quarantine").iterdir()}) == 3
    reasons = dict(quarantine.unique()["reason"].value_counts().iter_rows())  # splitting and rendering say the same
    assert result.quarantined == reasons
    assert sum(n for reason, n in reasons.items() if reason.startswith("the text")) == 4 + forged
    assert any("must not be scored" in reason for reason in reasons)
    assert any("finite" in reason for reason in reasons)
    printed = Console(record=True, width=200, file=io.StringIO())
    print_summary(made, printed)
    shown = printed.export_text()
    assert (
        "in quarantine: 1 document: the text is empty" in shown and shown.count("in quarantine: 1 failed score: ") == 2
    )
    said = "\n".join(result.remarks)
    assert "1 document spells a tag: " in said and "scores failed" in said and "ids" in said


def test_a_span_without_a_score_has_no_tag_but_its_neighbours_do(ray_in_process, folder, tmp_path):
    pipeline(folder, unreadable="quarantine").run(str(tmp_path / "out"), Options(workers=1, by_value=(__name__,)))
    written = pl.read_parquet(shards(tmp_path / "out"))
    text = written.filter(pl.col("text").str.contains("Raiseme"))["text"][0]
    assert text.startswith("Raiseme")
    assert "<any>" in text


def test_unique_ids_can_be_asked_for(ray_in_process, folder, tmp_path):
    with pytest.raises(InputError, match="d2"):
        pipeline(folder, unreadable="quarantine", ids="unique").run(str(tmp_path / "out"), Options(workers=1))
