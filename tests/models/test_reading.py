"""What is needed to prepare inputs is found once, and sent: processes that prepare them import no torch."""

import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from support import write_corpus
from tiny_models import make_tokenizer
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer

from annotate.errors import ConfigError
from annotate.models.reading import SentTokenizer
from annotate.probes.encoder import Encoder
from annotate.scorers import CausalModel, Classifier, Likelihood, RewardModel
from annotate.stages.corpus import Corpus
from annotate.stages.score import Score
from annotate.stages.split import Split

TABLE = pa.table({"text": ["a good dog", "you idiot !", "", "a good dog", "cat " * 90], "asked": [None, *"abcd"]})
BACKBONES = {
    "text": lambda tiny: Classifier(tiny("bert"), axis="x", label="nice").backbone,
    "pair": lambda tiny: RewardModel(tiny("bert-single"), axis="x", inputs="pair", prompt_column="asked").backbone,
    "chat": lambda tiny: RewardModel(tiny("reward"), axis="x", prompt="hello").backbone,
    "causal": lambda tiny: CausalModel(tiny("gpt2"), context_column="asked"),
    "encoder": lambda tiny: Encoder(tiny("roberta-encoder")),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_inputs_are_the_same_with_what_was_sent(tiny, kind, monkeypatch):
    backbone = BACKBONES[kind](tiny)
    check_same_inputs(backbone, TABLE, monkeypatch)


def check_same_inputs(backbone, table, monkeypatch):
    """What a worker prepares is what the tokenizer of Transformers gives."""
    sent = pickle.loads(pickle.dumps((backbone, backbone.reading())))
    there = sent[0].prepare(table, sent[1])
    with monkeypatch.context() as patched:
        patched.setattr(SentTokenizer, "parsed", lambda self: backbone.tokenizer().backend_tokenizer)
        here = backbone.prepare(table)
    assert here.arrays.keys() == there.arrays.keys() and here.tokens == there.tokens > 0
    for name, array in here.arrays.items():
        np.testing.assert_array_equal(array, there.arrays[name])
    np.testing.assert_array_equal(here.truncated, there.truncated)
    np.testing.assert_array_equal(here.unknown, there.unknown)


def test_special_tokens_in_a_text_are_cut_as_the_model_says(copy_model, edit_json, monkeypatch):
    table = pa.table({"text": ["a good </s> dog"]})
    folder = copy_model("bert")
    for as_text in (False, True):
        edit_json(folder / "tokenizer_config.json", split_special_tokens=as_text)
        backbone = Classifier(str(folder), axis="x", label="nice").backbone
        assert backbone.reading().tokenizer.as_text is as_text
        check_same_inputs(backbone, table, monkeypatch)


def test_a_tokenizer_that_is_another_one_when_it_is_written_is_refused(monkeypatch):
    tokenizer = make_tokenizer().backend_tokenizer
    other = make_tokenizer(bos=False).backend_tokenizer
    monkeypatch.setattr(SentTokenizer, "parsed", lambda self: other)
    with pytest.raises(ConfigError, match=r"(?s)x is another one when it is written as a tokenizer.json: .*'<s>'"):
        SentTokenizer.of(tokenizer, "x")
    tokenizer.pre_tokenizer = PreTokenizer.custom(object())
    with pytest.raises(ConfigError, match="x can't be sent to workers"):
        SentTokenizer.of(tokenizer, "x")


@pytest.mark.parametrize(
    "scorer",
    [
        lambda tiny: Classifier(tiny("bert"), axis="x", label="nice"),
        lambda tiny: RewardModel(tiny("bert-single"), axis="x", inputs="pair", prompt="hello"),
        lambda tiny: Likelihood(model=CausalModel(tiny("gpt2"))),
        lambda tiny: RewardModel(tiny("reward"), axis="x", prompt="hello"),
    ],
    ids=["text", "pair", "causal", "chat"],
)
def test_a_process_that_prepares_imports_no_torch_and_transformers_only_for_chats(tiny, tmp_path, scorer, request):
    stage = Score(Split(Corpus(str(write_corpus(tmp_path / "corpus", shards=1)))), scorer(tiny))
    assert len(pickle.dumps(stage)) < len(pickle.dumps(stage.sent())), "only workers get the tokenizer"
    (tmp_path / "sent").write_bytes(pickle.dumps((stage.sent(), TABLE)))
    unwanted = "torch" if request.node.callspec.id == "chat" else "transformers"  # which imports torch
    code = (
        "import pickle, sys\n"
        f"stage, table = pickle.load(open({str(tmp_path / 'sent')!r}, 'rb'))\n"
        "assert stage._prepare(table).tokens > 0\n"
        f"assert {unwanted!r} not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_tokenizer_is_parsed_once_a_process(tiny, monkeypatch):
    reading = BACKBONES["text"](tiny).reading()
    parsed = [pickle.loads(pickle.dumps(reading)).tokenizer.parsed() for _ in range(2)]
    assert parsed[0] is parsed[1]
    other = SentTokenizer.of(Tokenizer.from_str(parsed[0].to_str().replace("idiot", "idyll")), "x")
    assert other.key != reading.tokenizer.key and other.parsed() is not parsed[0]
