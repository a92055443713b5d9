"""`annotate directions` on a run and on small models: what it writes, says, and refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from here import ray_here
from length_scorer import length_scorer
from support import write_corpus
from tiny_tokenizer import byte_tokenizer
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from annotate import Corpus, Options, Pipeline, Place, Probe, Split, Tag, TagScheme, TokenShards, score, tags_folder
from annotate.directions import load_direction, spans
from annotate.directions.spans import TaggedSpans
from annotate.errors import StorageError
from annotate.models.base import expand
from annotate.training import padded_vocabulary_size

LAYERS, WIDTH = 3, 16


def save_model(folder: Path, rows: int, tokenizer: str) -> str:
    config = GPT2Config(
        vocab_size=rows, n_positions=512, n_embd=WIDTH, n_layer=LAYERS, n_head=2, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run with two tags and token shards; a model with rows for the tags, and one without."""
    folder = tmp_path_factory.mktemp("directions")
    corpus = Corpus(str(write_corpus(folder / "corpus", shards=1, documents=60)))
    scheme = TagScheme(tags=[Tag(name="long", rule="length >= q(0.5)"), Tag(name="very-long", rule="length >= q(0.8)")])
    placed = Place(score(Split(corpus), scorers=[length_scorer("length")]), scheme)
    tokenizer = byte_tokenizer(folder / "tokenizer")
    with ray_here():
        Pipeline(tokens=TokenShards(placed, tokenizer=tokenizer, window=64, loss="train")).run(
            str(folder / "out"), Options(workers=1)
        )
    shards = tags_folder(folder / "out")
    save_model(folder / "tagged", padded_vocabulary_size(shards), f"{shards}/tokenizer")
    save_model(folder / "plain", 257, str(tokenizer))
    return folder


def test_directions_are_found_written_and_used(annotate, place, monkeypatch):
    monkeypatch.chdir(place)
    code, out, err = annotate(
        "directions", "out", "tagged", "--tag", "long", "--tag", "very-long", "--layer", "1", "--layer", "3"
    )
    assert code == 0, err
    for said in (
        "60 documents: 36 to find, 12 to choose, 12 to measure",
        "loading tagged",
        "<long> against",
    ):
        assert said in out
    assert "<long> and <very-long> added together" in out
    report = json.loads((place / "directions" / "report.json").read_text())
    assert [tag["tag"] for tag in report["tags"]] == ["long", "very-long"] and report["dropped"] == 0
    assert [layer["layer"] for layer in report["tags"][0]["layers"]] == [1, 3]
    assert report["tags"][0]["best"] in (1, 3) and len(report["recombined"]) == 1
    assert sorted(path.name for path in (place / "directions").iterdir()) == sorted(
        [
            *(f"{tag}{kind}.safetensors" for tag in ("long", "very-long") for kind in ("", ".texts", ".probe")),
            *(f"{tag}.steering-{layer}.svg" for tag in ("long", "very-long") for layer in (1, 3)),
            "report.json",
        ]
    )
    direction = load_direction("directions/very-long.safetensors")
    assert direction.vectors.shape == (LAYERS, WIDTH) and direction.card.tags == ("very-long",)
    # The probe gives the projection of a span that is read alone.
    best = report["tags"][0]["best"]
    probe = Probe("directions/long.probe.safetensors").resolved()
    assert probe.axes == ("long",)
    prepared = probe.backbone.prepare(pa.table({"text": ["One span.", "Another one, which is longer."]}))
    scores, _ = expand(prepared, probe.backbone.load([probe], "cpu")(prepared, [0])[0])
    model = GPT2LMHeadModel.from_pretrained("tagged")
    vector = load_direction("directions/long.safetensors").vectors[best - 1]
    tokenizer = AutoTokenizer.from_pretrained("tagged")
    states = []
    for text in ("One span.", "Another one, which is longer."):
        found = []
        model.transformer.h[best - 1].register_forward_hook(lambda _, __, output, found=found: found.append(output))
        model(**tokenizer(text, return_tensors="pt"))
        output = found[0][0] if isinstance(found[0], tuple) else found[0]
        states.append(output[0].mean(0).detach().numpy())
    assert np.allclose(scores[:, 0], np.array(states) @ vector / np.linalg.norm(vector), atol=1e-4)


def test_a_model_that_has_not_seen_the_tags_is_said_to(annotate, place, monkeypatch):
    monkeypatch.chdir(place)
    code, _, err = annotate("directions", "out", "plain", "--tag", "long")
    assert code == 2 and "--untagged" in err
    code, out, err = annotate("directions", "out", "plain", "--tag", "long", "--untagged", "--out", "plain-directions")
    assert code == 0, err
    assert "ways to steer" not in out
    assert {path.name for path in (place / "plain-directions").iterdir()} == {
        "long.texts.safetensors",
        "long.probe.safetensors",
        "report.json",
    }
    layer = json.loads((place / "plain-directions" / "report.json").read_text())["tags"][0]["layers"][0]
    assert layer["equivalence"] is None and layer["auroc_texts"]["value"] is not None


def test_documents_of_an_output_are_those_in_its_shards(place, monkeypatch):
    every = TaggedSpans.of_run(place / "out", documents=100)
    assert TaggedSpans.of_run(place / "out", documents=100, output="tokens") == every
    tables = list(spans.shard_tables(place / "out"))
    some = sorted({name for table in tables for names in table["document_ids"].to_pylist() for name in names})[::3]
    held = tables[0].schema.field("document_ids").type
    monkeypatch.setattr(spans, "shard_tables", lambda *_: [pa.table({"document_ids": pa.array([some], held)})])
    found = TaggedSpans.of_run(place / "out", documents=100, output="tokens")
    assert len(found.spans) == len(some) < len(every.spans)
    with pytest.raises(StorageError, match="nothing"):
        TaggedSpans.of_run(place / "out", documents=100, output="nothing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["out", "tagged", "--tag", "short"], "there is no tag 'short'"),
        (["out", "tagged", "--tag", "long", "--layer", "9"], "there is no layer 9; the model has 3"),
        (["out", "plain", "--tag", "short", "--untagged"], "has the tag 'short'; tags there: long, very-long"),
        (["nowhere", "plain", "--tag", "long", "--untagged"], "neither a work directory"),
        (["out", "missing", "--tag", "long"], "missing"),
    ],
)
def test_what_does_not_fit_is_named(annotate, place, monkeypatch, arguments, said):
    monkeypatch.chdir(place)
    code, _, err = annotate("directions", *arguments)
    assert code in (2, 4) and said in err and "Traceback" not in err
