"""vLLM as a generator, by a stand-in with its names, arguments and answers: what is asked, and what becomes of it."""

from __future__ import annotations

import io
import random
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vllm_stand_in
from here import ray_here
from length_scorer import length_scorer
from rich.console import Console
from tiny_models import WORDS

from annotate import (
    CausalModel,
    ConfigError,
    Corpus,
    Distill,
    Options,
    Pipeline,
    Place,
    Sampling,
    Split,
    TagScheme,
    TokenShards,
    TransformersGenerator,
    VllmGenerator,
    score,
    shards,
)
from annotate.cli.plan_view import print_plan
from annotate.generators import vllm_engine
from annotate.generators.base import Request
from annotate.models import device
from annotate.models.base import BrokenDevice
from annotate.models.device import SPREAD

PROMPT = "you are nice . thank you"


@pytest.fixture
def vllm(monkeypatch):
    made = vllm_stand_in.module()
    monkeypatch.setitem(sys.modules, "vllm", made)
    return made


def requests(n=12):
    draw = random.Random(0)
    openings = [" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(n)]
    return [Request(["", PROMPT][i % 2], opening, 7919 * i) for i, opening in enumerate(openings)]


def test_it_writes_what_transformers_write_where_nothing_is_drawn(tiny, vllm):
    settings = {"sampling": Sampling(max_tokens=8, temperature=0), "top_k": 4}
    model = CausalModel(tiny("llama"))
    found, expected = (
        kind(model, **settings).resolved().load("cpu").complete(requests())
        for kind in (VllmGenerator, TransformersGenerator)
    )
    assert list(found.texts) == list(expected.texts) and found.prompt_tokens == expected.prompt_tokens
    assert found.tokens.tolist() == expected.tokens.tolist() and found.cut_off.tolist() == expected.cut_off.tolist()
    assert found.counts == expected.counts and not found.problems
    for i, own in found.teacher.items():
        assert own.tokens.tolist() == expected.teacher[i].tokens.tolist()
        assert own.top_tokens.tolist() == expected.teacher[i].top_tokens.tolist()
        # Transformers' generator leaves out what is no token before it takes probabilities, vLLM does not.
        apart = own.top_logprobs - expected.teacher[i].top_logprobs
        assert (apart < 1e-4).all() and np.ptp(apart, axis=-1).max() < 1e-4
    assert len(found.teacher) == len(found.texts)


def test_each_request_has_a_seed_of_its_own_that_does_not_depend_on_the_others(tiny, vllm):
    loaded = VllmGenerator(CausalModel(tiny("llama")), sampling=Sampling(max_tokens=8), top_k=2).resolved().load("cpu")
    asked = requests()
    whole = loaded.complete(asked)
    backwards = loaded.complete(asked[::-1])
    assert list(whole.texts) == list(backwards.texts)[::-1] and len({*whole.texts}) > 6
    same = [Request("", "the cat", key) for key in range(20)]
    assert len({*loaded.complete(same).texts}) > 10
    drawn = [
        tokens not in top
        for own in whole.teacher.values()
        for tokens, top in zip(own.tokens, own.top_tokens, strict=True)
    ]
    assert any(drawn) and not all(drawn)  # the two most probable ones are kept, whichever was drawn
    assert all((np.diff(own.top_logprobs) <= 0).all() for own in whole.teacher.values())


@pytest.mark.parametrize(
    ("where", "part", "gpus", "share"), [("cpu", None, 1, 0.8), ("cpu", 0.5, 1, 0.4), (SPREAD, None, 4, 0.8)]
)
def test_what_vllm_is_told(tiny, vllm, monkeypatch, where, part, gpus, share):
    monkeypatch.setattr(device, "_PARTS", {} if part is None else {0: part})
    monkeypatch.setattr(vllm_engine, "find_device", lambda name: name)
    monkeypatch.setattr(vllm_engine.torch.cuda, "device_count", lambda: 4)
    given = (
        VllmGenerator(CausalModel(tiny("llama"), max_length=40), top_k=30, memory=0.8)
        .resolved()
        .load(where)
        .model.given
    )
    assert given["model"] == given["tokenizer"] == tiny("llama")
    assert (given["enable_prefix_caching"], given["max_model_len"], given["max_logprobs"]) == (
        True,
        40,
        43,
    )  # 13 ids of the model are no tokens
    assert (given["tensor_parallel_size"], given["gpu_memory_utilization"]) == (gpus, share)
    assert given["distributed_executor_backend"] == ("mp" if gpus > 1 else None)
    assert (given["load_format"], given["generation_config"], given["logprobs_mode"]) == (
        "safetensors",
        "vllm",
        "raw_logprobs",
    )


def test_openings_that_do_not_fit_are_not_asked_and_what_ends_otherwise_is_a_problem(tiny, vllm, monkeypatch):
    loaded = (
        VllmGenerator(CausalModel(tiny("llama"), max_length=30), sampling=Sampling(max_tokens=8)).resolved().load("cpu")
    )
    one = loaded.model.one

    def aborted(ids, wanted):
        made = one(ids, wanted)
        made.finish_reason = "abort" if len(ids) == 4 else made.finish_reason
        return made

    monkeypatch.setattr(loaded.model, "one", aborted)
    texts = ["the cat", "the cat sat", "the " * 28]
    found = loaded.complete([Request("", text, i) for i, text in enumerate(texts)])
    assert found.texts[0] is not None and found.texts[1] is found.texts[2] is None
    assert found.problems[1] == "vLLM ended the completion for another reason: abort"
    assert found.problems[2].startswith(
        "the prompt has 1 tokens, the opening 28, and max_tokens is 8: more than the 30"
    )
    monkeypatch.setattr(vllm_engine, "SPARE", 0)  # the model has random weights, and finds such ids likely
    loaded = VllmGenerator(loaded.settings.model, sampling=Sampling(max_tokens=8), top_k=20).resolved().load("cpu")
    found = loaded.complete(requests())
    assert {*found.problems.values()} == {vllm_engine.UNKNOWN} and not found.teacher
    monkeypatch.setattr(loaded.model, "generate", lambda *given, **also: 1 / 0)
    with pytest.raises(BrokenDevice, match="vLLM failed: ZeroDivisionError"):
        loaded.complete(requests())
    assert loaded.complete([]).texts == []


def test_what_vllm_can_not_do_is_refused(tiny, vllm, monkeypatch):
    model = CausalModel(tiny("llama"))
    for heat in (0.001, 3.0):
        with pytest.raises(ConfigError, match=r"vLLM takes a temperature of 0, or from 0.01 to 2, got"):
            VllmGenerator(model, sampling=Sampling(temperature=heat))
    with pytest.raises(ConfigError, match="memory must be above 0"):
        VllmGenerator(model, memory=0.0)
    with pytest.raises(ConfigError, match=r"Write VllmGenerator\(CausalModel"):
        VllmGenerator("gpt2")
    monkeypatch.setattr(vllm, "LLM", lambda **given: (_ for _ in ()).throw(RuntimeError("no GPU is here")))
    with pytest.raises(ConfigError, match=r"vLLM can't run model .*: no GPU is here"):
        VllmGenerator(model).resolved().load("cpu")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"needs vLLM, which can't be imported") as caught:
        VllmGenerator(model).resolved().load("cpu")
    assert "annotate-corpora[vllm]" in caught.value.hint


def test_from_openings_to_token_shards_with_the_teacher_and_nothing_twice(
    tmp_path, tiny, vllm, monkeypatch, ray_cluster
):
    calls = []
    generate = vllm_stand_in.LLM.generate
    monkeypatch.setattr(
        vllm_stand_in.LLM,
        "generate",
        lambda self, prompts, *given, **also: (calls.extend(prompts), generate(self, prompts, *given, **also))[1],
    )
    folder = tmp_path / "openings"
    folder.mkdir()
    texts = [request.opening for request in requests(20)] + ["the " * 60]
    pq.write_table(pa.table({"id": [str(i) for i in range(21)], "text": texts}), folder / "s.parquet")
    model = tiny("llama")
    generator = VllmGenerator(CausalModel(model), sampling=Sampling(max_tokens=8), top_k=3)
    made = Distill(Corpus(folder, unit_bytes=400), prompts={"kind": PROMPT}, generator=generator)
    placements = Place(score(Split(made, by="document"), [length_scorer()]), TagScheme(tags=made.tags()))
    pipeline = Pipeline(TokenShards(placements, tokenizer=model, window=64, loss="mask", teacher=True))
    console = Console(width=300, record=True, file=io.StringIO())
    print_plan(pipeline, str(tmp_path / "out"), Options(), 100, console)
    assert "21 documents will read" in (said := console.export_text()) and "the time is not known" in said
    assert not calls
    with ray_here():
        for _ in range(2):
            result = pipeline.run(str(tmp_path / "out"), Options(workers=1))
            assert len(calls) == 20
    assert result.ledger.states["quarantined"] >= 1
    top = pl.read_parquet(shards(tmp_path / "out"))["teacher_top_tokens"].explode()
    assert (top >= 0).sum() > 3 * 20
