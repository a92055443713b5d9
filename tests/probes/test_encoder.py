import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import TEXTS
from transformers import AutoModel, AutoTokenizer

from annotate.errors import ConfigError
from annotate.models.base import Backbone, expand
from annotate.probes import EncoderHashes, Feature, ProbeCard, probe_features, save_probe
from annotate.scorers import Encoder, Probe
from annotate.scorers.base import Scorer

FEATURES = (
    Feature(layer=0),
    Feature(layer=1),
    Feature(layer=1, pool="max"),
    Feature(layer=2, pool="first"),
    Feature(layer=2, pool="last"),
)


def make_card(encoder, features, axis="niceness", **changes):
    hashes = EncoderHashes(name=encoder.model, **encoder.files().hashes())
    card = ProbeCard(
        axis=axis,
        encoder=hashes,
        features=tuple(features),
        max_length=32,
        anchors=("bad", "good"),
        meaning="kind to the reader",
    )
    return dataclasses.replace(card, **changes)


@pytest.fixture
def make_probe(tmp_path):
    def make(encoder, features, *, axis="niceness", seed=0, tail=None, width=32):
        weight = np.random.default_rng(seed).normal(size=width * len(features))
        path = tmp_path / f"{axis}-{seed}.safetensors"
        save_probe(path, make_card(encoder, features, axis), weight, 0.25, tail=tail)
        return Probe(str(path), encoder=encoder), weight

    return make


def reference_features(directory, features, texts):
    """Text by text, through the model as Transformers runs it."""
    model, tokenizer = AutoModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    pools = {"mean": lambda h: h.mean(0), "max": lambda h: h.amax(0), "first": lambda h: h[0], "last": lambda h: h[-1]}
    rows = []
    for text in texts:
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            states = model(**inputs, output_hidden_states=True).hidden_states
        rows.append(torch.cat([pools[feature.pool](states[feature.layer][0]) for feature in features]))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", ["bert-encoder", "roberta-encoder", "deberta-encoder", "modernbert-encoder"])
def test_features_are_the_hidden_states_that_transformers_gives(tiny, kind):
    encoder = Encoder(tiny(kind), batch_tokens=40)
    found = probe_features(encoder, TEXTS, FEATURES)
    np.testing.assert_allclose(found, reference_features(tiny(kind), FEATURES, TEXTS), atol=2e-5)


def test_scores_are_features_times_weights(tiny, make_probe, spans):
    encoder = Encoder(tiny("bert-encoder"), batch_tokens=40)
    probe, weight = make_probe(encoder, FEATURES)
    prepared = encoder.prepare(spans)
    (scores,) = encoder.load([probe], "cpu")(prepared, [0])
    values, failures = expand(prepared, scores)
    assert failures == {}
    assert values.dtype == np.float32
    expected = probe_features(encoder, TEXTS, FEATURES) @ weight + 0.25
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-4)
    assert len(set(values[:, 0].tolist())) == len(set(TEXTS))


def test_heads_share_one_pass_and_do_not_change_one_another(tiny, make_probe, spans):
    encoder = Encoder(tiny("bert-encoder"), batch_tokens=40)
    shallow, _ = make_probe(encoder, [Feature(layer=1)], axis="tone", seed=1)
    deep, _ = make_probe(encoder, FEATURES, axis="niceness", seed=2)
    assert shallow.backbone == deep.backbone
    assert len({shallow.backbone, deep.backbone}) == 1
    prepared = encoder.prepare(spans)
    together = encoder.load([shallow, deep], "cpu")
    both = together(prepared, [0, 1])
    for i, probe in enumerate((shallow, deep)):
        alone = encoder.load([probe], "cpu")(prepared, [0])[0]
        assert alone.values.tobytes() == both[i].values.tobytes()
        assert together(prepared, [i])[0].values.tobytes() == both[i].values.tobytes()
    assert together(prepared, [1, 0])[1].values.tobytes() == both[0].values.tobytes()


def count_rows(monkeypatch, module_class):
    seen = []
    forward = module_class.forward

    def spy(self, hidden, *args, **kwargs):
        seen.append(len(hidden))
        return forward(self, hidden, *args, **kwargs)

    monkeypatch.setattr(module_class, "forward", spy)
    return seen


def test_repeats_are_scored_once_and_layers_above_are_not_run(tiny, make_probe, spans, monkeypatch):
    from transformers.models.bert.modeling_bert import BertLayer

    encoder = Encoder(tiny("bert-encoder"))
    shallow, _ = make_probe(encoder, [Feature(layer=1)], axis="tone", seed=1)
    deep, _ = make_probe(encoder, [Feature(layer=2)], axis="niceness", seed=2)
    forward = encoder.load([shallow, deep], "cpu")
    prepared = encoder.prepare(spans)
    rows = count_rows(monkeypatch, BertLayer)
    forward(prepared, [0])
    assert sum(rows) == len(set(TEXTS))
    rows.clear()
    forward(prepared, [0, 1])
    assert sum(rows) == 2 * len(set(TEXTS))


def tail_of(directory, layers, change=0.0):
    model = AutoModel.from_pretrained(directory)
    stack = model.encoder.layer if hasattr(model, "encoder") else model.layers
    return {i: {k: v.numpy() + np.float32(change) for k, v in stack[i].state_dict().items()} for i in layers}


@pytest.mark.parametrize("kind", ["bert-encoder", "deberta-encoder", "modernbert-encoder"])
def test_a_tail_branches_off_the_trunk(tiny, make_probe, spans, kind):
    encoder = Encoder(tiny(kind), batch_tokens=40)
    layers = list(range(1, encoder.config().num_hidden_layers))
    plain, _ = make_probe(encoder, [Feature(layer=layers[-1] + 1)], seed=3)
    same, _ = make_probe(
        encoder, [Feature(layer=layers[-1] + 1, tail=True)], axis="same", seed=3, tail=tail_of(tiny(kind), layers)
    )
    other, _ = make_probe(
        encoder,
        [Feature(layer=layers[-1] + 1, tail=True)],
        axis="other",
        seed=3,
        tail=tail_of(tiny(kind), layers, change=0.1),
    )
    forward = encoder.load([plain, same, other], "cpu")
    prepared = encoder.prepare(spans)
    trunk, copied, changed = forward(prepared, [0, 1, 2])
    assert copied.values.tobytes() == trunk.values.tobytes()
    assert np.abs(changed.values - trunk.values).max() > 1e-3
    # Without the plain head the trunk stops where the tails begin.
    assert forward(prepared, [1])[0].values.tobytes() == trunk.values.tobytes()
    assert forward(prepared, [2])[0].values.tobytes() == changed.values.tobytes()


def test_batches_do_not_depend_on_the_device_and_truncation_is_recorded(tiny):
    encoder = Encoder(tiny("bert-encoder"), max_length=6, batch_tokens=16)
    prepared = encoder.prepare(pa.table({"text": ["a dog", "the cat sat on the mat .", "a dog"]}))
    assert prepared.arrays["bounds"].tolist() == [0, 2]
    assert prepared.truncated.tolist() == [False, True, False]
    assert prepared.tokens == 4 + 6
    assert prepared.distinct == 2


def test_arrays_may_be_read_only(tiny, make_probe, spans):
    encoder = Encoder(tiny("bert-encoder"), batch_tokens=40)
    probe, _ = make_probe(encoder, FEATURES)
    prepared = encoder.prepare(spans)
    for array in prepared.arrays.values():
        array.flags.writeable = False
    (scores,) = encoder.load([probe], "cpu")(prepared, [0])
    assert np.isfinite(scores.values).all()


def test_bfloat16_is_near_float32_and_another_identity(tiny, make_probe, spans):
    exact, half = (Encoder(tiny("bert-encoder"), dtype=dtype) for dtype in ("float32", "bfloat16"))
    probe, _ = make_probe(exact, [Feature(layer=1)])
    values = []
    for encoder in (exact, half):
        prepared = encoder.prepare(spans)
        values.append(encoder.load([dataclasses.replace(probe, encoder=encoder)], "cpu")(prepared, [0])[0].values)
    assert values[1].dtype == np.float32
    assert 0 < np.abs(values[0] - values[1]).max() < 0.3
    assert exact.identity() != half.identity()


def test_halving_gives_the_same_scores(tiny, make_probe, spans, monkeypatch):
    from transformers.models.bert.modeling_bert import BertLayer

    encoder = Encoder(tiny("bert-encoder"))
    probe, _ = make_probe(encoder, FEATURES)
    forward = encoder.load([probe], "cpu")
    prepared = encoder.prepare(spans)
    (expected,) = forward(prepared, [0])
    layer_forward = BertLayer.forward

    def small(self, hidden, *args, **kwargs):
        if len(hidden) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return layer_forward(self, hidden, *args, **kwargs)

    monkeypatch.setattr(BertLayer, "forward", small)
    (scores,) = forward(prepared, [0])
    assert scores.halved > 0
    assert scores.failures == {}
    np.testing.assert_allclose(scores.values, expected.values, atol=1e-5)


def test_a_model_that_gives_nan_fails_only_what_it_touches(tiny, make_probe, spans, monkeypatch):
    encoder = Encoder(tiny("bert-encoder"))
    probe, _ = make_probe(encoder, FEATURES)
    forward = encoder.load([probe], "cpu")
    hello = encoder.tokenizer().backend_tokenizer.token_to_id("hello")
    with torch.no_grad():
        forward.trunk.model.embeddings.word_embeddings.weight[hello] = torch.nan
    prepared = encoder.prepare(spans)
    values, failures = expand(prepared, forward(prepared, [0])[0])
    assert failures == {TEXTS.index("hello"): "non-finite score"}
    assert np.isnan(values[:, 0]).sum() == 1


def test_it_is_what_the_protocol_says(tiny, make_probe):
    encoder = Encoder(tiny("bert-encoder"))
    probe, _ = make_probe(encoder, FEATURES)
    assert isinstance(encoder, Backbone)
    assert isinstance(probe, Scorer)
    with pytest.raises(ConfigError, match="serves scorers that have a `head`"):
        encoder.load([object()], "cpu")


def test_a_device_that_is_not_there_is_named(tiny):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="no GPU"):
        Encoder(tiny("bert-encoder")).load([], "cuda")
    with pytest.raises(ConfigError, match="unknown device"):
        Encoder(tiny("bert-encoder")).load([], "gpu")
