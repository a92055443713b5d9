"""A unit goes to a GPU in copies that nobody waits for, and comes back in one: the device "meta" stands for the GPU.

A tensor there has a shape and no values. So whatever looks at one fails, as on a GPU it would wait.
"""

import pyarrow as pa
import pytest
import torch
from test_families import CLASSIFIERS, REWARDS
from test_padding_masks import LOOK, TEXTS, scorer_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from annotate import CausalModel, Likelihood

META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Notes the operations that go from the CPU to the device: whether from pinned memory, and without waiting."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found, self.read, self.pinned = [], [], set()
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.pin(tensor))
        monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: self.cpu(tensor))

    def pin(self, tensor):
        pinned = tensor.clone()
        self.pinned.add(pinned.data_ptr())
        return pinned

    def cpu(self, tensor):
        self.read.append(tuple(tensor.shape))
        return torch.zeros(tensor.shape)

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        given = [each for each in tree_leaves((arguments, named)) if isinstance(each, torch.Tensor)]
        # A tensor without dimensions goes along with an operation as a number, unless it is itself what is copied.
        copied = any(word in function.name() for word in ("to", "copy", "type_as"))
        here = [each for each in given if each.device.type == "cpu" and (each.ndim or copied)]
        made = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        if here and any(each.device == META for each in (*given, *made)):
            pinned = all(each.data_ptr() in self.pinned for each in here)
            self.found.append((function.name(), pinned, (named or {}).get("non_blocking", False)))
        return result


@pytest.mark.parametrize("name", [*(name for name in CLASSIFIERS if name not in LOOK), *REWARDS, "probe", "likelihood"])
def test_a_unit_goes_to_the_device_in_copies_that_nobody_waits_for_and_is_read_once(name, tmp_path, monkeypatch, tiny):
    scorer = Likelihood(model=CausalModel(tiny("gpt2"))) if name == "likelihood" else scorer_of(name, tmp_path)
    scorer, copies = scorer.resolved(), Copies(monkeypatch)
    forward, prepared = scorer.backbone.load([scorer], "meta"), scorer.backbone.prepare(pa.table({"text": TEXTS}))
    batches = len(prepared.arrays["bounds"]) - 1
    copies.read.clear()  # a model is tried when it is loaded
    with copies:
        forward(prepared, [0])
    assert copies.read == [(len(TEXTS), 1)], "the scores of a unit are read once, when all its batches are sent"
    free = [each for each in copies.found if each[1:] == (True, True)]
    waits = [each[0] for each in copies.found if each[1:] != (True, True)]
    assert len(free) >= batches
    assert waits == (["aten::type_as"] * batches if name == "deberta-v2" else []), "its own code copies a number"
