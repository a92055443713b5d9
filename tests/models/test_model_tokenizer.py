"""A scorer's tokenizer is its `tokenizer.json`, or the model is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tiny_models import TEXTS, save_tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from annotate import Corpus, PythonScorer, Split
from annotate.errors import ConfigError
from annotate.models.encode import encode, unknown_id
from annotate.probes.encoder import Encoder
from annotate.stages.score import Score
from annotate.storage.manifests import Manifest


def saved(folder: Path, of_class: str) -> Path:
    """A model whose tokenizer cuts numbers digit by digit, which no class of Transformers does by itself."""
    save_tiny_model("bert-encoder", folder)
    made = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>").save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tokenizer_class": of_class}))
    return folder


def test_a_tokenizer_whose_class_rewrites_it_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "GPT2Tokenizer")
    made = json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary, merges = made["model"]["vocab"], made["model"]["merges"]
    vocabulary["20"] = len(vocabulary)
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(made | {"model": made["model"] | {"merges": [*merges, ["2", "0"]]}})
    )
    file = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert AutoTokenizer.from_pretrained(tmp_path).tokenize("x 20") != file.encode("x 20").tokens
    with pytest.raises(
        ConfigError, match=r"GPT2Tokenizer, its class, gives other tokens .*In 2024.* by the file \["
    ) as e:
        Encoder(str(tmp_path)).tokenizer()
    assert str(tmp_path) in str(e.value)
    assert '"tokenizer_class": "PreTrainedTokenizerFast"' in str(e.value.hint)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(config.read_text().replace("GPT2Tokenizer", "PreTrainedTokenizerFast"))
    assert Encoder(str(tmp_path)).tokenizer().tokenize("x 20") == file.encode("x 20").tokens


@pytest.mark.parametrize("file", ["spm.model", "spiece.model", "vocab.json", "cl100k_base.tiktoken"])
def test_a_tokenizer_in_another_form_is_named_with_what_to_do(tmp_path: Path, file: str) -> None:
    save_tiny_model("bert-encoder", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / file).write_text("{}")
    with pytest.raises(
        ConfigError, match=rf"there is no tokenizer.json in .*, only a slow tokenizer \({file}\)"
    ) as caught:
        Encoder(str(tmp_path)).tokenizer()
    assert "pip install sentencepiece" in str(caught.value.hint)


def test_spans_that_the_tokenizer_does_not_know_are_found(tmp_path: Path) -> None:
    """By half of their tokens or more; those round a text do not count, and blanks alone are nothing to know."""
    save_tiny_model("bert-encoder", tmp_path)
    texts = ["the cat sat", "the strange cat", "quite strange cat", "all of it strange", "", "  ", "the odd"]
    prepared = Encoder(str(tmp_path)).prepare(pa.table({"text": [*texts, "the cat sat", "quite strange cat"]}))
    assert prepared.unknown is not None
    assert prepared.unknown.tolist() == [False, False, True, True, False, False, True, False, True]


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<s>", "<?>"], unk_token="<?>", show_progress=False
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def dropping() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=60, show_progress=False))
    return made


@pytest.mark.parametrize(("made", "number"), [(unigram, 1), (dropping, None)])
def test_what_stands_for_the_unknown_is_found_whatever_the_model(
    made: Callable[[], Tokenizer], number: int | None
) -> None:
    tokenizer = made()
    assert unknown_id(tokenizer) == number
    encoded = encode(tokenizer, ["the cat", "\u4e16\u754c", "\u4e16"], 20)
    assert encoded.unknown.tolist() == [False, True, True]


def test_scores_of_what_is_unknown_are_said_to_mean_nothing() -> None:
    stage = Score(Split(Corpus("corpus")), PythonScorer(function=len, axes=("length",), version=1))
    counts = {"spans": 200, "mostly_unknown_spans": 30}
    said = stage.remarks(Manifest("", "", "", {}, {}, (), 1, 1, 1, counts))
    assert said == [
        "30 of 200 spans (15.0%) are by half or more of characters that the model's tokenizer does not know: "
        "their scores mean nothing"
    ]
