"""Schedules through the engine: training order, phases and their tags, mixing, takedowns; one state a document."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from length_scorer import length_scorer
from support import sentences
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from annotate import (
    AnnotateError,
    ConfigError,
    Corpus,
    Mix,
    NearDuplicates,
    Nest,
    Options,
    Phase,
    Pipeline,
    Place,
    Render,
    Result,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    TokenShards,
    score,
    shards,
    tags_folder,
)
from annotate.cli.app import app, guarded
from annotate.engine import shuffle
from annotate.graph import graph
from annotate.storage.results import read_tags
from annotate.tags.rendering import strip

N = 120
PLAIN, REST, COOLDOWN = (
    Phase(name="plain", share=0.25, tag_rate=0),
    Phase(name="tagged"),
    Phase(name="cooldown", share=0.1, tag_rate=0),
)
PHASES = (PLAIN, REST, COOLDOWN)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules")
    for shard in range(2):
        texts: list[str | None] = [sentences(1000 * shard + i, 6) for i in range(N)]
        texts[7], texts[11], texts[21] = None, f"{texts[11]} <long>", texts[20]
        table = {
            "id": [f"{shard}-{i}" for i in range(N)],
            "text": texts,
            "source": ["wiki" if i % 6 == 0 else "web" for i in range(N)],
            "time": np.arange(N),
        }
        pq.write_table(pa.table(table), folder / f"s{shard}.parquet")
    return folder


def rendered(
    corpus: Path, *, phases: tuple[Phase, ...] = PHASES, mix: Mix | None = None, unit_bytes: int = 4000
) -> Render:
    documents = Corpus(str(corpus), unit_bytes=unit_bytes)
    verdicts = NearDuplicates(documents, group_span=None, group_threshold=0.8)
    spans = Split(documents, Splitter(by="document"))
    scores = score(spans, skip=verdicts, scorers=[length_scorer()])
    scheme = TagScheme(tags=(Tag(name="long", rule="length > 0"),), phases=phases)
    return Render(Place(scores, scheme, schedule=Schedule(mix=mix)), part_bytes=8_000)


def run(stage: Render | TokenShards, workdir: Path, workers: int = 2) -> tuple[Result, list[pl.DataFrame]]:
    """What was made, and the shards, a frame each."""
    result = Pipeline(stage).run(str(workdir), Options(workers=workers))
    assert result.ledger is not None and sum(result.ledger.states.values()) == result.ledger.documents
    return result, [pl.read_parquet(path) for path in shards(workdir)]


def test_phases_in_order_and_equal_bytes_however_units_are_cut(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    stage = rendered(corpus)
    result, parts = run(stage, tmp_path / "out")
    assert all(part["phase"].n_unique() == 1 for part in parts) and len(parts) > 5
    frame = pl.concat(parts)
    assert frame["phase"].unique(maintain_order=True).to_list() == ["plain", "tagged", "cooldown"]
    source = pl.read_parquet(corpus / "*.parquet").select("id", plain="text")
    both = frame.join(source, on="id", how="left", maintain_order="left")
    tags = both.with_row_index("row").select(pl.col("row").cast(pl.Int64), "placements").explode("placements")
    stripped = strip(both["text"].to_arrow(), tags.drop_nulls().unnest("placements").to_arrow())
    assert stripped.to_pylist() == both["plain"].to_list()
    for phase, text in frame.select("phase", "text").iter_rows():
        assert text.startswith("<long>") == (phase == "tagged")
    assert (
        result.ledger.states
        == {
            "written": 2 * N - 6,
            "near_duplicate": 2,
            "quarantined": 4,
            "not_reached": 0,
        }
        and frame["id"].n_unique() == len(frame) == 2 * N - 6
    )
    where = frame["id"].str.split("-").list.to_struct(fields=["shard", "row"]).struct.unnest()
    places = np.empty(len(frame))
    for shard in "01":
        here = (where["shard"] == shard).to_numpy()
        places[here] = stage.placements.schedule.places(
            f"s{shard}.parquet", where["row"].cast(pl.Int64).to_numpy()[here]
        )
    assert (np.diff(places) > 0).all()
    _, other = run(rendered(corpus, unit_bytes=1 << 20), tmp_path / "other", workers=1)
    assert [a.equals(b) for a, b in zip(parts, other, strict=True)] == [True] * len(parts)


def test_another_seed_is_another_order(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    """Also in a work directory that has the first: the tables of both schedules are equal here."""

    def seeded(seed: int) -> Render:
        stage = rendered(corpus, phases=(Phase(name="ramp", tag_rate=(0, 1)),))
        return replace(stage, placements=replace(stage.placements, schedule=Schedule(seed=seed)))

    first, second = (pl.concat(run(seeded(seed), tmp_path / "out")[1]) for seed in (0, 1))
    for frame, stage in ((first, seeded(0)), (second, seeded(1))):
        where = frame["id"].str.split("-").list.to_struct(fields=["shard", "row"]).struct.unnest().cast(pl.Int64)
        places, untagged = np.empty(len(frame)), np.empty(len(frame), bool)
        for shard in (0, 1):
            here = (where["shard"] == shard).to_numpy()
            rows = where["row"].to_numpy()[here]
            places[here] = stage.placements.schedule.places(f"s{shard}.parquet", rows)
            untagged[here] = stage.placements.schedule.untagged(
                f"s{shard}.parquet", rows, places[here]
            )  # the rate is the place
        assert (np.diff(places) > 0).all()
        assert (frame["text"].str.starts_with("<long>").to_numpy() == ~untagged).all()


def test_mixed_sources_and_what_is_not_reached(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    weights = {"wiki": 1.0, "web": 1.0}
    for exhaustion in ("first_exhausted", "all_exhausted"):
        mix = Mix(column="source", weights=weights, exhaustion=exhaustion)
        result, parts = run(rendered(corpus, phases=(), mix=mix), tmp_path / "out")
        frame = pl.concat(parts)
        assert "phase" not in frame.columns and frame.columns[-1] == "time"
        n = dict(frame.group_by("source").len().iter_rows())
        assert abs(n["wiki"] - n["web"]) <= 0.15 * n["wiki"]  # weights are of bytes
        if exhaustion == "first_exhausted":
            assert result.ledger.states["not_reached"] > N and frame["id"].n_unique() == len(frame)
            assert not any("--limit" in remark for remark in result.remarks)
        else:
            assert result.ledger.states["not_reached"] == 0
            assert result.ledger.beside["copies"] == len(frame) - frame["id"].n_unique() > N
            half = frame.with_row_index("at").filter(pl.col("source") == "wiki")["at"].to_numpy()
            assert abs((half < len(frame) / 2).mean() - 0.5) < 0.1  # copies are spread over the whole


def sent_files(workdir: Path) -> set[Path]:
    return set(workdir.glob("text-shards-*/parts/*.slices"))


@pytest.mark.parametrize("order", ["training order", "training order, two levels", "corpus order"])
def test_a_takedown_changes_the_parts_that_had_the_documents_and_no_others(
    ray_in_process,
    tmp_path: Path,
    corpus: Path,
    order: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, ordered = rendered(corpus), order != "corpus order"
    if "two levels" in order:
        monkeypatch.setattr(shuffle, "SMALL_READS", 0)
    if not ordered:
        bare = rendered(corpus, phases=())
        stage = replace(bare, placements=replace(bare.placements, schedule=None))
    before, parts = run(stage, tmp_path / "out")
    paths = shards(tmp_path / "out")
    (keeper,) = {"0-20", "0-21"} & {name for part in parts for name in part["id"]}
    taken = {keeper, "0-33", "1-5"}
    (tmp_path / "ids.txt").write_text("\n".join([*sorted(taken), "nobody", ""]), "utf-8-sig")
    had = sent_files(tmp_path / "out")
    after, less = run(replace(stage, exclude=str(tmp_path / "ids.txt")), tmp_path / "out")
    touched = [bool(taken & set(part["id"])) for part in parts]
    assert 1 <= sum(touched) <= 3 < len(parts)
    # Of the units that send documents, those with one that is taken out do so again; and in the middle level, groups
    # of partitions that had one.
    again = len(sent_files(tmp_path / "out") - had)
    assert again <= (3 if ordered else 0) + (3 if "two levels" in order else 0) < max(1, len(had))
    for path, new, part, now, hit in zip(paths, shards(tmp_path / "out"), parts, less, touched, strict=True):
        assert (path == new) != hit
        assert part.filter(~pl.col("id").is_in(list(taken))).equals(now)
    assert after.ledger.states["excluded"] == 3
    assert after.ledger.states["written"] == before.ledger.states["written"] - 3
    assert after.ledger.states["near_duplicate"] == 2  # the copy of one that was taken out stays out
    for label in ("thresholds", "schedule") if ordered else ("thresholds",):
        assert before.datasets[label].fingerprint == after.datasets[label].fingerprint
    assert any("1 of 4 ids to exclude are those of no document" in remark for remark in after.remarks)
    assert guarded(app, ["clean", str(tmp_path / "out"), "--old-units", "--yes"]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert said.count(".parquet") == sum(touched)
    for path, hit in zip(paths, touched, strict=True):
        assert Path(path).exists() != hit
        assert (Path(path).name in said) == hit


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Words as tokens."""
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    texts = pl.read_parquet(corpus / "*.parquet")["text"].drop_nulls().to_list()
    made.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "<end>"], show_progress=False))
    folder = tmp_path_factory.mktemp("words")
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    return folder


def test_token_budgets_phases_of_windows_and_scores_of_tokens(
    ray_in_process, tmp_path: Path, corpus: Path, tokenizer: Path
) -> None:
    def made(*phases: Phase) -> TokenShards:
        place = rendered(corpus).placements
        thresholds = replace(place.thresholds, scheme=replace(place.scheme, phases=phases))
        place = Place(thresholds, schedule=Schedule(tokenizer=tokenizer))
        options = {"window": 128, "loss": "mask", "part_bytes": 16_000}
        return TokenShards(place, scores=True, span_ids=True, **options)

    phases = (Phase(name="plain", tokens=3000, tag_rate=0), Phase(name="tagged", tokens=9000))
    result, parts = run(made(*phases), tmp_path / "out")
    assert result.ledger is not None and result.ledger.states["not_reached"] > 10
    (tag,) = (tag["id"] for tag in read_tags(tags_folder(tmp_path / "out"))["tags"])
    tokens, tags = Counter[str](), Counter[str]()
    lengths = dict(pl.read_parquet(corpus / "*.parquet").select("id", pl.col("text").str.len_chars()).iter_rows())
    for part in parts:
        phase = part["phase"].unique().item()
        tags[phase] += int((part["input_ids"].explode() == tag).sum())
        for row in part.iter_rows(named=True):
            of_text, scores = np.array(row["span_ids"]) >= 0, np.array(row["scores_length"], np.float32)
            tokens[phase] += int(of_text.sum())
            assert np.isnan(scores[~of_text]).all()
            ends = np.cumsum(row["segment_lengths"])
            for name, begin, end in zip(row["document_ids"], [0, *ends[:-1]], ends, strict=True):
                own = slice(begin, end)
                assert set(scores[own][of_text[own]]) == {np.float32(lengths[name])}
    assert tags["plain"] == 0 < tags["tagged"]
    for phase in phases:
        assert abs(tokens[phase.name] - phase.tokens) <= 100  # a document has some fifty tokens
    with pytest.raises(AnnotateError, match=r"the phases ask for more than there is: plain 1,000,000,000 tokens"):
        run(made(Phase(name="plain", tokens=10**9)), tmp_path / "out")


def test_phases_of_one_scheme_hold_for_all_that_is_nested(ray_in_process, tmp_path: Path, corpus: Path) -> None:
    documents = Corpus(corpus, unit_bytes=4000)

    def level(by: str, name: str, phases: tuple[Phase, ...] = ()) -> Thresholds:
        scheme = TagScheme(tags=(Tag(name=name, rule="length > 0"),), phases=phases)
        return Thresholds(score(Split(documents, by=by), [length_scorer()]), scheme)

    for outer, inner in ((PHASES, ()), ((), PHASES)):
        nested = Nest([level("document", "whole", outer), level("sentence", "part", inner)], schedule=Schedule(seed=3))
        _, parts = run(Render(nested), tmp_path / "out")
        for phase, text in pl.concat(parts).select("phase", "text").iter_rows():
            assert ("<whole><part>" in text, "<part>" in text) == (phase == "tagged", phase == "tagged")


def test_a_schedule_is_made_before_anything_is_scored(corpus: Path) -> None:
    """What is wrong with a mix or with budgets is then found in time."""
    for phases in ((), PHASES):
        names = [stage.name for stage in graph([rendered(corpus, phases=phases)])]
        assert names.index("schedule") < names.index("annotations")


def test_a_scheme_with_phases_is_in_training_order_without_a_word(corpus: Path) -> None:
    stage = rendered(corpus)
    thresholds = stage.placements.thresholds
    assert Place(thresholds).training_order == Place(thresholds, schedule=Schedule()).training_order
    assert Place(thresholds).training_order.phases == PHASES
    assert Place(replace(thresholds, scheme=replace(thresholds.scheme, phases=()))).training_order is None


def test_what_does_not_go_together(corpus: Path) -> None:
    with pytest.raises(ConfigError, match="schedule must be a Schedule, or None for corpus order, got 7"):
        replace(rendered(corpus).placements, schedule=7)
    with pytest.raises(ConfigError, match="no tokenizer to count them"):
        rendered(corpus, phases=(Phase(name="a", tokens=5),))
    with pytest.raises(ConfigError, match="which does not travel"):
        documents = Corpus(str(corpus), columns=("time",))
        scores = score(Split(documents), scorers=[length_scorer()])
        scheme = TagScheme(tags=(Tag(name="long", rule="length > 0"),))
        Place(scores, scheme, schedule=Schedule(mix=Mix(column="source", weights={"wiki": 1})))
    with pytest.raises(ConfigError, match=r"by id, but the corpus .* has no id column"):
        bare = Corpus(str(corpus), id=None)
        scores = score(Split(bare), scorers=[length_scorer()])
        Render(Place(scores, scheme), exclude=["a"])
