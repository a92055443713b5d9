"""Prompts become metatokens: what a generator writes is a corpus, made exactly once, that is tagged like any other."""

import io
import json
import os
import random
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generation_server import GenerationServer
from here import ray_here
from length_scorer import length_scorer
from model_fixtures import tiny  # noqa: F401
from rich.console import Console
from support import shard_bytes
from tiny_models import WORDS

from annotate import (
    CausalModel,
    Corpus,
    Distill,
    Nest,
    Options,
    Pipeline,
    Place,
    Price,
    Render,
    Sampling,
    ServerGenerator,
    Split,
    Tag,
    TagScheme,
    Thresholds,
    TransformersGenerator,
    WorkError,
    score,
    shards,
)
from annotate.cli.plan_view import print_plan
from annotate.generators import server_client
from annotate.generators.generation import Generation
from annotate.models.foretold import Foretold

PROMPTS = {"kind": "you are nice . thank you , good dog !", "rude": "you are an idiot . bad dog !"}
EACH_AND_BOTH = [["kind"], ["rude"], ["kind", "rude"], []]
N = 40

pytestmark = pytest.mark.usefixtures("ray_cluster")  # a model asks it on which node it is, also in this process


def write_openings(folder, texts=None, **columns):
    folder.mkdir(parents=True)
    draw = random.Random(0)
    texts = texts or [" ".join(draw.choices(WORDS, k=draw.randint(2, 9))) for _ in range(N)]
    table = {"id": [f"doc-{i}" for i in range(len(texts))], "text": texts, **columns}
    pq.write_table(pa.table(table), folder / "s0.parquet", row_group_size=10)
    return folder


def by_model(directory, **sampling):
    return TransformersGenerator(
        CausalModel(directory), sampling=Sampling(**{"max_tokens": 10, "seed": 4} | sampling), batch_rows=4
    )


def distill(openings, generator, **settings):
    settings = {"prompts": PROMPTS, "conditions": EACH_AND_BOTH} | settings
    return Distill(Corpus(openings, unit_bytes=1000), generator=generator, **settings)


def tagged(made, *tags):
    """Metatokens in front of the documents; with tags of an axis, if they are given."""
    scores = score(Split(made, by="document"), [length_scorer()])
    return Pipeline(train=Render(Place(scores, TagScheme(tags=(*made.tags(), *tags)))))


def written(folder):
    return pl.concat([pl.read_parquet(path) for path in shards(folder)], how="vertical")


def test_documents_have_metatokens_in_front_and_no_prompt(tmp_path, tiny):  # noqa: F811
    openings = write_openings(tmp_path / "openings")
    made = distill(openings, by_model(tiny("llama")))
    with ray_here():
        result = tagged(made, Tag(name="long", rule="length >= q(0.5)")).run(tmp_path / "out", Options(workers=1))
    found = written(tmp_path / "out")
    states = result.ledger.states
    assert states["written"] == len(found) and sum(states.values()) == N
    read = dict(pl.read_parquet(openings / "*.parquet").select("id", "text").iter_rows())
    for row in found.iter_rows(named=True):
        name, _, condition = row["id"].partition(":")
        prompts = [] if condition == "no-prompt" else condition.split("+")
        plain = row["text"].replace("<long>", "")
        assert plain.startswith("".join(f"<{prompt}>" for prompt in prompts) + read[name])
        assert row["opening_end"] == len(read[name]) and plain.count("<") == len(prompts)
        assert row["metatoken"] == ("+".join(prompts) or None)
        assert (row["prompt_hash"] is None) == (not prompts)
        assert not any(prompt in plain for prompt in PROMPTS.values())
    assert {*found["metatoken"]} == {"kind", "rude", "kind+rude", None}
    assert found["text"].str.contains("<long>").any() and not found["text"].str.contains("<long>").all()
    assert {*found["generator"]} == {"llama"} and found["generator_revision"].str.starts_with("sha256:").all()
    assert json.loads(found["sampling"][0]) == {"max_tokens": 10, "seed": 4, "temperature": 1.0, "top_p": 1.0}
    assert {tag.name: tag.means for tag in made.tags()} == PROMPTS


def test_a_rerun_generates_nothing_and_from_nothing_the_same(tmp_path, tiny, monkeypatch):  # noqa: F811
    asked = []
    complete = Generation.complete
    monkeypatch.setattr(Generation, "complete", lambda self, some: (asked.extend(some), complete(self, some))[1])
    openings = write_openings(tmp_path / "openings")
    with ray_here():
        for _ in range(2):
            tagged(distill(openings, by_model(tiny("llama")))).run(tmp_path / "out", Options(workers=1))
            assert len(asked) == N
        before = shard_bytes(tmp_path / "out")
        # Other tags, and a run that scores again: what was generated stays.
        other = tagged(distill(openings, by_model(tiny("llama"))), Tag(name="long", rule="length >= q(0.5)"))
        other.run(tmp_path / "out", Options(workers=1, rescore=True))
        assert len(asked) == N
        tagged(distill(openings, by_model(tiny("llama")))).run(tmp_path / "again", Options(workers=1))
    assert len(asked) == 2 * N
    assert shard_bytes(tmp_path / "again") == before
    with ray_here():
        tagged(distill(openings, by_model(tiny("llama"), seed=5))).run(tmp_path / "other", Options(workers=1))
    assert len(asked) == 3 * N and shard_bytes(tmp_path / "other") != shard_bytes(tmp_path / "again")


def plan(spent, **faults):
    spent.mkdir()
    Path(os.environ["FAULT_PLAN"]).write_text(json.dumps({**faults, "spent": str(spent)}))


def test_workers_and_models_are_killed_and_the_documents_stay_the_same(tmp_path, tiny, ray_cluster, fault_plan):  # noqa: F811
    openings = write_openings(tmp_path / "openings")
    pipeline = Pipeline(distill(openings, by_model(tiny("llama"))))
    plan(tmp_path / "none")
    pipeline.run(tmp_path / "undisturbed", Options(workers=2))
    kinds = ("unit: computed", "commit: part put", "actor: scored")
    plan(tmp_path / "spent", points=kinds)
    pipeline.run(tmp_path / "killed", Options(workers=2))
    plan(tmp_path / "nothing-more")
    assert {path.name for path in (tmp_path / "spent").iterdir()} >= {
        "unit: computed, model",
        "commit: part put, model",
        "actor: scored",
    }
    parts = [
        {path.name: path.read_bytes() for path in (tmp_path / run).glob("distilled-*/parts/**/*") if path.is_file()}
        for run in ("undisturbed", "killed")
    ]
    assert parts[0] and parts[0] == parts[1]


def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(server_client, "FIRST_WAIT", 0.001)
    openings = write_openings(tmp_path / "openings")
    away = [False]
    with GenerationServer(lambda asked: 503 if away[0] else "ok") as server:

        def due(asked):
            away[0] = len(server.asked) >= N // 2
            return 503 if away[0] else "ok"

        server.faults = due
        made = distill(openings, ServerGenerator(server.url, "a-model", tries=2, requests=1))
        with ray_here():
            with pytest.raises(WorkError, match="status 503"):
                tagged(made).run(tmp_path / "out", Options(workers=1))
            before = {asked["seed"] for _, _, asked in server.asked}
            server.asked.clear()
            server.faults = lambda asked: "ok"
            tagged(made).run(tmp_path / "out", Options(workers=1))
        again = [asked["seed"] for _, _, asked in server.asked]
    assert len({*again}) == len(again) < N  # each once, and what was committed not at all
    assert len({*again} | before) == N
    assert sorted(name.partition(":")[0] for name in written(tmp_path / "out")["id"]) == sorted(
        f"doc-{i}" for i in range(N)
    )


def test_completions_that_are_no_good_are_in_quarantine_with_their_reasons(tmp_path):
    texts = ["a good one", "an empty one", "a refused one", "a looping one", "a cut one", "one that is too long"]
    answers = {
        "empty": {"text": " \n"},
        "refused": {"finish_reason": "content_filter"},
        "looping": {"text": " and so it goes on" * 5, "finish_reason": "length"},
        "cut": {"finish_reason": "length"},
        "long": 400,
    }
    openings = write_openings(tmp_path / "openings", texts, source=[f"source {i}" for i in range(6)])
    due = lambda asked: next((fault for word, fault in answers.items() if word in asked["prompt"]), "ok")  # noqa: E731
    for cut_off in ("quarantine", "keep"):
        with GenerationServer(due) as server, ray_here():
            generator = ServerGenerator(server.url, "a-model", revision="7")
            made = distill(openings, generator, cut_off=cut_off, take=["source"], conditions=None)
            result = tagged(made).run(tmp_path / cut_off, Options(workers=1))
        bad = {row["id"].partition(":")[0]: row["reason"] for row in quarantined(tmp_path / cut_off)}
        reasons = {
            "doc-1": "the completion is empty",
            "doc-2": "the server refused to complete it, by its content filter",
            "doc-3": "the completion loops: it ends in a phrase that stands there 3 times or more",
            "doc-4": "the completion is cut off: it was not at its end after max_tokens",
            "doc-5": "the server refused to complete it: status 400, no, says 400",
        }
        if cut_off == "keep":
            del reasons["doc-4"]
        assert bad == reasons
        assert result.ledger.states["quarantined"] == len(reasons)
        found = written(tmp_path / cut_off).sort("id")
        assert found["source"].to_list() == (["source 0"] if cut_off == "quarantine" else ["source 0", "source 4"])
        assert found["generator_revision"][0] == "7"
        said = "\n".join(result.remarks)
        assert "1 of 6 completions are empty: see quarantine" in said and "2 openings of 6 did not fit" in said


def quarantined(workdir):
    for path in workdir.glob("quarantine/**/*.parquet"):
        yield from pq.read_table(path).to_pylist()


def test_a_column_names_the_conditions(tmp_path):
    named = ["kind", "kind+rude", None, "no-prompt", "pirate"]
    openings = write_openings(tmp_path / "openings", [f"Text {i}" for i in range(5)], under=named)
    with GenerationServer() as server, ray_here():
        made = distill(openings, ServerGenerator(server.url, "a-model"), condition_column="under")
        Pipeline(made).run(tmp_path / "out", Options(workers=1))
        assert len(server.asked) == 4
    rows = pl.read_parquet(tmp_path / "out" / "distilled-*/parts/**/*.parquet").sort("row")
    assert rows["metatoken"].to_list()[:4] == ["kind", "kind+rude", None, None]
    assert rows["problem"].to_list() == [None] * 4 + ["the column under names no condition: pirate"]


def test_the_teachers_most_probable_tokens_lie_beside_the_text(tmp_path, tiny):  # noqa: F811
    openings = write_openings(tmp_path / "openings")
    generator = TransformersGenerator(CausalModel(tiny("llama")), sampling=Sampling(max_tokens=5), top_k=3)
    with ray_here():
        tagged(distill(openings, generator)).run(tmp_path / "out", Options(workers=1))
    rows = written(tmp_path / "out")
    assert (rows["teacher_tokens"].list.len() == rows["completion_tokens"]).all()
    for name in ("teacher_top_tokens", "teacher_top_logprobs"):
        assert (rows[name].list.len() == 3 * rows["completion_tokens"]).all()
    assert (rows["teacher_top_logprobs"].list.max() <= 0).all()


def test_metatokens_stand_before_documents_and_tags_of_an_axis_inside(tmp_path):
    openings = write_openings(tmp_path / "openings", [f"Text {i}. It is one. " for i in range(12)])
    with GenerationServer() as server, ray_here():
        made = distill(openings, ServerGenerator(server.url, "a-model"))
        whole = Thresholds(score(Split(made, by="document"), [length_scorer("size")]), TagScheme(tags=made.tags()))
        long = TagScheme(tags=[Tag(name="long", rule="length > q(0.6)")])
        inside = Thresholds(score(Split(made), [length_scorer()]), long)
        Pipeline(train=Render(Nest([whole, inside]))).run(tmp_path / "out", Options(workers=1))
    found = written(tmp_path / "out")
    for text, tokens in found.select("text", "metatoken").iter_rows():
        front = "".join(f"<{name}>" for name in (tokens or "").split("+") if name)
        assert text.startswith(front) and text.count("<kind>") + text.count("<rude>") == front.count("<")
    assert found["text"].str.contains(r"^[^.]*\..*<long>").any()  # inside, before a sentence
    assert {*found["metatoken"]} == {"kind", "rude", "kind+rude", None}


def test_a_plan_has_tokens_time_and_money_and_asks_the_server_nothing(tmp_path, tiny):  # noqa: F811
    texts = ["one two three four"] * N
    openings = write_openings(tmp_path / "openings", texts)
    alone = {"conditions": [["kind"]]}
    with GenerationServer() as server:
        price = Price(read=1000, written=100_000)
        asked = ServerGenerator(server.url, "a-model", price=price, sampling=Sampling(max_tokens=50))
        made = distill(openings, asked, **alone)
        plan = tagged(made).plan(tmp_path / "out")
        (found,) = plan.generation
        assert not server.asked
        read = N * (len(PROMPTS["kind"]) + len(texts[0])) / 4  # bytes a token
        assert (found.whole.documents, found.whole.read_tokens, found.whole.written_tokens) == (N, read, N * 50)
        assert found.total_seconds is None and not found.whole.counted
        assert found.whole.money == pytest.approx((1000 * read + 100_000 * N * 50) / 1e6)
        assert plan.untimed == ["annotations of distilled (length)"] and not plan.scoring
        console = Console(width=300, record=True, file=io.StringIO())
        print_plan(tagged(made), str(tmp_path / "out"), Options(), 100, console)
        said = console.export_text()
        assert f"40 documents will read about, by their bytes, {read:,.0f} tokens, and write 2,000 at most" in said
        assert f"the openings are {N * len(texts[0])} B of text" in said and " 0 B " not in said
        assert "how much will be written is not known before the documents are made" in said
        assert "the time is not known" in said and "annotations of distilled (length): not timed" in said
        with ray_here():
            Pipeline(made).run(tmp_path / "out", Options(workers=1))
        plan = tagged(made).plan(tmp_path / "out")
    assert not plan.generation and not plan.untimed  # all is generated, and can be timed
    assert len(plan.scoring) == 1 and plan.scoring[0].spans > 0
    (found,) = tagged(distill(openings, by_model(tiny("llama")), **alone)).plan(tmp_path / "other").generation
    assert found.whole.read_tokens == N * (1 + len(PROMPTS["kind"].split()) + 4) and found.whole.counted
    assert found.whole.written_tokens == N * 10 and found.total_seconds > 0 and found.cost.core_hours > 0


def test_a_plan_has_the_time_of_prompts_for_each_unit_and_says_what_it_can_not_tell(tmp_path, tiny, monkeypatch):  # noqa: F811
    openings = write_openings(tmp_path / "openings", ["one two three four"] * N, under=["pirate"] * N)
    told = Foretold(documents=4, read_tokens=8, written_tokens=40, counted=True, seconds=8.0, unit_seconds=100.0)
    monkeypatch.setattr(TransformersGenerator, "foretell", lambda self, requests, device: told)
    made = Distill(Corpus(openings, unit_bytes=150), prompts=PROMPTS, generator=by_model(tiny("llama")))
    plan = tagged(made).plan(tmp_path / "out")
    units = {stage.label: stage.units for stage in plan.stages}["distilled"]
    assert units > 1 and plan.generation[0].whole.seconds == 8 * N / 4 + 100 * units
    monkeypatch.undo()
    made = distill(openings, by_model(tiny("llama")), condition_column="under")  # no prompt has this name
    console = Console(width=300, record=True, file=io.StringIO())
    print_plan(tagged(made), str(tmp_path / "out"), Options(), 100, console)
    assert "none of the openings that were looked at, the first of a unit, can be completed" in console.export_text()
