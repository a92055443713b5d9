import dataclasses
import json

import cloudpickle
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_encoder import make_card

from annotate.curves import Isotonic, Platt
from annotate.errors import ConfigError
from annotate.probes import Feature, load_probe, save_probe
from annotate.probes.file import KEY
from annotate.scorers import Encoder, Probe, shipped_probes
from annotate.scorers import probe as probe_module


@pytest.fixture
def encoder(tiny):
    return Encoder(tiny("bert-encoder"))


@pytest.fixture
def card(encoder):
    return make_card(encoder, [Feature(layer=1), Feature(layer=2, pool="max")])


@pytest.fixture
def path(tmp_path, card):
    path = tmp_path / "niceness.safetensors"
    save_probe(path, card, np.arange(64.0), 1.5)
    return path


def test_a_probe_comes_back_as_it_was_saved(tmp_path, card):
    curves = [Platt(a=2.0, b=-1.0), Isotonic(scores=(-1.0, 0.5), probabilities=(0.1, 0.9)), None]
    for i, curve in enumerate(curves):
        saved = dataclasses.replace(card, calibration=curve, sources=[{"name": "made up", "rows": 3}])
        path = tmp_path / f"{i}.safetensors"
        tail = {1: {"a.b": np.ones((2, 2), np.float16)}}
        saved = dataclasses.replace(saved, features=(Feature(layer=1), Feature(layer=2, tail=True)))
        save_probe(path, saved, np.arange(64.0), 1.5, tail=tail)
        head = load_probe(path)
        assert head.card == saved
        assert head.weight.tolist() == list(range(64))
        assert (head.bias, head.width) == (1.5, 32)
        assert head.tail[1]["a.b"].dtype == np.float16


def test_equal_probes_are_equal_bytes(tmp_path, card, path):
    again = tmp_path / "again.safetensors"
    save_probe(again, card, np.arange(64.0), 1.5)
    assert again.read_bytes() == path.read_bytes()


def test_standardising_is_folded_into_the_weights(tmp_path, card):
    random = np.random.default_rng(0)
    features, weight = random.normal(3, 2, size=(5, 64)), random.normal(size=64)
    mean, scale = features.mean(0), features.std(0)
    path = tmp_path / "p.safetensors"
    save_probe(path, card, weight, 0.5, mean=mean, scale=scale)
    head = load_probe(path)
    expected = (features - mean) / scale @ weight + 0.5
    np.testing.assert_allclose(features @ head.weight + head.bias, expected, rtol=1e-4, atol=1e-4)


def spoil(path, *, card=None, drop=(), **tensors):
    """Write the file again with other tensors or another card, past the checks of `save_probe`."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        settings = json.loads(file.metadata()[KEY])
    kept = {k: v for k, v in load_file(path).items() if k not in drop}
    settings = {**settings, **(card or {})}
    save_file({**kept, **tensors}, path, metadata={KEY: json.dumps(settings)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ["weight"]}, "'weight' is missing"),
        ({"weight": np.zeros(63, np.float32)}, r"weight must be \[n_features \* width\]"),
        ({"weight": np.zeros((2, 32), np.float32)}, "weight must be"),
        ({"weight": np.zeros(64, np.float64)}, "weight must be float32, got float64"),
        ({"weight": np.full(64, np.nan, np.float32)}, "not finite"),
        ({"bias": np.zeros(2, np.float32)}, r"bias must be \[1\]"),
        ({"junk": np.zeros(2, np.float32)}, "unknown tensor 'junk'"),
        ({"tail.1.a": np.zeros(2, np.float32)}, "a tail that no feature reads"),
        ({"card": {"format": 99}}, "format 99"),
        ({"card": {"axis": "not an axis"}}, "letters, digits"),
        ({"card": {"axis": 3}}, "wrong at 'axis'"),
        ({"card": {"features": []}}, "features must be one or more"),
        ({"card": {"features": [{"layer": 1, "pool": "median"}]}}, "wrong at 'features.0.pool'"),
        ({"card": {"features": [{"layer": -1}, {"layer": 1}]}}, "layers count from 0"),
        ({"card": {"features": [{"layer": 1}, {"layer": 2, "tail": True}]}}, "is of the tail"),
        ({"card": {"max_length": 0}}, "max_length must be"),
        ({"card": {"anchors": ["one"]}}, "wrong at 'anchors"),
        ({"card": {"anchors": ["one", "one"]}}, "the anchors of 'niceness' must be"),
        ({"card": {"calibration": {"kind": "isotonic", "scores": [1, 0], "probabilities": [0, 1]}}}, "finite and rise"),
        ({"card": {"calibration": {"kind": "isotonic", "scores": [0, 1], "probabilities": [0, 2]}}}, "lie in"),
        ({"card": {"calibration": {"kind": "isotonic", "scores": [0], "probabilities": [0, 1]}}}, "1 scores and 2"),
    ],
)
def test_a_wrong_file_is_refused_by_name(path, changes, message):
    spoil(path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_probe(path)
    assert str(path) in str(caught.value)


def test_what_is_no_probe_is_refused(tmp_path, path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_probe(tmp_path / "none.safetensors")
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "plain.safetensors")
    with pytest.raises(ConfigError, match="is no probe"):
        load_probe(tmp_path / "plain.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="no readable safetensors"):
        load_probe(path)


def test_nothing_wrong_is_written(tmp_path, card):
    path = tmp_path / "p.safetensors"
    with pytest.raises(ConfigError, match="weight must be"):
        save_probe(path, card, np.zeros(7), 0.0)
    assert not path.exists()


def test_another_encoder_is_refused(tiny, path, encoder):
    other = Encoder(tiny("roberta-encoder"))
    probe = Probe(str(path), encoder=other)
    with pytest.raises(ConfigError, match="made for an encoder with other config and weights"):
        probe.resolved()
    with pytest.raises(ConfigError, match="made for an encoder with other config and weights"):
        other.load([probe], "cpu")


def test_layers_and_width_must_be_the_encoders(tmp_path, encoder, tiny):
    too_high = tmp_path / "high.safetensors"
    save_probe(too_high, make_card(encoder, [Feature(layer=3)]), np.zeros(32), 0.0)
    with pytest.raises(ConfigError, match="reads layer 3; the encoder has 2"):
        encoder.load([Probe(str(too_high), encoder=encoder)], "cpu")
    too_wide = tmp_path / "wide.safetensors"
    save_probe(too_wide, make_card(encoder, [Feature(layer=1)]), np.zeros(33), 0.0)
    with pytest.raises(ConfigError, match="33 weights a feature"):
        encoder.load([Probe(str(too_wide), encoder=encoder)], "cpu")
    strange = tmp_path / "strange.safetensors"
    tail = {1: {"no.such": np.zeros(3, np.float32)}}
    save_probe(strange, make_card(encoder, [Feature(layer=2, tail=True)]), np.zeros(32), 0.0, tail=tail)
    with pytest.raises(ConfigError, match="not those of the encoder"):
        encoder.load([Probe(str(strange), encoder=encoder)], "cpu")


def test_identity_holds_no_path(path, tmp_path, encoder):
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(path.read_bytes())
    first, second = Probe(str(path), encoder=encoder), Probe(str(moved), encoder=encoder)
    assert first.identity() == second.identity()
    assert str(tmp_path) not in json.dumps(first.identity())


def test_a_probe_that_changed_on_disk_is_read_again(path, card, encoder):
    probe = Probe(str(path), encoder=encoder)
    before = probe.identity()
    save_probe(path, dataclasses.replace(card, axis="tone"), np.arange(64.0), 2.0)
    assert probe.axes == ("tone",)
    assert probe.identity() != before


def test_a_probe_survives_pickling_and_names_its_encoder(path, tiny):
    probe = cloudpickle.loads(cloudpickle.dumps(Probe(str(path))))
    assert probe.axes == ("niceness",)
    assert probe.anchors == {"niceness": ("bad", "good")}
    assert probe.backbone == Encoder(tiny("bert-encoder"), max_length=32)
    assert hash(probe) == hash(Probe(str(path)))
    assert probe.resolved().encoder is not None


def test_shipped_probes_are_found_by_name(path, encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(probe_module, "SHIPPED", tmp_path)
    assert shipped_probes() == ["niceness"]
    assert Probe("niceness").resolved().source == "niceness"
    with pytest.raises(ConfigError, match=r"no probe named 'nicenes' is shipped; there are \['niceness'\]"):
        Probe("nicenes").head()
    with pytest.raises(ConfigError, match="does not exist"):
        Probe("some/where.safetensors").head()
