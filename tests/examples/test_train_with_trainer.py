"""The worked example: it trains for a few steps, goes on without skipping or repeating a window, and samples."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import measure_steering
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import train_tokenizer
import train_with_trainer as example
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support import sentences
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from annotate import Splitter, tags_folder
from annotate.exports.huggingface import HuggingFace
from annotate.exports.windows import Vocabulary
from annotate.exports.write import write_export
from annotate.storage import layout
from annotate.storage.latest import Latest, Role, write_latest
from annotate.storage.store import Directory
from annotate.tokens import TextTokenizer, add_tags, insert, loss_mask, pack, tags_card, token_table, tokenizer_hash
from annotate.training import ShardDataset

WINDOW, BATCH = 32, 2
TAGS = ("nice", "firm")
SMALL = ["--width", "8", "--layers", "1", "--batch-size", str(BATCH), "--tokens", "4", "--prompt", "one"]


def tagged_tokens(texts: list[str], encoder: TextTokenizer, vocabulary: object, end_id: int) -> pa.Table:
    """A part of token shards: each document is one span, with one of the tags, or none."""
    array = pa.array(texts, pa.large_string())
    sizes = pa.array([len(text.encode()) for text in texts])
    rows = pa.array(range(len(texts)))
    zeros = pa.array(np.zeros(len(texts), np.int64))
    spans = pa.table({"row": rows, "byte_start": zeros, "byte_end": sizes})
    tagged = [row for row in range(len(texts)) if row % 3 < 2]
    placements = pa.table(
        {
            "row": pa.array(tagged, pa.int64()),
            "byte_offset": pa.array(np.zeros(len(tagged), np.int64)),
            "tag": pa.array([TAGS[row % 3] for row in tagged]).dictionary_encode(),
            "kind": pa.array(["open"] * len(tagged)).dictionary_encode(),
        }
    )
    inserted = insert(encoder.encode(array), array, placements, vocabulary, spans=spans, end_id=end_id)
    windows = pack(inserted, WINDOW, pad_id=end_id)
    return token_table(windows, loss_mask(windows, "mask"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with token shards leaves, as far as the example reads it, and its export in three parts."""
    folder = tmp_path_factory.mktemp("example")
    texts = [sentences(i, 1 + i % 3) for i in range(120)]
    pq.write_table(pa.table({"text": texts}), folder / "corpus.parquet")
    result = CliRunner().invoke(
        train_tokenizer.main, [str(folder / "corpus.parquet"), str(folder / "tokenizer"), "--size", "400"]
    )
    assert result.exit_code == 0, result.output
    plain = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    tagged, vocabulary = add_tags(plain, TAGS)
    end = plain.eos_token_id
    about = {name: {"layout": "prefix", "every_span": True} for name in TAGS}
    card = tags_card(vocabulary, tagged, untagged=plain, about=about)
    shards = {"window": WINDOW, "tokenizer": tokenizer_hash(plain), "begin_id": None, "end_id": end, "pad_id": end}
    shards |= {"loss": "mask", "segments": False, "splitter": asdict(Splitter(min_chars=0))}
    card |= {"aliases": {}, "shards": shards}
    latest = Latest(
        label="token-shards",
        stage="token-shards",
        schema="token-shards",
        role=Role.TOKEN_SHARDS,
        dataset="shards",
        recipe="r",
        fingerprint="f" * 32,
        settings={},
        inputs={},
    )
    files = folder / "run" / "shards" / layout.companions(latest.fingerprint)
    tagged.save_pretrained(files / "tokenizer")
    (files / "tags.json").write_text(json.dumps(card))
    write_latest(Directory.at(folder / "run"), [latest])
    encoder = TextTokenizer(tagged)
    known = Vocabulary(tokenizer=shards["tokenizer"], size=card["vocabulary"]["padded_size"], eos=end, pad=end)
    parts = [tagged_tokens(texts[i : i + 40], encoder, vocabulary, end) for i in (0, 40, 80)]
    write_export(parts, Directory.at(folder / "export"), HuggingFace(row_group=4), known)
    return folder


def run(made: Path, out: Path, *options: str, code: int = 0) -> str:
    command = [str(made / "run"), str(made / "export"), "--out", str(out), *SMALL, *options]
    result = CliRunner().invoke(example.main, command)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.slow
def test_it_trains_goes_on_and_samples_under_each_tag(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    step = example.ShardTrainer.training_step

    def noted(self, model, inputs, *rest):
        seen.extend(inputs["input_ids"])
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(example.ShardTrainer, "training_step", noted)
    said = run(made, tmp_path, "--steps", "3")
    assert "step     3 of 3" in said and "without tags loss" in said
    headings = ["no tag", "<nice>", "<nice>, guidance 3", "<firm>", "<firm>, guidance 3"]
    assert [line for line in said.splitlines() if line in headings] == headings
    said = run(made, tmp_path, "--steps", "5")
    assert f"Going on from {tmp_path / 'checkpoint-3'}" in said and "step     5 of 5" in said
    shards = ShardDataset(made / "export", batch_size=1, shuffle=True, parts=[0, 1])
    expected = [window["input_ids"] for window, _ in zip(shards, range(5 * BATCH), strict=False)]
    assert torch.equal(torch.stack(seen), torch.stack(expected))
    assert json.loads((tmp_path / "checkpoint-5" / "data.json").read_text())["consumed"] == 5 * BATCH
    (tmp_path / "checkpoint-5" / "data.json").unlink()  # as if it was cut short
    assert example.Start.last(tmp_path).step == 4
    run(made, tmp_path, "--steps", "4")  # which only samples
    assert len(seen) == 5 * BATCH
    sizes = ["--texts", "3", "--tokens", "4", "--sentences", "1", "--prompt", "Be. An"]
    result = CliRunner().invoke(
        measure_steering.main, [str(made / "run"), str(tmp_path / "checkpoint-4"), *sizes], catch_exceptions=False
    )
    lines = [line.rsplit("  ", 1) for line in result.output.splitlines()[1:]]
    ways = ["no tag", '<nice>, later="again"', '<nice>, later="none"']  # tags were no targets
    assert [line[0].split("  ")[0] for line in lines] == [way for way in ways for _ in ("score", "gain")]
    assert all(re.fullmatch(r"[+-]\d\.\d{3} ± \d\.\d{3}", figure.strip()) for _, figure in lines)


def test_accelerate_does_not_divide_the_samples_of_a_rank(made: Path, tmp_path: Path) -> None:
    arguments = example.settings(tmp_path, 1, BATCH, evaluate=False, seed=0)
    files = tags_folder(made / "run")
    shards, _ = example.data(files, str(made / "export"), arguments, example.Start(), held_out=1)
    model = example.new_model(PreTrainedTokenizerFast.from_pretrained(f"{files}/tokenizer"), files, 8, 1)
    loader = example.ShardTrainer(model=model, args=arguments, train_dataset=shards).get_train_dataloader()
    assert type(loader) is DataLoader and loader.dataset is shards


def test_what_does_not_fit_is_said(made: Path, tmp_path: Path) -> None:
    assert "3 parts are to be held out, but" in run(made, tmp_path, "--held-out", "3", code=2)
    (tmp_path / "export").mkdir()
    manifest = json.loads((made / "export" / "manifest.json").read_text())
    manifest["vocabulary"]["size"] += 1
    (tmp_path / "export" / "manifest.json").write_text(json.dumps(manifest))
    result = CliRunner().invoke(example.main, [str(made / "run"), str(tmp_path / "export"), "--out", str(tmp_path)])
    assert result.exit_code == 2 and "has other ids than" in result.output


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(0, 5))
def test_without_tags_the_same_tokens_are_to_be_predicted(segments: list[list[int]], padding: int) -> None:
    """Ids below 3 are tags; each even id does not count."""
    ids = np.array([*(i for segment in segments for i in segment), *[5] * padding])
    lengths = [len(segment) for segment in segments] + [padding]
    counts = (ids % 2 == 1) & (np.arange(len(ids)) < len(ids) - padding)
    window = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(np.where(counts, ids, -100)),
        "position_ids": torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
    }
    tagged, untagged = example.with_and_without_tags(window, [0, 1, 2])
    texts = [[i for i in segment if i > 2] for segment in segments]
    length = sum(map(len, texts))
    assert untagged["input_ids"][:length].tolist() == [i for text in texts for i in text]
    assert untagged["position_ids"][:length].tolist() == [k for text in texts for k in range(len(text))]
    assert all(len(value) == len(ids) for value in untagged.values())
    expected = [i for text in texts for i in text[1:] if i % 2]
    assert [i for i in tagged["labels"].tolist() if i != -100] == expected
    assert [i for i in untagged["labels"].tolist() if i != -100] == expected
    assert torch.equal(tagged["input_ids"], window["input_ids"])
    for one in (tagged, untagged):
        counted = one["labels"] != -100
        assert torch.equal(one["labels"][counted], one["input_ids"][counted])
