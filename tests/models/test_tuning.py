"""Trials of a model with other settings, and warnings about those that it has."""

import dataclasses
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from annotate import CausalModel, Classifier, ConfigError, Encoder, Likelihood, Probe, RewardModel
from annotate.models import advice, speed, tuning
from annotate.models.device import use_threads
from annotate.models.speed import sample
from annotate.models.trials import Trial, Trials
from annotate.models.tuning import apart, try_settings
from annotate.stages.score import _lines

SPANS = pa.table({"text": sample(40)})


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(tuning, "CPU_TOKENS", (64, 256, 100_000))
    monkeypatch.setattr(tuning, "_PASSES", 1)


def tried(scorers, **settings):
    told = []
    found = try_settings(scorers[0].backbone, scorers, SPANS, "cpu", seconds=0.001, tell=told.append, **settings)
    assert found.tried == told
    return found


def test_each_dtype_is_tried_with_each_size_and_compared_with_the_settings_as_they_are(tiny, monkeypatch):
    monkeypatch.setattr(tuning, "_HOPELESS", 1e9)
    scorers = [Classifier(tiny("bert-multi"), axis=label, label=label, batch_tokens=128) for label in ("nice", "toxic")]
    found = tried(scorers)
    assert [(each.dtype, each.batch_tokens) for each in found.tried] == [
        ("float32", 128),
        ("float32", 64),
        ("float32", 256),
        ("float32", 100_000),
        ("bfloat16", 128),
        ("bfloat16", 64),
        ("bfloat16", 256),
        ("bfloat16", 100_000),
    ]
    large = [each for each in found.tried if each.batch_tokens == 100_000]
    assert {each.problem for each in large} == {"the sample has too few batches of this size"}
    timed = [each for each in found.tried if not each.problem]
    assert all(each.tokens_per_second > 0 for each in timed)
    assert all(each.memory is None for each in timed)
    assert (found.now.off, found.now.flipped) == (0, 0)
    assert all(each.off < 1e-4 for each in timed if each.dtype == "float32")
    assert all(1e-4 < each.off < 2 for each in timed if each.dtype == "bfloat16")
    assert found.device == "cpu"
    assert 0 < found.spans <= 40 < found.tokens
    assert found.prepared_per_second > 0


def test_a_dtype_that_is_hopeless_is_tried_once_and_one_that_fails_is_told(tiny, monkeypatch):
    scorers = [Classifier(tiny("bert"), axis="nice", label="nice", batch_tokens=128)]
    load = type(scorers[0].backbone).load

    def slow(self, scorers, device):
        forward = load(self, scorers, device)
        if self.dtype == "float32":
            return forward

        def wait(prepared, wanted):
            time.sleep(1)
            return forward(prepared, wanted)

        return wait

    monkeypatch.setattr(type(scorers[0].backbone), "load", slow)
    halves = [each for each in tried(scorers).tried if each.dtype == "bfloat16"]
    assert [each.batch_tokens for each in halves] == [128]

    def fails(self, scorers, device):
        if self.dtype == "bfloat16":
            raise ConfigError("it gives no finite score")
        return load(self, scorers, device)

    monkeypatch.setattr(type(scorers[0].backbone), "load", fails)
    [half] = [each for each in tried(scorers).tried if each.dtype == "bfloat16"]
    assert half == Trial(dtype="bfloat16", batch_tokens=128, problem="it gives no finite score")


def test_what_does_not_fit_in_memory_is_told(tiny, monkeypatch):
    from transformers.models.bert.modeling_bert import BertLayer

    layer = BertLayer.forward

    def small(self, hidden, *args, **kwargs):
        if hidden.shape[0] * hidden.shape[1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return layer(self, hidden, *args, **kwargs)

    scorers = [Classifier(tiny("bert"), axis="nice", label="nice", batch_tokens=128)]
    monkeypatch.setattr(BertLayer, "forward", small)
    problems = {each.batch_tokens: each.problem for each in tried(scorers).tried if each.dtype == "float32"}
    assert problems[256] == "does not fit in memory"
    assert problems[64] == problems[128] == ""
    use_threads(1)
    large = [dataclasses.replace(scorers[0], batch_tokens=256)]
    found = tried(large)
    assert found.now.tokens_per_second > 0 and found.threads == 1
    halves = {each.batch_tokens: each.problem for each in found.tried if each.dtype == "bfloat16"}
    assert halves == {256: "does not fit in memory", 64: "", 100_000: "the sample has too few batches of this size"}


def trials(*tried):
    return Trials(model="m", device="cpu", threads=1, spans=10, tokens=100, prepared_per_second=1.0, tried=tried)


def test_the_fastest_moves_few_spans_and_has_the_smallest_of_batches_that_are_as_fast():
    now = Trial(dtype="float32", batch_tokens=2048, tokens_per_second=100)
    equal = Trial(dtype="float32", batch_tokens=512, tokens_per_second=102)
    half = Trial(dtype="bfloat16", batch_tokens=2048, tokens_per_second=200, flipped=0.02)
    larger = Trial(dtype="bfloat16", batch_tokens=8192, tokens_per_second=204, flipped=0.005)
    broken = Trial(dtype="float16", batch_tokens=2048, problem="no")
    assert trials(now, equal, broken).best == now
    assert trials(now, equal, half, larger).best == larger
    assert trials(now, equal, dataclasses.replace(half, flipped=0.01), larger).best.batch_tokens == 2048


def test_scores_that_are_lost_count_as_moved():
    exact = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], np.float32)
    assert apart(exact, exact) == (0, 0)
    off, flipped = apart(exact, exact + np.float32([0.5, 0]))
    assert (off, flipped) == (pytest.approx(0.5 / exact[:, 0].std()), 0)
    other = exact.copy()
    other[0, 0], other[3, 0] = 9, np.nan
    assert apart(exact, other)[1] == 0.75  # the last is lost, two of the others change places
    assert apart(exact[:0], exact[:0]) == (0, 0)


def test_the_lines_to_write_have_the_settings_where_each_scorer_takes_them(tiny):
    trial = Trial(dtype="bfloat16", batch_tokens=512)
    settings = 'dtype="bfloat16", batch_tokens=512'
    scorers = {
        "Probe": Probe("niceness").resolved(),
        "Classifier": Classifier(tiny("bert"), axis="nice", label="nice"),
        "RewardModel": RewardModel(tiny("reward"), axis="good", prompt="hello"),
        "CausalModel": Likelihood(model=CausalModel(tiny("gpt2"))),
    }
    for name, scorer in scorers.items():
        assert _lines([scorer, scorer], trial) == [f"{name}(..., {settings})"]
    written = Probe("niceness", dtype="bfloat16", batch_tokens=512)
    encoder = written.resolved().backbone
    assert written.resolved().resolved() == written.resolved()
    assert (encoder.dtype, encoder.batch_tokens, encoder.max_length) == ("bfloat16", 512, 512)
    with pytest.raises(ConfigError, match="dtype is a setting of the encoder: give dtype='bfloat16' to it"):
        Probe("niceness", encoder=Encoder(), dtype="bfloat16")
    with pytest.raises(ConfigError, match="dtype must be one of"):
        Probe("niceness", dtype="int8")


def test_a_16_bit_dtype_that_is_slow_here_is_told_from_a_timed_layer(tiny, monkeypatch):
    scorer = Classifier(tiny("bert"), axis="nice", label="nice", dtype="bfloat16")
    forward = scorer.backbone.load([scorer], "cpu")
    seconds = {torch.float32: 1.0, torch.bfloat16: 5.8}
    monkeypatch.setattr(advice, "_seconds", lambda layer, states: seconds[states.dtype])
    said = advice.advise(scorer.backbone, forward)
    assert 'dtype="bfloat16" is 5.8 times as slow as float32 on this device (cpu ' in said["dtype"]
    seconds[torch.bfloat16] = 0.5
    assert advice.advise(scorer.backbone, forward) == {}
    monkeypatch.undo()
    assert advice.slower_than_float32(torch.device("cpu"), "bfloat16") > 0


def test_a_gpu_with_the_batches_of_a_cpu_is_told_with_figures(tiny, monkeypatch):
    """Here the CPU stands for one, and has the speed of one."""
    scorer = Classifier(tiny("bert"), axis="nice", label="nice")
    forward = scorer.backbone.load([scorer], "cpu")
    assert advice.advise(scorer.backbone, forward) == {}
    monkeypatch.setattr(advice, "is_gpu", lambda device: True)
    monkeypatch.setattr(speed, "_MOST", 8)
    assert advice.faster_with(16, scorer.backbone, forward) > 0
    rates = {2048: 1000.0, advice.LARGE: 6200.0}

    def measured(backbone, forward, *, seconds):
        return SimpleNamespace(tokens_per_second=rates[backbone.batch_tokens])

    monkeypatch.setattr(advice, "measure_speed", measured)
    said = advice.advise(scorer.backbone, forward)["batch_tokens"]
    assert "batch_tokens=2048 keeps this GPU (cpu" in said
    assert " at 16%: on a short sample 65,536 gave 6.2 times as many tokens/s" in said
    rates[advice.LARGE] = 1100.0
    assert advice.advise(scorer.backbone, forward) == {}
    large = dataclasses.replace(scorer, batch_tokens=advice.LARGE)
    assert advice.advise(large.backbone, forward) == {}
