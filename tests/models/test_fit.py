"""Models that do not fit, and models on several devices: the CPU stands for one GPU, a folder for the other."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from annotate import CausalModel, Classifier, ConfigError, Corpus, Likelihood, Probe, RewardModel, Split, score
from annotate.models import causal_forward, device, fit, linear_on_cpu, load, sequence_forward
from annotate.models.fit import lacking_memory

SPANS = pa.table({"text": ["a good dog", "you are an idiot .", "thank you , good dog ! thank you", "bad"]})


@pytest.mark.parametrize(
    ("saved", "dtype", "place", "gigabytes", "on", "half"),
    [
        ("float32", "float32", "cpu", 4.4, "cpu.", False),
        ("float32", "bfloat16", "cpu", 4.4, "cpu.", False),  # read as it was saved
        ("bfloat16", "float32", "cpu", 4.4, "cpu.", True),
        ("bfloat16", "bfloat16", "cpu", 2.2, "cpu.", False),
        ("uint8", "float16", "cpu", 2.2, "cpu.", False),
        ("float32", "bfloat16", "cuda", 4.4, "cpu, where it is read first.", False),
    ],
)
def test_the_memory_of_a_model_is_that_of_reading_it(monkeypatch, saved, dtype, place, gigabytes, on, half):
    monkeypatch.setattr(fit, "memory_left", lambda there, every: 10**12 if there.type == "cuda" else 10**9)
    told = lacking_memory({saved: 10**9}, dtype, torch.device(place))
    assert f"in {dtype} it needs about {gigabytes} GB" in told and f"1.0 GB are free on this machine's {on}" in told
    assert ('dtype="bfloat16" needs little more than half' in told) == half


def test_a_card_holds_a_model_as_it_is_converted_and_several_hold_it_together(monkeypatch):
    left = {"cuda": 3 * 10**9, "cpu": 10**12}
    monkeypatch.setattr(fit, "memory_left", lambda there, every: (4 if every else 1) * left[there.type])
    weights, cuda = {"float32": 10**9}, torch.device("cuda")
    assert lacking_memory(weights, "bfloat16", cuda) == ""
    assert "free on this machine's cuda." in lacking_memory(weights, "float32", cuda)
    assert lacking_memory(weights, "float32", cuda, spread=True) == ""
    assert "17.6 GB" in lacking_memory({"float32": 4 * 10**9}, "bfloat16", cuda, spread=True)  # read as it was saved
    left["cpu"] = 0  # it is not read there
    assert lacking_memory(weights, "float32", cuda, spread=True) == ""
    assert "17.6 GB of memory, and 12.0 GB are free on this machine's GPUs." in lacking_memory(
        {"float32": 4 * 10**9}, "float32", cuda, spread=True
    )


def test_a_model_that_does_not_fit_is_refused_with_numbers_before_it_is_read(tiny, monkeypatch):
    scorer = Classifier(tiny("bert"), axis="nice", label="nice")
    monkeypatch.setattr(fit, "memory_left", lambda there, every: 1000)
    monkeypatch.setattr(load, "_read", None)
    with pytest.raises(ConfigError, match=r"can't be loaded: in float32 it needs about .* are free on .*cpu") as told:
        scorer.backbone.load([scorer], "cpu")
    assert "gpus=2" in told.value.hint


def scores(scorer, place):
    forward = scorer.backbone.load([scorer], place)
    return forward(scorer.backbone.prepare(SPANS), [0])[0].values, forward


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["bert", "reward", "gpt2"])
def test_a_model_on_two_devices_gives_the_scores_that_it_gives_on_one(tiny, tmp_path, monkeypatch, kind, dtype):
    accelerate = pytest.importorskip("accelerate")
    scorer = {
        "bert": lambda: Classifier(tiny(kind), axis="nice", label="nice", dtype=dtype),
        "gpt2": lambda: Likelihood(model=CausalModel(tiny(kind), dtype=dtype)),
        "reward": lambda: RewardModel(tiny(kind), axis="good", prompt="hello", batch_tokens=64, dtype=dtype),
    }[kind]()
    monkeypatch.setattr(linear_on_cpu, "by_onednn", lambda: False)  # the layers of a spread model are not
    expected, whole = scores(scorer, "cpu")
    size = sum(part.nbytes for part in whole.model.parameters())
    places = accelerate.infer_auto_device_map(
        whole.model, {"cpu": size * 2 // 3, "disk": 10 * size}, no_split_module_classes=whole.model._no_split_modules
    )
    assert {"cpu", "disk"} == set(places.values())
    spread = {"device_map": places, "offload_folder": str(tmp_path / "other")}
    monkeypatch.setattr(device, "device_map", lambda name: spread if name == device.SPREAD else {})
    for module in (device, sequence_forward, causal_forward):
        monkeypatch.setattr(module, "find_device", lambda name: torch.device("cpu"))
    found, forward = scores(scorer, device.SPREAD)
    assert forward.model.hf_device_map == dict(places)
    np.testing.assert_array_equal(found, expected)


def test_gpus_are_a_number_or_a_part_of_one_and_what_can_not_be_spread_is_refused(tiny, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"")
    spans = Split(Corpus(str(tmp_path)))
    for wrong in (0, -1, 1.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="gpus must be a number from 1, or a part of 1"):
            score(spans, [Probe("niceness")], gpus=wrong)
    assert score(spans, [Probe("niceness")], gpus=0.5)[0].gpus == 0.5
    with pytest.raises(ConfigError, match="gpus=2: the model of niceness can't be spread over several GPUs"):
        score(spans, [Probe("niceness")], gpus=2)
    spread = (
        Classifier(tiny("bert"), axis="a", label="nice"),
        RewardModel(tiny("reward"), axis="b", prompt="hello"),
        Likelihood(model=CausalModel(tiny("gpt2"))),
    )
    assert [stage.gpus for each in spread for stage in score(spans, [each], gpus=2)] == [2, 2, 2]


def test_a_part_of_a_gpu_is_that_part_of_its_memory_and_several_are_all(monkeypatch):
    told = []
    monkeypatch.setattr(device, "_PARTS", {})
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *given: told.append(given), raising=False)
    assert [device.placed("cuda", gpus) for gpus in (0.5, 1, 4)] == ["cuda", "cuda", device.SPREAD]
    assert device.placed("cpu", 0.5) == "cpu"
    assert told == [(0.5, 0), (1.0, 0)]  # and no part is left over for a model that takes a whole one


def test_what_is_left_of_a_gpu_is_no_more_than_the_part_that_a_model_has(monkeypatch):
    """A card of 80 GB, of which another process has 30; this one has taken 6."""
    monkeypatch.setattr(device, "_PARTS", {})
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, number: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (44 * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda number: 6 * 10**9)
    left = []
    for part in (1, 0.5, 0.05):
        device.placed("cuda", part)
        left.append(device.memory_left(torch.device("cuda")) / 1e9)
    assert left == [44, 34, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device.memory_left(torch.device("cuda"), every=True) == 3 * 44 * 10**9  # of the first it has a part


def test_gpus_are_no_part_of_the_recipe(tiny, tmp_path):
    spans = Split(Corpus(str(tmp_path)))
    one, four = (score(spans, [Classifier(tiny("bert"), axis="nice", label="nice")], gpus=n)[0] for n in (1, 4))
    assert one.settings() == four.settings()
    assert one.recipe == four.recipe
    assert one.shared != four.shared
