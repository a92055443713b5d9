"""What is needed to prepare inputs is found once, and sent: processes that prepare them import no torch."""

import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from support import write_corpus
from tokenizers import Tokenizer

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
def test_inputs_are_the_same_with_what_was_sent(tiny, kind):
    backbone = BACKBONES[kind](tiny)
    sent = pickle.loads(pickle.dumps((backbone, backbone.reading())))
    here, there = backbone.prepare(TABLE), sent[0].prepare(TABLE, sent[1])
    assert here.arrays.keys() == there.arrays.keys() and here.tokens == there.tokens > 0
    for name, array in here.arrays.items():
        np.testing.assert_array_equal(array, there.arrays[name])
    np.testing.assert_array_equal(here.truncated, there.truncated)
    np.testing.assert_array_equal(here.unknown, there.unknown)


@pytest.mark.parametrize(
    "scorer",
    [
        lambda tiny: Classifier(tiny("bert"), axis="x", label="nice"),
        lambda tiny: RewardModel(tiny("bert-single"), axis="x", inputs="pair", prompt="hello"),
        lambda tiny: Likelihood(model=CausalModel(tiny("gpt2"))),
    ],
    ids=["text", "pair", "causal"],
)
def test_a_process_that_prepares_imports_neither_torch_nor_transformers(tiny, tmp_path, scorer):
    stage = Score(Split(Corpus(str(write_corpus(tmp_path / "corpus", shards=1)))), scorer(tiny))
    assert len(pickle.dumps(stage)) < len(pickle.dumps(stage.sent())), "only workers get the tokenizer"
    (tmp_path / "sent").write_bytes(pickle.dumps((stage.sent(), TABLE)))
    code = (
        "import pickle, sys\n"
        f"stage, table = pickle.load(open({str(tmp_path / 'sent')!r}, 'rb'))\n"
        "assert stage._prepare(table).tokens > 0\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_tokenizer_is_parsed_once_a_process(tiny, monkeypatch):
    reading = BACKBONES["text"](tiny).reading()
    parsed = [pickle.loads(pickle.dumps(reading)).tokenizer.parsed() for _ in range(2)]
    assert parsed[0] is parsed[1]
    other = SentTokenizer.of(Tokenizer.from_str(parsed[0].to_str().replace("idiot", "idyll")))
    assert other.key != reading.tokenizer.key and other.parsed() is not parsed[0]
