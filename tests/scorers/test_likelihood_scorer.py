import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import TEXTS
from transformers import AutoModelForCausalLM

from annotate.errors import ConfigError
from annotate.models.base import Backbone, expand
from annotate.scorers import CausalModel, Likelihood
from annotate.scorers.base import Scorer


def score(scorer, table):
    prepared = scorer.backbone.prepare(table)
    return expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0]), prepared


def reference(model, before, text):
    """Token by token, from the model's definition."""
    tokenizer = model.tokenizer().backend_tokenizer
    tokenizer.no_truncation()
    left = tokenizer.encode(before, add_special_tokens=False).ids
    ids = [model.first_id(), *left, *tokenizer.encode(text, add_special_tokens=False).ids]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(model.model)(torch.tensor([ids])).logits[0].double()
    logs = logits.log_softmax(-1)
    return np.mean([logs[i - 1, ids[i]].item() for i in range(1 + len(left), len(ids))])


def test_it_is_the_mean_log_probability_of_all_tokens_of_the_span(tiny, spans):
    model = CausalModel(tiny("gpt2"), batch_tokens=40)
    (values, failures), _ = score(Likelihood(model=model), spans)
    assert failures == {}
    np.testing.assert_allclose(values[:, 0], [reference(model, "", text) for text in TEXTS], atol=1e-5)
    assert (values < 0).all()


def test_context_is_read_and_not_counted(tiny):
    model = CausalModel(tiny("gpt2"), context_column="context", batch_tokens=40)
    table = pa.table({"text": ["a dog", "a dog", "the cat sat"], "context": ["the", None, "you are nice ."]})
    (values, _), prepared = score(Likelihood(model=model, sign=-1), table)
    contexts = [text or "" for text in table["context"].to_pylist()]
    expected = [-reference(model, c, t) for c, t in zip(contexts, table["text"].to_pylist(), strict=True)]
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-5)
    assert prepared.distinct == 3


def test_the_start_of_the_context_goes_first(tiny):
    model = CausalModel(tiny("gpt2"), context_column="context", max_length=6)
    table = pa.table({"text": ["a dog", "a " * 9, "the cat"], "context": ["the nice bad hello cat", "nice", None]})
    prepared = model.prepare(table)
    assert prepared.truncated.tolist() == [False, True, False]
    arrays = prepared.arrays
    assert arrays["lengths"].max() == 6
    counted = dict(zip(arrays["order"].tolist(), arrays["counted_from"].tolist(), strict=True))
    assert counted == {0: 4, 1: 1, 2: 1}
    starts = np.cumsum(arrays["lengths"]) - arrays["lengths"]
    row = arrays["order"].tolist().index(0)
    kept = arrays["ids"][starts[row] : starts[row] + 6].tolist()
    vocabulary = model.tokenizer().get_vocab()
    assert kept == [model.first_id(), *(vocabulary[word] for word in ["bad", "hello", "cat", "a", "dog"])]


def test_a_span_without_tokens_has_no_score_and_harms_no_other(tiny):
    (values, failures), _ = score(Likelihood(model=CausalModel(tiny("gpt2"))), pa.table({"text": ["", "a dog", " "]}))
    assert set(failures) == {0, 2}
    assert np.isfinite(values[1, 0])


def test_without_a_start_token_the_first_token_is_not_counted(tiny, copy_model, edit_json):
    directory = copy_model("gpt2")
    edit_json(directory / "tokenizer_config.json", eos_token=None)
    model = CausalModel(str(directory))
    assert model.first_id() is None
    (values, failures), _ = score(Likelihood(model=model), pa.table({"text": ["a dog sat", "a", ""]}))
    assert set(failures) == {1, 2}
    assert np.isfinite(values[0, 0])


def test_protocol_and_checks(tiny):
    model = CausalModel(tiny("gpt2"))
    scorer = Likelihood(model=model, axis="usual")
    assert isinstance(scorer, Scorer)
    assert isinstance(model, Backbone)
    assert scorer.resolved().identity() == scorer.identity()
    assert hash(scorer) == hash(scorer.resolved())
    with pytest.raises(ConfigError, match="serves scorers that have a `sign`"):
        model.load([object()], "cpu")
    with pytest.raises(ConfigError, match="sign must be"):
        Likelihood(model=model, sign=3)


def test_bfloat16_is_near_float32(tiny, spans):
    exact, half = (
        score(Likelihood(model=CausalModel(tiny("gpt2"), dtype=dtype)), spans)[0][0]
        for dtype in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - half).max() < 0.1
