"""Models with a head of their own: declared, they score as the code on their cards. Same structure, tiny, random."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import write_corpus
from tiny_models import TEXTS, save_tiny_model
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from annotate import Classifier, ConfigError, Corpus, EncoderWithHead, Pipeline, RewardModel, Split, score
from annotate.models.base import expand

QUALITY = ("High", "Medium", "Low")


def scored(scorer, texts=TEXTS):
    scorer = scorer.resolved()
    prepared = scorer.backbone.prepare(pa.table({"text": texts}))
    values, failures = expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0])
    assert failures == {}
    return values[:, 0]


def alone(folder, score):
    """Scores of texts, one by one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return np.array([score(tokenizer(text, return_tensors="pt")).item() for text in TEXTS], np.float32)


def randomized(module):
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.2)
    return module.eval()


class QualityModel(nn.Module):
    """As on the card of nvidia/quality-classifier-deberta."""

    def __init__(self, base):
        super().__init__()
        self.model = AutoModel.from_pretrained(base)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(self.model.config.hidden_size, 3)

    def forward(self, input_ids, attention_mask):
        features = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.softmax(self.fc(self.dropout(features))[:, 0, :], dim=1)


@pytest.fixture
def quality(tmp_path):
    """The files of such a model: config of the base, the tokenizer, and one file with encoder and head."""
    save_tiny_model("deberta-encoder", tmp_path)
    model = randomized(QualityModel(tmp_path))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "model.safetensors")
    return tmp_path, model


def declared(folder, **settings):
    given = {"encoder": "model.", "layers": ["fc"], "names": QUALITY, "max_length": 32} | settings
    return EncoderWithHead(folder, **given)


@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_the_quality_classifier_of_nvidia(quality, batch_tokens):
    folder, model = quality
    head = declared(folder, batch_tokens=batch_tokens)
    for i, label in enumerate(QUALITY):
        found = scored(Classifier(head, axis="quality", label=label, activation="softmax"))
        expected = alone(folder, lambda x, i=i: model(x["input_ids"], x["attention_mask"])[0, i])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    raw = scored(Classifier(head, axis="quality", label="High"))
    expected = alone(folder, lambda x: model(x["input_ids"], x["attention_mask"])[0, 0].logit())
    np.testing.assert_allclose(raw, expected, atol=1e-4)


def mean_of(model, inputs):
    return model(**inputs).last_hidden_state.mean(dim=1)


def test_an_embedding_and_a_linear_head_as_of_safelm(tmp_path):
    """Six grades of one softmax; what counts is their expected value."""
    save_tiny_model("bert-encoder", tmp_path)
    encoder, head = AutoModel.from_pretrained(tmp_path), randomized(nn.Linear(32, 6))
    save_file(head.state_dict(), tmp_path / "linear.safetensors")
    prefixed = {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    save_file(prefixed, tmp_path / "head.safetensors")
    grades = [str(i) for i in range(6)]
    model = EncoderWithHead(
        tmp_path, head=tmp_path / "head.safetensors", layers=["classifier"], names=grades, pool="mean", normalize=True
    )
    weights = {grade: float(grade) for grade in grades}
    found = scored(Classifier(model, axis="harm", weights=weights))

    def expected(inputs):
        embedding = nn.functional.normalize(mean_of(encoder, inputs), dim=1)
        return (head(embedding).softmax(dim=1) * torch.arange(6.0)).sum()

    np.testing.assert_allclose(found, alone(tmp_path, expected), atol=1e-5)
    assert np.ptp(found) > 1e-3


class RegressionHead(nn.Module):
    """As in the code of JQL: two layers with a ReLU between them."""

    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 10)
        self.fc2 = nn.Linear(10, 1)

    def forward(self, embedding):
        return self.fc2(torch.relu(self.fc1(embedding)))


def convert(checkpoint, file):
    """As docs/own-heads.md says."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    save_file({name: tensor.float().contiguous() for name, tensor in state.items()}, file)


def test_heads_of_jql_on_one_embedding_model(tmp_path):
    save_tiny_model("roberta-encoder", tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    heads = []
    for i in range(2):
        head = randomized(RegressionHead(32))
        head.fc2.bias.data += i
        torch.save({"state_dict": head.state_dict(), "epoch": 3}, tmp_path / f"{i}.ckpt")
        with pytest.raises(ConfigError, match=r"is no \.safetensors file") as told:
            scored(
                Classifier(EncoderWithHead(tmp_path, head=tmp_path / f"{i}.ckpt", layers=["fc1", "fc2"]), axis="edu")
            )
        assert "weights_only=True" in told.value.hint
        convert(tmp_path / f"{i}.ckpt", tmp_path / f"{i}.safetensors")
        heads.append(head)
    for i, head in enumerate(heads):
        file = tmp_path / f"{i}.safetensors"
        model = EncoderWithHead(tmp_path, head=file, layers=["fc1", "fc2"], normalize=True)
        found = scored(Classifier(model, axis="education"))

        def expected(inputs, head=head):
            first = encoder(**inputs).last_hidden_state[:, 0]
            return head(nn.functional.normalize(first, p=2, dim=1))[0, 0]

        np.testing.assert_allclose(found, alone(tmp_path, expected), atol=1e-5)
        assert np.ptp(found) > 1e-4


def test_fineweb_edu_is_an_ordinary_classifier(tiny):
    model = AutoModelForSequenceClassification.from_pretrained(tiny("bert-regression"))
    found = scored(Classifier(tiny("bert-regression"), axis="education"))
    np.testing.assert_allclose(
        found, alone(tiny("bert-regression"), lambda x: model(**x).logits.squeeze(-1)), atol=1e-5
    )


@pytest.mark.parametrize("pool", ["first", "last", "mean", "max"])
@pytest.mark.parametrize("between", ["relu", "gelu", "tanh"])
def test_pools_and_what_stands_between_layers(tmp_path, pool, between):
    save_tiny_model("bert-encoder", tmp_path)
    encoder, head = AutoModel.from_pretrained(tmp_path), randomized(RegressionHead(32))
    save_file(head.state_dict(), tmp_path / "head.safetensors")
    model = EncoderWithHead(
        tmp_path, head=tmp_path / "head.safetensors", layers=["fc1", "fc2"], pool=pool, between=between
    )
    act = {"relu": torch.relu, "gelu": nn.functional.gelu, "tanh": torch.tanh}[between]
    of = {
        "first": lambda h: h[:, 0],
        "last": lambda h: h[:, -1],
        "mean": lambda h: h.mean(1),
        "max": lambda h: h.amax(1),
    }

    def expected(inputs):
        return head.fc2(act(head.fc1(of[pool](encoder(**inputs).last_hidden_state))))[0, 0]

    np.testing.assert_allclose(scored(Classifier(model, axis="a")), alone(tmp_path, expected), atol=1e-5)


def test_a_head_beside_the_encoder_in_the_models_own_file(quality):
    folder, model = quality
    tensors = load_file(folder / "model.safetensors")
    plain = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
    found = scored(Classifier(declared(folder, encoder=None), axis="q", label="Low", activation="softmax"))
    expected = alone(folder, lambda x: model(x["input_ids"], x["attention_mask"])[0, 2])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ConfigError, match=r"has tensors that no layer takes: more\.weight"):
        save_file({**plain, "more.weight": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
        scored(Classifier(declared(folder, encoder=None), axis="q", label="Low"))


def test_what_is_declared_is_compared_with_what_is_there(quality):
    folder, _ = quality

    def load(**settings):
        scored(Classifier(declared(folder, **settings), axis="q", label=0))

    with pytest.raises(ConfigError, match=r"has no tensor 'classifier.weight'; it has fc.bias, fc.weight"):
        load(layers=["classifier"])
    with pytest.raises(ConfigError, match="has 3 outputs, got names for 2"):
        load(names=["a", "b"])
    with pytest.raises(ConfigError, match="has no weights for"):
        load(encoder="encoder.")
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "norm.weight": torch.zeros(32)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has tensors that no layer takes: norm\.weight"):
        load()
    save_file({**tensors, "fc.weight": torch.zeros(3, 31)}, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"fc.weight must be \[outputs, 32\], got \[3, 31\]"):
        load()
    del tensors["model.encoder.layer.0.attention.self.query_proj.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConfigError, match=r"has no weights for encoder\.layer\.0\.attention\.self\.query_proj\.weight"):
        load()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, "layers must be one or more"),
        ({"layers": "fc"}, "layers must be a list or a tuple"),
        ({"names": ["a", "a"]}, "must differ"),
        ({"pool": "cls"}, "pool must be one of"),
        ({"between": "swish"}, "between must be one of"),
        ({"squash": "tanh"}, "squash must be one of"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        EncoderWithHead("x", **({"layers": ["fc"]} | settings))


def test_settings_of_the_encoder_are_given_to_it():
    model = EncoderWithHead("x", layers=["fc"])
    with pytest.raises(ConfigError, match="max_length is a setting of the encoder: give max_length=9 to it"):
        Classifier(model, axis="a", max_length=9)
    with pytest.raises(ConfigError, match="reads the text alone"):
        Classifier(model, axis="a", pair_column="question")
    with pytest.raises(ConfigError, match="a reward model reads a prompt"):
        RewardModel(model, axis="a", prompt="x")


def test_the_identity_has_the_head_and_no_path(quality):
    folder, _ = quality
    seen = set()
    save_file({"fc.weight": torch.zeros(3, 32)}, folder / "a.safetensors")
    save_file({"fc.weight": torch.ones(3, 32)}, folder / "b.safetensors")
    for settings in (
        {},
        {"pool": "mean"},
        {"normalize": True},
        {"between": "tanh"},
        {"names": ("a", "b", "c")},
        {"squash": "sigmoid"},
        {"head": folder / "a.safetensors"},
        {"head": folder / "b.safetensors"},
    ):
        identity = json.dumps(Classifier(declared(folder, **settings), axis="q", label=0).identity(), sort_keys=True)
        assert str(folder) not in identity
        seen.add(identity)
    assert len(seen) == 8


def test_scorers_of_one_head_share_the_pass_and_paths_are_pinned(quality, monkeypatch):
    folder, _ = quality
    scorers = [Classifier(declared(folder), axis=name.lower(), label=name) for name in QUALITY]
    assert len({scorer.backbone for scorer in scorers}) == 1
    save_file({"fc.weight": torch.ones(3, 32)}, folder / "a.safetensors")
    monkeypatch.chdir(folder)
    pinned = Classifier(EncoderWithHead(".", head="a.safetensors", layers=["fc"], names=QUALITY), axis="q", label=1)
    assert Path(pinned.resolved().model.head).is_absolute() and Path(pinned.resolved().model.model).is_absolute()


def test_a_pipeline_with_a_head_is_planned_and_timed_and_travels_to_workers(quality, tmp_path):
    folder, _ = quality
    scorer = Classifier(declared(folder), axis="quality", label="High")
    assert pickle.loads(pickle.dumps(scorer)) == scorer and hash(scorer) == hash(pickle.loads(pickle.dumps(scorer)))
    corpus = write_corpus(tmp_path / "corpus", shards=1, documents=3)
    pipeline = Pipeline(score(Split(Corpus(str(corpus))), [scorer])[0])
    plan = pipeline.plan(tmp_path / "out", sample=4)
    assert plan.scoring[0].tokens > 0
