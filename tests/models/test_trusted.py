"""What is checked of a model instead of being trusted: padding, positions, ids, weights, files."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import TEXTS
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from annotate.errors import ConfigError
from annotate.models import smoke_test as smoke_test_module
from annotate.models.base import expand
from annotate.models.files import find_model, hash_file
from annotate.probes import Feature, probe_features
from annotate.scorers import Classifier, Encoder, Likelihood, RewardModel
from annotate.scorers.likelihood import CausalModel


def score(scorer, texts):
    scorer = scorer.resolved()
    prepared = scorer.backbone.prepare(pa.table({"text": texts}))
    values, failures = expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0])
    assert failures == {}
    return values[:, 0]


def alone(directory, texts, column=0, max_length=None):
    """Text by text, as Transformers runs the model."""
    model, tokenizer = (a.from_pretrained(directory) for a in (AutoModelForSequenceClassification, AutoTokenizer))
    rows = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=max_length is not None, max_length=max_length)
        with torch.inference_mode():
            rows.append(model(**inputs).logits[0, column].item())
    return np.array(rows)


@pytest.mark.parametrize("kind", ["xlnet", "gpt2-left"])
def test_a_model_whose_tokenizer_pads_on_the_left_scores_as_text_by_text(tiny, kind):
    scorer = RewardModel(tiny(kind), axis="helpful", inputs="text", max_length=48)
    np.testing.assert_allclose(score(scorer, TEXTS), alone(tiny(kind), TEXTS), atol=1e-5)
    assert scorer.identity()["model"]["padding"] == "left"


def test_features_do_not_depend_on_the_side_of_padding(tiny, copy_model, edit_json):
    # DeBERTa's positions are relative, so that it may be padded on either side.
    features = [Feature(layer=2, pool=pool) for pool in ("first", "last", "mean", "max")]
    left = copy_model("deberta-encoder")
    edit_json(left / "tokenizer_config.json", padding_side="left")
    encoders = [Encoder(str(path), batch_tokens=400) for path in (tiny("deberta-encoder"), left)]
    right_padded, left_padded = (probe_features(encoder, TEXTS, features) for encoder in encoders)
    np.testing.assert_allclose(left_padded, right_padded, atol=2e-5)


@pytest.mark.parametrize("kind", ["roberta", "roberta-prelayernorm", "mpnet", "longformer"])
def test_the_longest_text_fits_where_positions_begin_after_the_padding_id(tiny, kind):
    longest = {"roberta": 65}.get(kind, 64)
    scorer = Classifier(tiny(kind), axis="nice", label="nice", activation="logit", batch_tokens=200)
    assert scorer.backbone.window() == longest
    texts = ["cat " * 100, *TEXTS]
    np.testing.assert_allclose(score(scorer, texts), alone(tiny(kind), texts, 2, longest), atol=2e-5)
    with pytest.raises(ConfigError, match=rf"takes {longest} tokens, got max_length={longest + 1}"):
        Classifier(tiny(kind), axis="nice", label="nice", max_length=longest + 1).resolved().identity()


def test_a_model_that_reads_padding_is_refused_unless_each_text_is_scored_alone(tiny):
    scorer = Classifier(tiny("fnet"), axis="nice", label="nice", activation="logit")
    with pytest.raises(ConfigError, match=r"alone as .*, and in a batch with longer ones as") as told:
        score(scorer, TEXTS)
    assert tiny("fnet") in told.value.message
    assert "batch_tokens=1" in told.value.hint
    found = score(Classifier(tiny("fnet"), axis="nice", label="nice", activation="logit", batch_tokens=1), TEXTS)
    np.testing.assert_allclose(found, alone(tiny("fnet"), TEXTS, 2), atol=1e-5)


def ignoring_masks(model_class, monkeypatch):
    forward = model_class.forward

    def without_mask(self, input_ids, attention_mask=None, **inputs):
        return forward(self, input_ids, **inputs)

    monkeypatch.setattr(model_class, "forward", without_mask)


def test_the_smoke_test_finds_a_mask_that_is_ignored(tiny, monkeypatch):
    from transformers import BertForSequenceClassification

    scorer = Classifier(tiny("bert"), axis="nice", label="nice")
    score(scorer, TEXTS)
    ignoring_masks(BertForSequenceClassification, monkeypatch)
    with pytest.raises(ConfigError, match="padding reaches its scores"):
        score(scorer, TEXTS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_smoke_test_finds_padding_on_the_wrong_side(copy_model, edit_json, monkeypatch, dtype):
    # The tiny vocabulary has no word of the usual texts.
    monkeypatch.setattr(smoke_test_module, "TEXTS", ("a dog", TEXTS[1], TEXTS[6]))
    directory = copy_model("xlnet")
    scorer = RewardModel(str(directory), axis="helpful", inputs="text", max_length=48, dtype=dtype)
    score(scorer, TEXTS)
    edit_json(directory / "tokenizer_config.json", padding_side="right")
    with pytest.raises(ConfigError, match=rf"padding reaches its scores .* allowed in {dtype}") as told:
        score(scorer, TEXTS)
    assert "padding_side" in told.value.hint


def test_the_smoke_test_of_a_language_model_finds_dropout(tiny, monkeypatch):
    from transformers import GPT2LMHeadModel

    scorer = Likelihood(model=CausalModel(tiny("gpt2")))
    monkeypatch.setattr(GPT2LMHeadModel, "eval", lambda self: self.train())
    with pytest.raises(ConfigError, match="and in a batch with longer ones"):
        score(scorer, TEXTS)


@pytest.mark.parametrize("pad", [-1, 40])
def test_a_padding_id_outside_of_the_embedding_is_refused_before_any_work(copy_model, edit_json, pad):
    directory = copy_model("reward")
    edit_json(directory / "config.json", pad_token_id=pad)
    with pytest.raises(ConfigError, match=rf"pad_token_id {pad}, but its embedding has the ids 0 to 39"):
        RewardModel(str(directory), axis="helpful", prompt="hello").resolved()


@pytest.mark.parametrize("kind", ["reward-no-pad", "gpt2", "bert-encoder"])
def test_a_token_outside_of_the_embedding_is_refused_before_any_work(copy_model, kind):
    directory = copy_model(kind)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens([f"new{i}" for i in range(40 - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(directory)
    model = {"gpt2": CausalModel, "bert-encoder": Encoder}.get(kind)
    scorer = RewardModel(str(directory), axis="helpful", prompt="hello") if model is None else model(str(directory))
    with pytest.raises(ConfigError, match=r"gives '\[PAD\]' the id 40, but its embedding has the ids 0 to 39"):
        scorer.resolved()


def change_weights(directory, change):
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.2.output.dense.weight", "bert.encoder.layer.0.attention.self.query.lora_A.weight"]
)
def test_weights_that_the_config_has_no_place_for_are_refused(copy_model, name):
    directory = copy_model("bert")
    change_weights(directory, lambda weights: weights.update({name: torch.zeros(2)}))
    with pytest.raises(ConfigError, match=f"weights that its config.json has no place for: {name}"):
        score(Classifier(str(directory), axis="nice", label="nice"), TEXTS)


def test_another_tasks_head_and_old_buffers_are_passed_over(copy_model, tiny):
    directory = copy_model("bert")
    extra = {"cls.predictions.bias": torch.zeros(40), "bert.embeddings.position_ids": torch.arange(64)}
    change_weights(directory, lambda weights: weights.update(extra))
    found, expected = (score(Classifier(str(d), axis="nice", label="nice"), TEXTS) for d in (directory, tiny("bert")))
    np.testing.assert_array_equal(found, expected)


def test_weights_of_another_size_are_named(copy_model, edit_json):
    directory = copy_model("bert")
    edit_json(directory / "config.json", id2label={"0": "bad", "1": "nice"}, label2id=...)
    with pytest.raises(ConfigError, match=r"classifier.bias has the shape \(3,\) in its weights, by its .* \(2,\)"):
        score(Classifier(str(directory), axis="nice", label="nice"), TEXTS)


def test_the_weights_that_are_hashed_are_those_that_are_loaded(copy_model):
    directory = copy_model("bert")
    (directory / "model-1.safetensors").write_bytes(b"of an earlier download")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    # Transformers reads the one file where there are both.
    assert find_model(str(directory)).hashes()["weights"] == hash_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    index.write_text("{}")
    with pytest.raises(ConfigError, match="is no index of weights: KeyError"):
        find_model(str(directory))


def test_what_lies_where_no_hash_sees_it_is_refused(copy_model, edit_json):
    directory = copy_model("bert")
    edit_json(directory / "config.json", transformers_weights="other.safetensors")
    with pytest.raises(ConfigError, match=r"weights in a file of another name, 'other.safetensors'"):
        find_model(str(directory))
    (directory / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "another/model"}))
    with pytest.raises(ConfigError, match="holds an adapter, whose base model is elsewhere"):
        find_model(str(directory))


@pytest.mark.parametrize("config", ["[", '"a"', '{"model_type": 3}', '{"model_type": "bert", "hidden_size": "x"}'])
def test_any_error_of_a_config_names_the_model(copy_model, config):
    directory = copy_model("bert")
    (directory / "config.json").write_text(config)
    with pytest.raises(ConfigError, match=rf"model '{directory}'") as told:
        Classifier(str(directory), axis="nice", label="nice").resolved().backbone.load([], "cpu")
    assert told.value.hint


def test_old_files_of_a_tokenizer_are_in_its_hash_where_they_are_read(copy_model, edit_json):
    directory = copy_model("reward")
    before = find_model(str(directory)).hashes()
    (directory / "special_tokens_map.json").write_text('{"bos_token": "</s>"}')
    assert find_model(str(directory)).hashes()["tokenizer"] != before["tokenizer"]
    edit_json(directory / "tokenizer_config.json", added_tokens_decoder={})
    listed = find_model(str(directory)).hashes()
    (directory / "special_tokens_map.json").unlink()
    assert find_model(str(directory)).hashes() == listed


def test_code_of_a_model_runs_only_where_it_is_trusted(copy_model, edit_json, tmp_path):
    directory, marker = copy_model("bert"), tmp_path / "run"
    (directory / "modeling.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        # Of its own: transformers would note at its own classes that their code lies here.
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "class Config(BertConfig):\n    pass\n"
        "class Model(BertForSequenceClassification):\n    config_class = Config\n"
    )
    code = {"AutoConfig": "modeling.Config", "AutoModelForSequenceClassification": "modeling.Model"}
    edit_json(directory / "config.json", auto_map=code)
    classifier = Classifier(str(directory), axis="nice", label="nice")
    with contextlib.suppress(ConfigError):  # a model of a known kind can be read without its code
        score(classifier, TEXTS)
    assert not marker.exists()
    score(replace(classifier, trust_remote_code=True), TEXTS)
    assert marker.exists(), "the code would have run"


def test_code_of_another_repository_is_refused(copy_model, edit_json):
    directory = copy_model("bert")
    edit_json(directory / "config.json", auto_map={"AutoModel": "someone/else--modeling.Model"})
    with pytest.raises(ConfigError, match=r"takes code from another repository: .*someone/else--modeling"):
        Classifier(str(directory), axis="nice", label="nice", trust_remote_code=True).identity()


def test_products_are_exact_whatever_was_allowed(tiny):
    torch.set_float32_matmul_precision("medium")
    try:
        score(Classifier(tiny("bert"), axis="nice", label="nice"), TEXTS)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision("highest")
