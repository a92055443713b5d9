"""The teacher's most probable tokens in token shards: beside the right tokens, and nothing else has moved."""

from __future__ import annotations

import itertools
import random

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from here import ray_here
from length_scorer import length_scorer
from support import shard_bytes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import annotate
from annotate import (
    Calibrate,
    CausalModel,
    ConfigError,
    Corpus,
    Distill,
    Mix,
    Nest,
    Options,
    Pipeline,
    Place,
    RepeatedSpans,
    Result,
    Sampling,
    Schedule,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    TokenShards,
    TransformersGenerator,
    export,
    score,
    shards,
)
from annotate.training import ShardDataset, teacher_kl

K = 3
N = 24
COLUMNS = ["teacher_top_tokens", "teacher_top_logprobs"]
WORDS = "the sea is so wide and my boat is small tonight there were whales\n".split(" ")  # noqa: SIM905 - it ends a line

pytestmark = pytest.mark.usefixtures("ray_cluster")


def lines(seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choices(WORDS, k=draw.randint(2, 9)))


def save_teacher(folder, size: int) -> str:
    """A model with random weights, and a byte-level BPE of at most `size` tokens, with the letters of these words."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|end|>"], show_progress=False)
    made.train_from_iterator([lines(i) for i in range(200)], trainer)
    words = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|end|>", eos_token="<|end|>")
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words),
        n_positions=160,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.5,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """`teacher(size)`: the folder of such a model."""
    folders = {}

    def saved(size: int) -> str:
        if size not in folders:
            folders[size] = save_teacher(tmp_path_factory.mktemp(f"teacher-{size}"), size)
        return folders[size]

    return saved


@pytest.fixture(scope="module")
def openings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openings")
    table = {"id": [f"doc-{i}" for i in range(N)], "text": [lines(1000 + i) for i in range(N)]}
    pq.write_table(pa.table(table), folder / "s0.parquet", row_group_size=8)
    return folder


def distilled(openings, model: str, *also: list[str], k: int = K) -> Distill:
    generator = TransformersGenerator(CausalModel(model), sampling=Sampling(max_tokens=14), top_k=k)
    prompts = {"kind": "the sea is wide", "small": "my boat is small"}
    conditions = [["kind"], ["small"], *also]
    return Distill(Corpus(openings, unit_bytes=300), prompts=prompts, conditions=conditions, generator=generator)


def distilled_rows(workdir) -> pl.DataFrame:
    return pl.from_arrow(pa.concat_tables(annotate.tables(workdir, "distilled")))


def nested(made: Distill, *, schedule: Schedule | None = None, repeated: RepeatedSpans | None = None) -> Nest:
    whole = Calibrate(score(Split(made, Splitter(by="document")), [length_scorer("size")]))
    inner = Calibrate(score(Split(made, Splitter(by="line")), [length_scorer()]), repeated=repeated)
    tags = TagScheme(tags=[Tag(name="long", rule="length > q(0.5)")])
    return Nest([Thresholds(whole, TagScheme(tags=made.tags())), Thresholds(inner, tags)], schedule=schedule)


def written(stage: TokenShards, folder) -> tuple[pl.DataFrame, Result]:
    with ray_here():
        result = Pipeline(stage).run(str(folder), Options(workers=1))
    return pl.read_parquet(shards(folder)), result


def documents_of(
    frame: pl.DataFrame, *, in_order: bool = False
) -> dict[str, list[list[tuple[int, list[int], list[float]]]]]:
    """Each document's copies: its tokens in the order of its pieces, each with what it has of the teacher.

    Where copies follow each other they are cut in different places, and each piece is of the last copy. Else all are
    cut alike, and it does not matter of which one a piece is.
    """
    segments = []
    for row in frame.iter_rows(named=True):
        ids = row["input_ids"]
        top, logs = (np.array(row[name]).reshape(len(ids), K) for name in COLUMNS)
        at = 0
        of_segments = (row[name] for name in ("segment_lengths", "document_ids", "document_pieces"))
        for length, name, piece in zip(*of_segments, strict=True):
            own = [(ids[i], top[i].tolist(), logs[i].tolist()) for i in range(at, at + length)]
            segments.append((piece, name, own))
            at += length
        assert (top[at:] == -1).all() and np.isnan(logs[at:]).all()
    found: dict[str, list] = {}
    if not in_order:
        segments.sort(key=lambda segment: segment[0])
    for piece, name, own in segments:
        copies = found.setdefault(name, [])
        if piece == 0:
            copies.append([])
        next(pieces for pieces in copies[::-1] if len(pieces) == piece).append(own)
    return {name: [[*itertools.chain(*pieces)] for pieces in copies] for name, copies in found.items()}


def check(frame: pl.DataFrame, made: pl.DataFrame, model: str, *, in_order: bool = False) -> tuple[int, int, int]:
    """Check each token of the shards against the documents.

    Returns how many have the teacher's probabilities, how many of those of completions have not, and how many of the
    former are ends of documents.

    Tokens spell their text, so that the running sum of their lengths is where they begin; so do the teacher's.
    """
    words = PreTrainedTokenizerFast.from_pretrained(model)
    size = {i: len(word) for word, i in words.get_vocab().items() if i}  # the alphabet has a letter for each byte
    placed = lacking = ends = 0
    by_id = {row["id"]: row for row in made.iter_rows(named=True)}
    for name, copies in documents_of(frame, in_order=in_order).items():
        row = by_id[name]
        expected, at = {}, row["opening_end"]
        for i, token in enumerate(row["teacher_tokens"]):
            own = slice(i * K, (i + 1) * K)
            expected[at, token == 0] = (row["teacher_top_tokens"][own], row["teacher_top_logprobs"][own])
            expected.setdefault((at, False), expected[at, token == 0])
            at += size.get(token, 0)
        assert at == len(row["text"])
        for copy in copies:
            at = 0
            for token, top, logs in copy:
                if token not in size and token != 0:  # a tag
                    assert top == [-1] * K and np.isnan(logs).all()
                    continue
                right = expected.get((at, token == 0))
                assert top == (right[0] if right else [-1] * K)
                assert right is None or logs == right[1]
                placed += right is not None
                lacking += right is None and token != 0 and at >= row["opening_end"]
                ends += right is not None and token == 0
                at += size.get(token, 0)
            assert at == len(row["text"])
    return placed, lacking, ends


WAYS = {
    "best-fit": {"window": 20},
    "concatenate": {"window": 16, "packing": "concatenate", "segments": True, "begin": False},
    "no end": {"window": 64, "end": False, "span_ids": True, "scores": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ordered", [False, True])
def test_tokens_have_what_the_teacher_thought_in_their_place(tmp_path, openings, teacher, way, *, ordered):
    model = teacher(120)
    made = distilled(openings, model, *([] if ordered else [[]]))
    mix = Mix(column="metatoken", weights={"kind": 0.8, "small": 0.2}, exhaustion="all_exhausted")
    placements = nested(made, schedule=Schedule(seed=1, mix=mix) if ordered else None)
    settings = {"tokenizer": model, "loss": "mask", "part_bytes": 1_000_000, **WAYS[way]}
    plain, _ = written(TokenShards(placements, **settings), tmp_path / "out")
    frame, result = written(TokenShards(placements, teacher=True, **settings), tmp_path / "out")
    assert frame.drop(COLUMNS).equals(plain, null_equal=True)  # nothing else has moved
    placed, lacking, ends = check(frame, distilled_rows(tmp_path / "out"), model, in_order=way == "concatenate")
    assert placed > lacking > 0  # a model that draws at random often draws other tokens than the tokenizer cuts
    said = "\n".join(result.remarks)
    assert f"{lacking:,} of {placed - ends + lacking:,} tokens of completions" in said
    assert "ends of completions have no teacher probabilities" not in said
    if ordered:
        assert result.ledger.beside["copies"] > 0


@pytest.mark.parametrize("schedule", [Schedule(), None])
def test_parts_are_cut_by_what_they_hold(tmp_path, openings, teacher, schedule):
    model = teacher(120)
    settings = {"tokenizer": model, "loss": "mask", "window": 32, "part_bytes": 1500}
    placements = nested(distilled(openings, model), schedule=schedule)
    plain, _ = written(TokenShards(placements, **settings), tmp_path / "out")
    fewer = len(shards(tmp_path / "out"))
    frame, _ = written(TokenShards(placements, teacher=True, **settings), tmp_path / "out")
    assert len(shards(tmp_path / "out")) > fewer
    assert check(frame, distilled_rows(tmp_path / "out"), model)[0]
    assert {*frame["document_ids"].explode()} == {*plain["document_ids"].explode()}


def test_a_document_of_which_spans_are_left_out_has_none(tmp_path, teacher):
    notice = "the sea is wide and the sea is wide and the sea is wide\n"
    texts = [(notice if i % 2 else "") + lines(i) for i in range(12)]
    folder = tmp_path / "openings"
    folder.mkdir()
    pq.write_table(pa.table({"id": [f"doc-{i}" for i in range(12)], "text": texts}), folder / "s.parquet")
    model = teacher(120)
    placements = nested(distilled(folder, model), repeated=RepeatedSpans(drop=True, above=3, keep=0))
    frame, result = written(
        TokenShards(placements, tokenizer=model, loss="mask", window=64, teacher=True), tmp_path / "out"
    )
    found = {name: [token for token in copy if token[1][0] >= 0] for name, (copy,) in documents_of(frame).items()}
    assert {name for name, there in found.items() if not there} == {
        name for name in found if int(name.partition(":")[0].removeprefix("doc-")) % 2
    }
    assert "6 documents have no teacher probabilities" in "\n".join(result.remarks)


def test_the_teacher_itself_agrees_with_the_shards_and_another_model_does_not(tmp_path, openings, teacher):
    model = teacher(1)  # a token a letter: it can be cut in one way only
    made = distilled(openings, model, [])
    placements = Place(score(Split(made, Splitter(by="document")), [length_scorer()]), TagScheme(tags=made.tags()))
    tokens = TokenShards(placements, tokenizer=model, loss="mask", window=128, begin=True, teacher=True, part_bytes=900)
    Pipeline(tokens).run(str(tmp_path / "out"), Options(workers=2))
    with ray_here():
        Pipeline(tokens).run(str(tmp_path / "again"), Options(workers=1))
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "again")
    export(tmp_path / "out", tmp_path / "exported", format="huggingface")
    loader = ShardDataset(
        tmp_path / "exported", batch_size=1, columns=("input_ids", "labels", "position_ids", *COLUMNS)
    ).loader()
    of_teacher = GPT2LMHeadModel.from_pretrained(model).eval()
    torch.manual_seed(1)
    of_other = GPT2LMHeadModel(of_teacher.config).eval()
    tags = {entry["id"] for entry in annotate.read_tags(annotate.tags_folder(tmp_path / "out"))["tags"]}
    losses: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for batch in loader:
        edges = [*(batch["position_ids"][0] == 0).nonzero()[:, 0].tolist(), 128]
        for a, b in itertools.pairwise(edges):
            piece = {name: batch[name].reshape(1, 128, -1)[:, a:b] for name in COLUMNS}
            ids, piece["labels"] = batch["input_ids"][:, a:b], batch["labels"][:, a:b]
            if not (piece[COLUMNS[0]] >= 0).any():
                continue
            tagged = bool({*ids[0].tolist()} & tags)
            ids = ids.clone().apply_(lambda i: 0 if i in tags else i)
            with torch.no_grad():
                losses[tagged].append([teacher_kl(m(ids).logits, piece).item() for m in (of_teacher, of_other)])
    plain, under = np.array(losses[False]), np.array(losses[True])
    assert len(plain) > 3 and (plain[:, 0] < 1e-5).all() and (plain[:, 1] > 0.05).all()
    assert len(under) > 3 and (under[:, 0] > 0.01).all()  # with a prompt it wrote otherwise


def test_it_is_refused_where_there_is_nothing_to_carry_or_tokens_are_others(tmp_path, openings, teacher):
    settings = {"loss": "mask", "window": 64, "teacher": True}
    model, other = teacher(120), teacher(40)
    plain = Place(score(Split(Corpus(openings)), [length_scorer()]), TagScheme(tags=[Tag(name="x", rule="length > 0")]))
    for placements in (plain, nested(distilled(openings, model, k=0))):
        with pytest.raises(ConfigError, match="for documents of a Distill whose generator keeps"):
            TokenShards(placements, tokenizer=model, **settings)
    stage = TokenShards(nested(distilled(openings, model)), tokenizer=other, **settings)
    with pytest.raises(
        ConfigError, match=r"id 40 of the generator's tokenizer is '\w+', and this one does not have it"
    ):
        Pipeline(stage).plan(tmp_path / "out")
