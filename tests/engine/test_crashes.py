"""What ends the process of a model: it is found down to the span, which gets no score; all else is as without it."""

import ctypes
import os
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import sentences, shard_bytes, to_shards

from annotate import Corpus, Options, PythonScorer, Split, Tag, TagScheme, WorkError, clean, score, status, tables
from annotate.engine.events import Silent
from annotate.engine.losses import NOT_RUN
from annotate.models.base import BrokenDevice

WORDS = ("Segfault", "Exit", "Hang", "Assert")


class Deadly:
    """Scores texts by their lengths; some words end the process, each in another way, and one hangs."""

    def __call__(self, table):
        for text in table["text"].to_pylist():
            if "Segfault" in text:
                ctypes.string_at(0)
            if "Exit" in text:
                os._exit(3)
            if "Hang" in text:
                time.sleep(600)
            if "Assert" in text:
                raise BrokenDevice("CUDA error: device-side assert triggered")  # as a model on a GPU does
        return np.asarray(pc.utf8_length(table["text"]), np.float32)


class Raising(Deadly):
    """Scores the same texts, and gives no score for the others."""

    def __call__(self, table):
        values = np.asarray(pc.utf8_length(table["text"]), np.float32)
        bad = [
            any(word in text for word in ("Segfault", "Exit", "Hang", "Assert")) for text in table["text"].to_pylist()
        ]
        return np.where(bad, np.float32("nan"), values)


class Said(Silent):
    """Keeps the warnings of a run."""

    def __init__(self):
        self.warnings = []

    def said(self, level, message):
        self.warnings += [message] if level == "warning" else []


def write(folder, *bad):
    folder.mkdir()
    texts = [sentences(i, 3) for i in range(9)]
    for row, text in bad:
        texts[row] = f"{texts[row]} {text} {sentences(90 + row, 1)}"
    pq.write_table(pa.table({"text": texts, "id": [f"doc-{i}" for i in range(9)]}), folder / "a.parquet")
    return folder


def run(folder, out, scorer, observer=None, **options):
    scorers = [PythonScorer(function=scorer, axes=("length",), version="1")]
    scores = score(Split(Corpus(folder, unit_bytes=600)), scorers, **options)
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"), Tag(name="any", rule="not length < -1")))
    return to_shards(scores, scheme).run(out, Options(workers=2, by_value=(__name__,)), observer)


def scores_of(out):
    return pl.concat([pl.DataFrame(table) for table in tables(out, "annotations (length)")])


@pytest.mark.slow  # a model's process is started anew after each crash
def test_spans_that_crash_or_hang_are_found_and_get_no_score(ray_cluster, tmp_path):
    bad = [(row, f"{word} here.") for row, word in zip((1, 4, 5, 8), WORDS, strict=True)]
    folder = write(tmp_path / "corpus", *bad)
    said = Said()
    made = run(folder, tmp_path / "out", Deadly, said, unit_seconds=1.5)
    run(folder, tmp_path / "as it should be", Raising)
    assert made.ledger.states["written"] == 9
    assert made.ledger.beside["failed_scores (length)"] == 4
    assert made.quarantined == {NOT_RUN["worker"]: 3, NOT_RUN["time"]: 1}
    (view,) = (tmp_path / "out" / "quarantine").iterdir()
    bad = pl.read_parquet(view).select("row", "span", "id", "axis", "reason").sort("row").rows()
    whys = ["worker", "worker", "time", "worker"]
    expected = [(row, f"doc-{row}", "length", NOT_RUN[why]) for row, why in zip((1, 4, 5, 8), whys, strict=True)]
    assert [(row, *others) for row, _, *others in bad] == expected and all(span is not None for _, span, *_ in bad)
    # The log is short, and its end names document and span. What Ray says is not in it.
    assert len(said.warnings) < 20 and not any("ray" in line.lower() for line in said.warnings)
    for row, span, name, _, reason in bad:
        line = f"annotations (length): document {name} (a.parquet, row {row}), span {span}: {reason}. It has no score,"
        assert sum(each.startswith(line) for each in said.warnings) == 1
    assert scores_of(tmp_path / "out").equals(scores_of(tmp_path / "as it should be"))
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "as it should be")
    assert clean(tmp_path / "out", refused=True, dry_run=True).not_run == 4
    assert any("4 scores failed" in remark for remark in made.remarks)
    # The text that hangs has had two attempts of 1.5 s at least, which the timeline does not take for idling.
    (scoring,) = [stage for stage in status(tmp_path / "out").timeline.stages if stage.label.startswith("annotations")]
    lost = [call for call in status(tmp_path / "out").timeline.slowest if call.step == "lost"]
    assert scoring.seconds["lost"] > 3 and lost[0].pid and lost[0].seconds["lost"] > 1.2


@pytest.mark.slow
def test_what_ends_the_process_as_a_whole_is_an_error_that_names_its_unit(ray_cluster, tmp_path):
    class Many(Deadly):
        def __call__(self, table):
            if table.num_rows > 1 and any("Together" in text for text in table["text"].to_pylist()):
                os._exit(3)
            return super().__call__(table)

    folder = write(tmp_path / "corpus", (4, "Together here."))
    with pytest.raises(WorkError, match=r"a\.parquet\[\d+:\d+\] lost its worker 4 times"):
        run(folder, tmp_path / "out", Many)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_blames_no_span(ray_cluster, tmp_path):
    class Unloadable:
        def __init__(self) -> None:
            os._exit(3)

        def __call__(self, table):
            return np.zeros(table.num_rows, np.float32)

    with pytest.raises(WorkError, match="lost its worker 4 times"):
        run(write(tmp_path / "corpus"), tmp_path / "out", Unloadable)
    assert not list((tmp_path / "out").glob("annotations-*/units/*"))
