"""Linear layers on AMD's CPUs run by oneDNN: scores are those of float32, and layers can be trained and copied."""

import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from annotate import Classifier, Probe, RewardModel
from annotate.models import linear_on_cpu
from annotate.models.device import device_kind
from annotate.models.linear_on_cpu import use_onednn

SPANS = pa.table({"text": ["a good dog", "you are an idiot .", "thank you , good dog ! thank you", "bad", ""] * 9})
pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def by_onednn(monkeypatch, yes):
    monkeypatch.setattr(linear_on_cpu, "by_onednn", lambda: yes)


@pytest.mark.parametrize("kind", ["probe", "classifier", "reward"])
def test_scores_are_those_of_float32(kind, tiny, monkeypatch):
    scorer = {
        "probe": lambda: Probe("niceness"),
        "classifier": lambda: Classifier(tiny("bert"), axis="a", label="nice"),
        "reward": lambda: RewardModel(tiny("reward"), axis="b", prompt="hello"),
    }[kind]()
    found, layers = [], []
    for yes in (False, True):
        by_onednn(monkeypatch, yes)
        forward = scorer.resolved().backbone.load([scorer.resolved()], "cpu")
        prepared = scorer.backbone.prepare(SPANS)
        found.append(forward(prepared, [0])[0].values)
        model = forward.trunk.model if kind == "probe" else forward.model
        layers.append(sum(type(module).__name__ == "_OneDnnLinear" for module in model.modules()))
    assert layers[0] == 0 < layers[1]
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_layers_are_trained_copied_and_sent_as_others_are(monkeypatch):
    by_onednn(monkeypatch, True)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2, bias=False), nn.Linear(2, 1))
    expected, ran = copy.deepcopy(model), []
    run = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *given: ran.append(1) or run(*given))
    monkeypatch.setattr(linear_on_cpu, "LARGEST", 16)
    monkeypatch.setattr(linear_on_cpu, "ROWS", 4)
    use_onednn(model)
    assert [type(layer) is nn.Linear for layer in model] == [True, False, False]  # the first is too large
    for made in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert made.state_dict().keys() == expected.state_dict().keys()
        for rows in (torch.rand(3, 5, 4), torch.rand(1, 4), torch.rand(0, 4), torch.rand(6, 5, 4).transpose(0, 1)[::2]):
            ran.clear()
            with torch.inference_mode():
                torch.testing.assert_close(made(rows), expected(rows))
            assert len(ran) == (2 if rows.numel() >= 16 else 0), "few rows are left to MKL"
        made(torch.rand(3, 4)).sum().backward()
        assert made[1].weight.grad is not None


def test_the_kind_of_device_says_so_since_scores_differ_in_their_last_digits(monkeypatch):
    kinds = set()
    for yes in (False, True):
        by_onednn(monkeypatch, yes)
        kinds.add(device_kind(torch.device("cpu")))
    assert len(kinds) == 2 and all(kind.startswith("cpu ") for kind in kinds)


@pytest.mark.parametrize(
    ("told", "yes"), [("vendor_id\t: AuthenticAMD\nflags : avx2\n\n", True), ("vendor_id\t: GenuineIntel\n\n", False)]
)
def test_the_maker_of_the_cpu_decides(told, yes, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(linear_on_cpu, "Path", lambda path: tmp_path / "cpuinfo")
    assert linear_on_cpu.by_onednn.__wrapped__() == yes
    (tmp_path / "cpuinfo").unlink()
    assert not linear_on_cpu.by_onednn.__wrapped__()
