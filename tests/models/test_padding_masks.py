"""No model looks at the values of a batch, which on a GPU would make each wait; and scores keep their bytes."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_families import CLASSIFIERS, REWARDS, WORDS, of_bytes, of_words, save
from torch.utils._python_dispatch import TorchDispatchMode

from annotate import Classifier, Probe, RewardModel
from annotate.models import load
from annotate.models.padding_masks import trust_masks, unpacked

TEXTS = [" ".join(WORDS[i % len(WORDS)] for i in range(length)) for length in range(1, 20)]
LOOK = {"mpnet", "longformer", "t5", "bart"}
"""These look at values on the device in code of their own."""


class Waits(TorchDispatchMode):
    """Notes the operations whose result a CPU has to wait for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if any(part in function.name() for part in ("_local_scalar_dense", "nonzero", "masked_select", "unique")):
            self.found.append(function.name())
        return function(*arguments, **(named or {}))


def run(scorer):
    """Scores of padded batches, and what was waited for in them."""
    backbone = scorer.resolved().backbone
    forward, prepared = backbone.load([scorer], "cpu"), backbone.prepare(pa.table({"text": TEXTS}))
    assert len(prepared.arrays["bounds"]) < len(TEXTS), "some batches have several texts"
    with Waits() as waits:
        (scores,) = forward(prepared, [0])
    return scores.values, waits.found


def scorer_of(name, folder):
    if name == "probe":
        return Probe("niceness", batch_tokens=100)
    if name in CLASSIFIERS:
        family = CLASSIFIERS[name]
        return Classifier(save(family, folder, of_words(family), num_labels=2), axis="a", label=1, batch_tokens=40)
    reward, tokenizer = REWARDS[name], of_bytes(REWARDS[name])
    pad = None if reward.pad is None else tokenizer.pad_token_id
    directory = save(reward, folder, tokenizer, num_labels=1, pad_token_id=pad)
    return RewardModel(directory, axis="a", prompt="x", batch_tokens=1000)


@pytest.mark.parametrize("name", [*(name for name in CLASSIFIERS if name not in LOOK), *REWARDS, "probe"])
def test_a_batch_waits_for_nothing_and_scores_have_the_bytes_that_they_have_otherwise(name, tmp_path, monkeypatch):
    makers = pytest.importorskip("transformers.masking_utils").ALL_MASK_ATTENTION_FUNCTIONS
    scorer = scorer_of(name, tmp_path)
    found, waited = run(scorer)
    assert waited == []
    trusting = makers["sdpa"]
    monkeypatch.setattr(load, "trust_masks", lambda: makers.register("sdpa", trusting.make), raising=False)
    monkeypatch.setattr("annotate.models.padding_masks.trust_masks", load.trust_masks)
    expected, waited = run(scorer)
    makers.register("sdpa", trusting)
    np.testing.assert_array_equal(found, expected)
    if name in ("bert", "llama", "probe"):
        assert waited, "what this would find is not there any more: is it still needed?"


def test_packed_texts_of_others_are_still_found():
    """Another program may use Transformers in this process, as one that trains does."""
    masking = pytest.importorskip("transformers.masking_utils")
    trust_masks()
    packed = torch.tensor([[0, 1, 2, 0, 1]])
    assert masking.find_packed_sequence_indices(packed).tolist() == [[0, 0, 0, 1, 1]]
    with unpacked():
        assert masking.find_packed_sequence_indices(packed) is None
    assert masking.find_packed_sequence_indices(packed) is not None
