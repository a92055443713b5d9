"""The example of metatokens: it runs from a corpus to the measure, which is right on distributions that are known."""

import json

import learn_metatokens as example
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import train_tokenizer
from click.testing import CliRunner
from support import sentences


def test_it_runs_from_a_corpus_to_the_measure(tmp_path, ray_in_process, monkeypatch):
    # Its tokenizer knows no prose, so the prompts would not fit.
    monkeypatch.setattr(example, "PROMPTS", {name: text[:300] for name, text in example.PROMPTS.items()})
    (tmp_path / "corpus").mkdir()
    table = pa.table({"text": [sentences(i, 12) for i in range(40)]})
    pq.write_table(table, tmp_path / "corpus" / "s.parquet")
    train_tokenizer.train(tmp_path / "corpus", "text", 700).save_pretrained(tmp_path / "tokenizer")
    folders = [str(tmp_path / name) for name in ("corpus", "tokenizer", "out")]
    small = ["--documents", "12", "--steps", "2", "--student-steps", "2", "--width", "8", "--tokens", "8"]
    ran = CliRunner().invoke(example.main, [*folders, *small], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.output[ran.output.index("{") :])
    assert found["documents"] == 3 and found["nats a token"] >= 0
    assert all(low <= value <= high for value, low, high in found["left"].values())
    assert "student, true tags: 9 documents" in ran.output


def test_the_divergence_is_that_of_the_definition():
    first = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]], dtype=torch.float64)
    second = torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.4, 0.4]], dtype=torch.float64)
    assert example.divergence(first.log(), second.log()) == pytest.approx(0.25 * np.log(2))
    assert example.divergence(first.log(), first.log()) == 0


def test_the_interval_is_of_a_ratio_of_sums_over_documents():
    wholes = np.array([1.0, 3.0] * 200)
    assert example.interval(wholes / 2, wholes) == pytest.approx([0.5, 0.5, 0.5])
    draw = np.random.default_rng(1)
    value, low, high = example.interval(wholes * draw.uniform(0.2, 0.8, len(wholes)), wholes)
    assert low < value < high and low < 0.5 < high and high - low < 0.08


def test_log_probabilities_are_in_the_places_of_the_tokens():
    config = example.GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    torch.manual_seed(0)
    model = example.GPT2LMHeadModel(config).eval()
    found = example.logs(model, [1, 2, 3], [4, 5], 9)
    with torch.inference_mode():
        whole = model(input_ids=torch.tensor([[1, 2, 3, 4]])).logits[0, 2:, :9].double()
    torch.testing.assert_close(found, torch.log_softmax(whole, -1))
