"""The examples of metatokens run from a corpus to the measure, which is right on distributions that are known."""

import json

import learn_metatokens as example
import numpy as np
import pytest
import torch
import train_teacher
import train_tokenizer
from click.testing import CliRunner
from support import write_corpus
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from annotate import Options
from pipelines import metatokens


def invoke(command, *arguments):
    ran = CliRunner().invoke(command, [str(each) for each in arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_they_run_from_a_corpus_to_the_measure(tmp_path, ray_in_process, monkeypatch):
    # Its tokenizer knows no prose, so the prompts would not fit.
    monkeypatch.setattr(metatokens, "PROMPTS", {name: text[:60] for name, text in metatokens.PROMPTS.items()})
    corpus, tokenizer, teacher, run = (tmp_path / name for name in ("corpus", "tokenizer", "teacher", "run"))
    write_corpus(corpus, shards=2, documents=36)
    train_tokenizer.train(corpus, "text", 700).save_pretrained(tokenizer)
    told = invoke(train_teacher.main, corpus, tokenizer, teacher, "--steps", 20, "--width", 8, "--layers", 1)
    assert "step 20 of 20: loss" in told
    built = metatokens.pipeline(
        openings=str(corpus / "s0.parquet"),
        held_out_openings=str(corpus / "s1.parquet"),
        teacher=str(teacher),
        tokens=8,
        top_k=4,
    )
    pair = "+".join(metatokens.HELD_OUT)
    train, held_out = (shards.corpus.conditions for shards in (built.outputs["train"], built.outputs["held_out"]))
    assert pair not in {condition.name for condition in train} and pair in {condition.name for condition in held_out}
    built.run(run, Options(workers=1))
    told = invoke(example.main, run, teacher, tmp_path / "out", "--steps", 2)
    assert "36 documents to train on" in told
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    assert pair in found and 20 < sum(of["documents"] for of in found.values()) <= 36
    for name, of in found.items():
        ways = [""] if "+" not in name else ["", *(f", <{each}> alone" for each in name.split("+"))]
        assert set(of["left"]) == {arm + way for arm in ("true", "shuffled") for way in ways}
        assert all(low <= value <= high for value, low, high in of["left"].values())


def test_windows_have_documents_that_stand_near_each_other(tmp_path):
    write_corpus(tmp_path / "corpus", shards=1, documents=60)
    train_tokenizer.train(tmp_path / "corpus", "text", 700).save_pretrained(tmp_path / "tokenizer")
    table = example.pl.read_parquet(tmp_path / "corpus" / "*.parquet")
    windows = train_teacher.Windows(AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), table, seed=0)
    assert windows.batch().shape == (train_teacher.BATCH, train_teacher.WINDOW)
    assert (windows.batch()[:, 0] == windows.end).all()
    again = train_teacher.Windows(AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), table, seed=0)
    windows.draw = np.random.default_rng(0)
    assert torch.equal(windows.batch(), again.batch())


def test_the_divergence_is_that_of_the_definition():
    first = torch.tensor([[0.3, 0.3, 0.4], [0.5, 0.25, 0.25], [0.2, 0.4, 0.4]]).log()
    second = torch.tensor([[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.2, 0.4, 0.4]]).log()
    # From the second token on: the first does not count.
    assert example.divergences([first], [second], [1]) == pytest.approx([0.25 * np.log(2)])
    assert example.divergences([first, first], [first, first], [0, 2]) == pytest.approx([0, 0])


def test_the_interval_is_of_a_ratio_of_sums_over_documents():
    wholes = np.array([1.0, 3.0] * 200)
    assert example.ratio(wholes / 2, wholes) == pytest.approx([0.5, 0.5, 0.5])
    draw = np.random.default_rng(1)
    value, low, high = example.ratio(wholes * draw.uniform(0.2, 0.8, len(wholes)), wholes)
    assert low < value < high and low < 0.5 < high and high - low < 0.08


def test_log_probabilities_are_in_the_places_of_the_tokens():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=16, n_embd=8, n_layer=1, n_head=1)).eval()
    found = example.logs(model, [1, 2, 3], [[4, 5], [6]], 9)
    for own, tokens in zip(found, ([4, 5], [6]), strict=True):
        with torch.inference_mode():
            whole = model(input_ids=torch.tensor([[1, 2, 3, *tokens[:-1]]])).logits[0, 2:, :9]
        torch.testing.assert_close(own, torch.log_softmax(whole, -1))


def test_rows_put_what_is_known_of_a_token_in_its_place():
    documents = example.Documents(
        conditions=["a", "no-prompt"],
        tags=[[20, 21], []],
        ids=[torch.tensor([5, 6, 7]), torch.tensor([8])],
        teacher=[torch.tensor([[-1, -1], [6, 1], [7, 2]]), torch.tensor([[8, 3]])],
        logs=[torch.tensor([[float("nan")] * 2, [-0.1, -3], [-0.2, -2]]), torch.tensor([[-0.3, -1.5]])],
    )
    batch = example.rows(documents, example.Tags(ids={}, prompts={}, end=0), [0, 1])
    assert batch["input_ids"].tolist() == [[0, 20, 21, 5, 6, 7], [0, 8, 0, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 5, 6, 7], [-100, 8, -100, -100, -100, -100]]
    assert batch["teacher_top_tokens"][..., 0].tolist() == [[-1, -1, -1, -1, 6, 7], [-1, 8, -1, -1, -1, -1]]
    assert batch["attention_mask"].sum(1).tolist() == [6, 2]
    shuffled = documents.shuffled(1)
    assert sorted(map(len, shuffled.tags)) == [0, 2] and shuffled.ids is documents.ids


def test_what_was_found_is_told_in_words():
    left = {"true": [0.5, 0.4, 0.6], "shuffled": [1.0, 0.9, 1.25]}
    found = {"documents": 1234, "nats a token": [0.2, 0.1, 0.3], "left": left, "axis, nats a document": {"true": None}}
    assert example.told("a", found) == [
        "a: 1,234 documents; its effect is 0.200 [0.100, 0.300] nats a token",
        "  left, true: 0.500 [0.400, 0.600]",
        "  left, shuffled: 1.000 [0.900, 1.250]",
        "  own axis tag less the other, nats a document, true: not known",
    ]
    (_, little, _) = example.told("a", {**found, "nats a token": [0.001, 0.0, 0.002]})
    assert "too little to say" in little


def test_openings_that_another_document_has_are_not_measured():
    def documents(*rows):
        teacher = [torch.tensor([[-1]] * (len(row) - known) + [[1]] * known) for row, known in rows]
        return example.Documents(
            conditions=["a"] * len(rows),
            tags=[[]] * len(rows),
            ids=[torch.tensor(row) for row, _ in rows],
            teacher=teacher,
            logs=teacher,
        )

    trained = documents(([1, 2, 9], 1), ([3, 9], 1))
    # The opening of one is in training, the next has no completion, and the last has the opening of another.
    held_out = documents(([1, 2, 8], 1), ([5, 6], 0), ([3, 4, 8], 1), ([3, 9, 8], 1), ([3, 4, 7, 7], 2))
    assert example.unseen(held_out, trained) == [2, 3]
    assert held_out.openings() == [(1, 2), (5, 6), (3, 4), (3, 9), (3, 4)]
