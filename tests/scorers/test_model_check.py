"""What `annotate model check` says of a model: what it is, the line to paste, its scores, or why it can't be used."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tiny_models import make_tokenizer, save_tiny_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from annotate import (
    CausalModel,
    Classifier,
    ConfigError,
    Encoder,
    Likelihood,
    Probe,
    RewardModel,
    check_model,
)
from annotate.models import device, fit, speed
from annotate.models.base import expand
from annotate.models.weights import count_weights
from annotate.scorers import model_check as module

TEXTS = ("you are an idiot .", "thank you , good dog !")


@pytest.fixture(autouse=True)
def _small_sample(monkeypatch):
    monkeypatch.setattr(speed, "_MOST", 8)


def evaluated(usage):
    """The scorer that a pasted line makes."""
    return eval(usage, {each.__name__: each for each in (CausalModel, Classifier, Encoder, Likelihood, RewardModel)})


def scores(scorer, texts):
    prepared = scorer.backbone.prepare(pa.table({"text": texts}))
    return expand(prepared, scorer.backbone.load([scorer], "cpu")(prepared, [0])[0])[0][:, 0].tolist()


@pytest.mark.parametrize(
    ("name", "kind", "activation", "usage"),
    [
        ("bert", "classifier", "softmax", 'Classifier("NAME", axis="toxic", label="toxic")'),
        ("bert-multi", "classifier", "sigmoid", 'Classifier("NAME", axis="toxic", label="toxic")'),
        ("bert-single", "classifier", "none", 'Classifier("NAME", axis="score")'),
        (
            "reward",
            "reward model",
            "none",
            'RewardModel("NAME", axis="reward", prompt="What do you think of my essay?")',
        ),
        ("gpt2", "causal language model", None, 'Likelihood(model=CausalModel("NAME"))'),
    ],
)
def test_what_a_model_is_and_the_line_to_paste(tiny, name, kind, activation, usage):
    found = check_model(tiny(name), texts=TEXTS)
    assert (found.kind, found.activation, found.usage) == (kind, activation, usage.replace("NAME", tiny(name)))
    assert (found.window, found.padding, found.folder, found.commit) == (64, "right", tiny(name), None)
    scorer = evaluated(found.usage)
    axis = scorer.axes[0]
    assert found.trial.scores[axis] == pytest.approx(scores(scorer, TEXTS), abs=1e-6)
    assert found.trial.speed.tokens > 0 and found.trial.speed.tokens_per_second > 0
    assert found.trial.device.startswith("cpu")


@pytest.mark.parametrize(
    ("name", "probabilities"), [("bert", torch.softmax), ("bert-multi", lambda x, dim: x.sigmoid())]
)
def test_each_label_has_its_score_and_the_probability_of_the_model(tiny, name, probabilities):
    found = check_model(tiny(name), texts=TEXTS)
    assert found.labels == tuple(found.trial.scores) == ("toxic", "neutral", "nice")
    model, tokenizer = (a.from_pretrained(tiny(name)) for a in (AutoModelForSequenceClassification, AutoTokenizer))
    for i, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            expected = probabilities(model(inputs["input_ids"]).logits[0], dim=0).tolist()
        assert [found.probability(s[i]) for s in found.trial.scores.values()] == pytest.approx(expected, abs=1e-5)


def test_an_encoder_has_no_score_but_a_speed_and_the_command_that_trains_a_probe(tiny):
    found = check_model(tiny("bert-encoder"))
    assert (found.kind, found.labels, found.trial.scores) == ("encoder", (), {})
    assert any(
        f"annotate probe train labelled.parquet --axis AXIS --encoder {tiny('bert-encoder')}" in r
        for r in found.remarks
    )
    assert found.usage == 'Probe("AXIS.safetensors")' and Probe("AXIS.safetensors").encoder is None
    assert found.trial.speed.tokens_per_second > 0


def test_settings_are_in_the_line_to_paste(tiny):
    found = check_model(tiny("bert"), texts=TEXTS, max_length=16, dtype="bfloat16", batch_tokens=64)
    expected = Classifier(tiny("bert"), axis="toxic", label="toxic", max_length=16, dtype="bfloat16", batch_tokens=64)
    assert evaluated(found.usage) == expected
    assert (found.window, found.dtype, found.batch_tokens) == (16, "bfloat16", 64)
    found = check_model(tiny("reward"), texts=TEXTS, prompt='say "hello"')
    assert evaluated(found.usage).prompt == 'say "hello"'


def test_weights_are_counted_without_loading_them(tiny):
    found = check_model(tiny("bert"), run=False)
    assert found.trial is None
    model = AutoModelForSequenceClassification.from_pretrained(tiny("bert"))
    assert found.weights == {"float32": sum(p.numel() for p in model.parameters())} and found.parameters > 1000


def test_a_model_is_not_loaded_where_it_does_not_fit(tiny, monkeypatch):
    monkeypatch.setattr(fit, "memory_left", lambda place, every: 10_000)
    monkeypatch.setattr(module, "_tried", None)
    found = check_model(tiny("bert"))
    assert found.trial is None
    assert any("was not run: in float32 it needs about" in r for r in found.remarks)


def test_free_memory_is_a_number_of_bytes():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 10**7 < device.memory_left(torch.device("cpu")) <= total


def test_the_number_of_threads_is_as_before(tiny):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check_model(tiny("bert"), texts=TEXTS)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_else_to_know_is_said(tiny, copy_model, edit_json):
    def said(directory, **settings):
        return " ".join(check_model(str(directory), **{"texts": TEXTS, **settings}).remarks)

    assert "label has no name" in said(tiny("bert-single"))
    assert "cut at 8 tokens" in said(tiny("bert"), max_length=8, texts=("the cat " * 9,))
    assert "does not know half" in said(tiny("bert"), texts=("Entirely unknown words",))
    nli = copy_model("bert")
    edit_json(nli / "config.json", id2label={"0": "entailment", "1": "neutral", "2": "contradiction"}, label2id=...)
    assert "pair_column=" in said(nli)
    long = copy_model("reward")
    edit_json(long / "config.json", max_position_embeddings=32768)
    assert "It takes 32,768 tokens" in said(long)


def test_a_model_that_gives_all_the_same_score_is_told(copy_model):
    from safetensors.torch import load_file, save_file

    directory = copy_model("bert")
    weights = load_file(directory / "model.safetensors")
    weights["classifier.weight"].zero_()
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    assert any("All texts have the same score" in r for r in check_model(str(directory), texts=TEXTS).remarks)


def test_probes_are_shown_by_another_command():
    for name in ("niceness", "mine/kindness.safetensors"):
        with pytest.raises(ConfigError, match="is a probe, not a model") as told:
            check_model(name)
        assert f"annotate probe show {name}" in told.value.hint


def test_the_weights_of_a_model_are_no_probe(copy_model):
    with pytest.raises(ConfigError, match="is a file; a model is a directory"):
        check_model(str(copy_model("bert") / "model.safetensors"))


SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def saved(directory, model, *, tokenizer=True):
    model.save_pretrained(directory)
    if tokenizer:
        make_tokenizer().save_pretrained(directory)
    return directory


def vit(directory):
    config = transformers.ViTConfig(**SMALL, image_size=8, patch_size=4)
    return saved(directory, transformers.ViTForImageClassification(config), tokenizer=False)


def clip(directory):
    parts = [transformers.CLIPTextConfig(**SMALL, vocab_size=40), transformers.CLIPVisionConfig(**SMALL)]
    config = transformers.CLIPConfig(text_config=parts[0].to_dict(), vision_config=parts[1].to_dict(), projection_dim=8)
    return saved(directory, transformers.CLIPModel(config))


def wav2vec2(directory):
    config = transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8,), conv_stride=(2,), conv_kernel=(3,), num_feat_extract_layers=1,
        num_conv_pos_embedding_groups=2, vocab_size=40,
    )  # fmt: skip
    return saved(directory, transformers.Wav2Vec2ForCTC(config))


def t5(directory):
    config = transformers.T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    return saved(directory, transformers.T5ForConditionalGeneration(config))


def spoilt(change):
    def make(directory):
        save_tiny_model("bert", directory)
        change(directory)
        return directory

    return make


def edited(**changes):
    def change(directory):
        path = directory / "config.json"
        settings = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))

    return spoilt(change)


def moved_down(directory):
    files = list(directory.iterdir())
    (directory / "0_Transformer").mkdir()
    for file in files:
        file.rename(directory / "0_Transformer" / file.name)


def adapter(directory):
    (directory / "config.json").unlink()
    (directory / "adapter_config.json").write_text('{"base_model_name_or_path": "big/model"}')


UNUSABLE = {
    "pickle": (
        spoilt(lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin")),
        r"no model.safetensors in .*, only \['pytorch_model.bin'\]",
        "save_pretrained",
    ),
    "gguf": (
        spoilt(lambda d: [(d / "config.json").unlink(), (d / "model.safetensors").rename(d / "m.Q4_K_M.gguf")]),
        r"no config.json in .*, only \['m.Q4_K_M.gguf'\]",
        "the hub model that these files were made of",
    ),
    "pointer": (
        spoilt(lambda d: (d / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid ...")),
        "is no readable safetensors file",
        "Git LFS",
    ),
    "folder": (spoilt(moved_down), "no config.json", "0_Transformer"),
    "adapter": (spoilt(adapter), r"holds an adapter, whose base model is elsewhere \(big/model\)", "merge_and_unload"),
    "no tokenizer": (spoilt(lambda d: (d / "tokenizer.json").unlink()), "no tokenizer in", "tokenizer.save_pretrained"),
    "no model_type": (edited(model_type=None), "names no model_type", "a head of its own"),
    "newer": (edited(model_type="bert9"), r"by Transformers .*model_type 'bert9'", "install a newer Transformers"),
    "code": (
        edited(model_type="mine", auto_map={"AutoConfig": "configuration_mine.MineConfig"}),
        r"made by Python code of its own \(configuration_mine.py\)",
        "--trust-remote-code",
    ),
    "images": (vit, "reads no text: its config.json has image_size", "reads text"),
    "images and text": (clip, r"\(CLIPModel\) can't be used: it reads more than text \(vision\)", "text encoder"),
    "sound": (wav2vec2, r"\(Wav2Vec2ForCTC\) can't be used: it reads values, not text", "text encoder"),
    "sequence to sequence": (t5, r"\(T5ForConditionalGeneration\) can't be used: it writes one text", "reward model"),
    "no head": (edited(architectures=["BertForSequenceClassification"], num_labels=7), "by its config.json", "labels"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_used_is_told_with_what_to_do(tmp_path, case):
    make, message, hint = UNUSABLE[case]
    with pytest.raises(ConfigError, match=message) as told:
        check_model(str(make(tmp_path / "model")))
    assert hint in told.value.hint


def test_what_the_hub_has_instead_of_weights_is_told(copy_model, monkeypatch):
    source = copy_model("bert")
    (source / "model.safetensors").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **settings: str(source))
    monkeypatch.setattr(
        "huggingface_hub.HfApi.list_repo_files", lambda self, name, revision: ["sub/x.py", "pytorch_model.bin"]
    )
    with pytest.raises(ConfigError, match=r"nor other weights; on the hub it has pytorch_model\.bin") as told:
        check_model("some/pickled")
    assert "see who did" in told.value.hint and "refs/pr/N" in told.value.hint


def test_weights_of_all_dtypes_are_counted(tmp_path):
    from safetensors.torch import save_file

    tensors = {
        "a": torch.zeros(3, 4, dtype=torch.bfloat16),
        "b": torch.zeros(5),
        "c": torch.zeros((), dtype=torch.int8),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    assert count_weights([tmp_path / "a.safetensors"]) == {"bfloat16": 12, "float32": 5, "I8": 1}


@pytest.mark.parametrize(
    "spoil", [lambda whole: whole[:-5], lambda whole: (10**5).to_bytes(8, "little") + b"[" * 10**5]
)
def test_damaged_weights_are_refused(tiny, tmp_path, spoil):
    whole = Path(tiny("bert"), "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(spoil(whole))
    with pytest.raises(ConfigError, match=r"model\.safetensors is no readable safetensors file: SafetensorError: "):
        count_weights([tmp_path / "model.safetensors"])


def test_code_that_was_run_and_fails_is_told_as_that(tmp_path):
    make, *_ = UNUSABLE["code"]
    directory = make(tmp_path / "model")
    (directory / "configuration_mine.py").write_text("raise RuntimeError('made for Transformers 3')\n")
    with pytest.raises(ConfigError, match=r"can't be read by Transformers .*made for Transformers 3") as told:
        check_model(str(directory), trust_remote_code=True)
    assert "Python code that comes with it" in told.value.hint and "trust" not in f"{told.value} {told.value.hint}"


def test_sample_texts_differ_and_have_many_lengths():
    texts = speed.sample(4096)
    assert len(set(texts)) == 4096
    words = np.array([len(text.split()) for text in texts])
    assert (words.min(), words.max()) == (5, 65) and len(set(words.tolist())) == 61


def test_the_sample_grows_until_it_takes_long_enough_and_the_first_batches_do_not_count(monkeypatch):
    taken = []

    def timed(backbone, forward, texts, reading):
        assert reading == "found once"
        taken.append(texts)
        seconds = 9.0 if len(taken) == 1 else texts / 100
        return speed.Speed(tokens_per_second=1, prepared_per_second=1, texts=texts, tokens=1, seconds=seconds)

    monkeypatch.setattr(speed, "_MOST", 1 << 15)
    monkeypatch.setattr(speed, "_timed", timed)
    backbone = SimpleNamespace(reading=iter(["found once", "found once"]).__next__)
    assert speed.measure_speed(backbone, None, seconds=1).texts == 128
    assert taken == [8, 8, 32, 128]
    monkeypatch.setattr(speed, "_MOST", 32)
    assert speed.measure_speed(backbone, None, seconds=1).texts == 32
