"""Documents that a stage makes stand wherever those of a corpus can: they are filtered, split, scored and rendered."""

import dataclasses

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from here import ray_here
from length_scorer import length_scorer
from made_documents import Made, write_contract
from support import to_shards, write_corpus

from annotate import (
    ConfigError,
    Corpus,
    NearDuplicates,
    Options,
    Pipeline,
    Schedule,
    Split,
    Tag,
    TagScheme,
    score,
    shards,
)
from annotate.graph import documents_of, source_of


class Louder(Made):
    """Each document of a corpus in capitals, with a name of its own."""

    name = "louder"

    def made(self, documents):
        loud, dash = (pa.scalar(text, pa.large_string()) for text in ("loud", "-"))
        ids = pc.binary_join_element_wise(loud, documents["id"], dash)
        text = documents["text"]
        return {"id": ids, "text": pc.utf8_upper(text), "length": pc.utf8_length(text)}


def made(folder, **options):
    louder = Louder(Corpus(folder / "corpus", unit_bytes=3000), write_contract(folder, "louder"))
    verdicts = NearDuplicates(louder)
    scores = score(Split(louder), skip=verdicts, scorers=[length_scorer()])
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"),))
    return louder, to_shards(scores, scheme, part_bytes=8000, **options)


def written(folder, **options):
    louder, pipeline = made(folder, **options)
    with ray_here():
        result = pipeline.run(folder / "out", Options(workers=1))
    output = pipeline.outputs["shards"]
    assert documents_of(output) == louder and source_of(output) == louder.corpus
    assert result.ledger.states["written"] == result.ledger.states["near_duplicate"] * 14 == 56
    return pl.concat(pl.read_parquet(path) for path in shards(folder / "out"))


def test_documents_of_a_stage_are_filtered_split_scored_and_rendered(tmp_path):
    read = pl.read_parquet(write_corpus(tmp_path / "corpus", shards=2) / "*.parquet")
    found = written(tmp_path)
    assert set(found["id"]) < {f"loud-{name}" for name in read["id"]}
    plain = dict(zip("loud-" + read["id"], read["text"], strict=True))
    assert found["text"].str.replace_all("<long>", "").to_list() == [plain[name].upper() for name in found["id"]]
    assert found["text"].str.contains("<long>").mean() > 0.5
    assert found["length"].to_list() == [len(plain[name]) for name in found["id"]]


def test_they_can_be_in_training_order(tmp_path):
    write_corpus(tmp_path / "corpus", shards=2)
    in_order = written(tmp_path, schedule=Schedule(seed=3))["text"].to_list()
    (tmp_path / "out").rename(tmp_path / "first")
    plain = written(tmp_path)["text"].to_list()
    assert in_order != plain and sorted(in_order) == sorted(plain)


def test_a_plan_times_their_scorers_once_they_are_made(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1)
    louder, pipeline = made(tmp_path)
    plan = pipeline.plan(tmp_path / "out")
    assert plan.untimed == ["annotations of louder (length)"] and not plan.scoring
    with ray_here():
        Pipeline(louder).run(tmp_path / "out", Options(workers=1))
    plan = pipeline.plan(tmp_path / "out")
    assert not plan.untimed and [item.label for item in plan.scoring] == ["annotations of louder (length)"]


class Fewer(Louder):
    """Drops rows, which no documents stage may do."""

    def unit(self, tables):
        return dataclasses.replace(made := super().unit(tables), table=made.table.slice(1))


def test_a_stage_that_drops_rows_is_refused_by_name(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1)
    louder, _ = made(tmp_path)
    fewer = Fewer(louder.corpus, louder.schema)
    with (
        ray_here(),
        pytest.raises(ConfigError, match=r"louder has made \d+ documents of the \d+ in rows 0 to") as error,
    ):
        Pipeline(Split(fewer)).run(tmp_path / "out", Options(workers=1))
    assert "a column `problem`" in error.value.hint
