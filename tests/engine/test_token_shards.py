"""Token shards through the engine: every token accounted for, from the corpus to what a trainer reads."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from here import ray_here
from length_scorer import length_scorer
from ray import cloudpickle
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from annotate import (
    Calibrate,
    ConfigError,
    Corpus,
    Family,
    Nest,
    Options,
    Pipeline,
    RepeatedSpans,
    Split,
    Splitter,
    Tag,
    TagScheme,
    Thresholds,
    TokenShards,
    by_column,
    score,
    shards,
    tags_folder,
)
from annotate.cli.app import app, guarded
from annotate.engine.events import Silent
from annotate.stages.token_shards import _loaded
from annotate.storage.manifests import Manifest
from annotate.text.arrays import lists_by_row

NOTICE = "All of this is of no use to anybody.\n"
WINDOW = 64


def line(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return " ".join("etaoinshrdlu"[: int(n)] for n in rng.integers(1, 9, rng.integers(3, 20))) + ".\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    for shard in range(2):
        texts = ["".join(line(100 * shard + 10 * i + k) for k in range(1 + i % 5)) for i in range(30)]
        texts[3] = "It says <long> and </wiki> as if it were a tag.\n" + texts[3]
        texts[4:20:2] = [text + NOTICE for text in texts[4:20:2]]
        texts[7] = "\u4f60\u597d caf\u00e9 \U0001f600.\n" + line(7)
        texts[8] = ""
        table = {"id": [f"{shard}-{i}" for i in range(30)], "text": texts, "source": ["wiki", "web"] * 15}
        pq.write_table(pa.table(table), folder / f"s{shard}.parquet")
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A small byte-level BPE, saved as a model's directory has it."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(pl.read_parquet(corpus / "*.parquet")["text"].to_list(), trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>").save_pretrained(folder)
    return folder


def thresholds(documents: Corpus, by: str, scheme: TagScheme, **options) -> Thresholds:
    spans = Split(documents, Splitter(by=by, blanks="previous"))
    scores = score(spans, scorers=[length_scorer()])
    repeated = RepeatedSpans(drop=True, **options) if options else None
    return Thresholds(Calibrate(scores, repeated=repeated), scheme)


SPANS = TagScheme(
    tags=(Tag(name="long", rule="length >= q(0.6)", means="longer than most"), Tag(name="x", rule="length > 0")),
    families=(Family(name="x", layout="repeat", rate=0.1),),
)
WHOLE = TagScheme(
    tags=by_column("source", "source", {"wiki": "wiki", "web": "web"}),
    families=(Family(name="source", layout="begin-end"),),
)


def made(
    corpus: Path, tokenizer: Path | None, *, unit_bytes: int = 700, repeated: bool = False, **options
) -> TokenShards:
    documents = Corpus(str(corpus), unit_bytes=unit_bytes)
    inner = thresholds(documents, "line", SPANS, **({"above": 3, "keep": 0} if repeated else {}))
    nested = Nest([thresholds(documents, "document", WHOLE), inner])
    own = None if tokenizer is None else str(tokenizer)
    chosen = {"tokenizer": own, "window": WINDOW, "loss": "mask", "part_bytes": 3000, **options}
    return TokenShards(nested, **chosen)


def written(stage: TokenShards, folder: Path, workers: int = 2) -> pl.DataFrame:
    Pipeline(stage).run(str(folder), Options(workers=workers))
    return pl.read_parquet(shards(folder))


def segments_of(frame: pl.DataFrame, drop: set[int]) -> dict[str, list[list[int]]]:
    """The tokens of each document's segments but for some ids, in the order of the pieces that they are."""
    found: dict[str, dict[int, list[int]]] = {}
    columns = ("input_ids", "segment_lengths", "document_ids", "document_pieces")
    for ids, lengths, names, pieces in frame.select(columns).iter_rows():
        at = 0
        for length, name, piece in zip(lengths, names, pieces, strict=True):
            of_document = found.setdefault(name, {})
            assert piece not in of_document
            of_document[piece] = [token for token in ids[at : at + length] if token not in drop]
            at += length
    return {name: [of_document[i] for i in range(len(of_document))] for name, of_document in found.items()}


@pytest.mark.parametrize(("packing", "repeated"), [("best-fit", True), ("concatenate", False)])
def test_without_tags_the_tokens_are_those_of_the_documents(
    ray_cluster,
    tmp_path: Path,
    corpus: Path,
    tokenizer: Path,
    packing: str,
    repeated: bool,  # noqa: FBT001
) -> None:
    frame = written(made(corpus, tokenizer, packing=packing, repeated=repeated), tmp_path / "out")
    assert set(frame["input_ids"].list.len()) == {WINDOW}
    with_tags = AutoTokenizer.from_pretrained(f"{tags_folder(tmp_path / 'out')}/tokenizer")
    tags = {
        name: with_tags.convert_tokens_to_ids(name)
        for name in ("<long>", "<x>", "<wiki>", "</wiki>", "<web>", "</web>")
    }
    plain = AutoTokenizer.from_pretrained(tokenizer)
    end = plain.eos_token_id
    found = segments_of(frame, set(tags.values()))
    texts = dict(pl.read_parquet(corpus / "*.parquet").filter(pl.col("text") != "").select("id", "text").iter_rows())
    if repeated:
        texts = {name: text.replace(NOTICE, "") for name, text in texts.items()}
    assert found.keys() == texts.keys()
    for name, text in texts.items():
        expected = [*plain(text, add_special_tokens=False)["input_ids"], end]
        assert list(itertools.chain(*found[name])) == expected, name
    everything = [token for ids in frame["input_ids"] for token in ids]
    assert all(everything.count(i) for i in tags.values())
    # The tags are not targets, and neither is the first token of a segment, nor padding.
    for ids, mask, lengths, positions in frame.select(
        "input_ids", "loss_mask", "segment_lengths", "position_ids"
    ).iter_rows():
        starts = {sum(lengths[:k]) for k in range(len(lengths))}
        for i, (token, counts) in enumerate(zip(ids, mask, strict=True)):
            assert counts == (token not in tags.values() and i not in starts and i < sum(lengths))
            assert positions[i] == (0 if i in starts or i >= sum(lengths) else positions[i - 1] + 1)


def test_what_goes_with_the_shards(ray_cluster, tmp_path: Path, corpus: Path, tokenizer: Path) -> None:
    stage = made(corpus, tokenizer, multiple=128, span_ids=True)
    frame = written(stage, tmp_path / "out")
    assert "span_ids" in frame.columns
    folder = Path(tags_folder(tmp_path / "out"))
    card = json.loads((folder / "tags.json").read_text())
    tags = {tag["name"]: tag for tag in card["tags"]}
    assert set(tags) == {"wiki", "web", "long", "x"}
    assert tags["long"]["rule"] == "length >= q(0.6)" and tags["long"]["meaning"] == "longer than most"
    [threshold] = tags["long"]["threshold"]
    assert threshold["q"] == 0.6 and threshold["n"] > 100 and threshold["value"] > 10
    assert tags["wiki"]["closing_token"] == "</wiki>" and tags["x"]["closing_id"] is None and tags["x"]["family"] == -1
    assert {name: (tag["layout"], tag["every_span"]) for name, tag in tags.items()} == {
        "wiki": ("begin-end", False),  # of documents, the outer spans
        "web": ("begin-end", False),
        "long": ("prefix", True),
        "x": ("repeat", False),
    }
    assert card["shards"]["splitter"] == asdict(Splitter(by="line", blanks="previous"))
    assert card["vocabulary"]["padded_size"] % 128 == 0
    told = (folder / "README.md").read_text()
    assert "<long> stands before its span" in told and "target-aligned" in told and "length" in told
    counts = json.loads((tmp_path / "out" / "ledger.json").read_text())["shards"]
    assert counts["states"]["written"] == 58 and counts["states"]["quarantined"] == 2
    assert counts["beside"]["documents_that_spell_a_tag"] == 2
    lost = ("documents_with_lost_characters", "unknown_tokens", "dropped_characters")
    assert {name: counts["beside"][name] for name in lost} == dict.fromkeys(lost, 0)


def test_equal_bytes_for_any_workers_and_a_second_run_does_nothing(
    ray_cluster, tmp_path: Path, corpus: Path, tokenizer: Path
) -> None:
    stage = made(corpus, tokenizer)
    for name, workers in (("one", 1), ("two", 2)):
        written(stage, tmp_path / name, workers)
    one, two = ({Path(p).name: Path(p).read_bytes() for p in shards(tmp_path / name)} for name in ("one", "two"))
    assert one == two and len(one) > 2
    beside = Path(tags_folder(tmp_path / "two"))
    told = (beside / "README.md").read_bytes()
    (beside / "README.md").write_bytes(told[::-1])

    def times() -> dict[Path, int]:
        paths = [*(tmp_path / "two").rglob("parts/*"), *beside.rglob("*.json")]
        return {path: path.stat().st_mtime_ns for path in paths}

    before = times()
    written(stage, tmp_path / "two")
    assert before == times() and len(before) > 5
    assert (beside / "README.md").read_bytes() == told


def test_all_that_decides_the_windows_is_in_the_recipe(
    tmp_path: Path, corpus: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tokens begin and end a document is in another file than the vocabulary."""
    other = shutil.copytree(tokenizer, tmp_path / "other")
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "a"}))
    recipes = {made(corpus, folder).recipe for folder in (tokenizer, other)}
    assert len(recipes) == 2
    monkeypatch.chdir(tmp_path)
    stage = made(corpus, Path("other"))
    assert Path(stage.tokenizer) == other  # workers have another working directory
    _ = stage.recipe
    sent = cloudpickle.dumps(stage)
    changed = json.loads((other / "tokenizer.json").read_text())
    changed["model"]["merges"] = changed["model"]["merges"][:-1]
    (other / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(ConfigError, match="is another one for this worker than for the driver"):
        _loaded(cloudpickle.loads(sent))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": None}, "token shards need a tokenizer"),
        ({"tokenizer": None, "revision": "v2"}, "revision is that of a tokenizer, but there is none"),
        ({"loss": "some"}, 'loss must be "train", "mask"'),
        ({"packing": "tight"}, 'packing must be "best-fit"'),
        ({"window": 4}, "at least 8 tokens, got 4"),
        ({"tokenizer": "nowhere.json"}, "tokenizer 'nowhere.json' cannot be read"),
        ({"begin": True}, "has no bos token"),
        ({"reserved": ("<|end|>", "a", "b", "c", "d", "e")}, "the tokenizer needs '<|end|>' itself"),
    ],
)
def test_settings_that_make_no_sense(corpus: Path, tokenizer: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(corpus, **{"tokenizer": tokenizer, **options}).settings()


def test_the_files_beside_stay_though_the_thresholds_that_they_tell_are_lost(
    tmp_path: Path, corpus: Path, tokenizer: Path
) -> None:
    """Such a run ended in an AssertionError."""
    stage, out = made(corpus, tokenizer, unit_bytes=1 << 20), tmp_path / "out"
    with ray_here():
        written(stage, out)
        card = Path(tags_folder(out), "tags.json").read_bytes()
        for part in out.glob("thresholds-*/parts/*"):
            part.unlink()
        Pipeline(stage).run(str(out), observer=(observer := Said()))
    assert [said for said in observer.all if "the files beside its parts were not checked" in said]
    assert Path(tags_folder(out), "tags.json").read_bytes() == card


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def said(self, level: str, message: str) -> None:
        self.all.append(f"{level}: {message}")


@pytest.mark.parametrize("form", ["huggingface", "megatron", "datatrove", "mds", "olmo"])
def test_they_are_exported(ray_cluster, tmp_path_factory, corpus: Path, tokenizer: Path, form: str, capsys) -> None:
    base = tmp_path_factory.getbasetemp() / "exported"
    frame = written(made(corpus, tokenizer), base)
    target = base.parent / form
    assert guarded(app, ["export", str(base), str(target), "--format", form]) == 0
    manifest = json.loads((target / "manifest.json").read_text())
    mask = sum(sum(each) for each in frame["loss_mask"])
    counts = manifest["counts"]
    assert counts["windows"] == len(frame) and counts["tokens"] == len(frame) * WINDOW
    assert counts["mask_sum"] + counts["targets_without_context"] == mask
    assert (target / "README.md").is_file()
    assert guarded(app, ["export", str(base), str(base), "--format", form]) == 2
    assert guarded(app, ["export", str(base), str(target), "--format", form]) == 0  # over itself
    before = {path: path.read_bytes() for path in corpus.iterdir()}
    assert guarded(app, ["export", str(base), str(corpus), "--format", form]) == 4
    assert before == {path: path.read_bytes() for path in corpus.iterdir()}


def test_what_the_tokenizer_loses_is_counted_and_said(tmp_path: Path, corpus: Path) -> None:
    """A tokenizer that drops what it does not know, and lowers case: one document in four has other letters."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.normalizer = pre_tokenizers.Metaspace(), normalizers.Lowercase()
    words.train_from_iterator(
        ["the dog of the house", "a cafe"],
        trainers.BpeTrainer(vocab_size=60, special_tokens=["<|end|>"], show_progress=False),
    )
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>").save_pretrained(tmp_path)
    stage = made(corpus, tmp_path)
    texts = ["the dog", "The House", "\u4f60\u597d the", "a cafe"]
    ends = [len(text.encode()) for text in texts]
    spans = pa.table({"row": range(4), "byte_start": [0] * 4, "byte_end": ends, "span": [0] * 4})
    placed = pa.table(
        {
            "row": pa.array([0], pa.int64()),
            "offset": pa.array([0], pa.int64()),
            "byte_offset": pa.array([0], pa.int64()),
            "order": pa.array([0], pa.int32()),
            "tag": ["long"],
            "kind": ["open"],
        }
    )
    rows = pa.table({"id": [*"abcd"], "text": pa.array(texts, pa.large_string())})
    rows = rows.append_column("placements", lists_by_row(placed, 4)).append_column("spans", lists_by_row(spans, 4))
    counts = stage.part(rows).counts
    lost = {name: counts[name] for name in ("tokenized", "documents_with_lost_characters", "unknown_tokens")}
    assert lost == {"tokenized": 4, "documents_with_lost_characters": 1, "unknown_tokens": 0}
    assert counts["dropped_characters"] == 2
    manifest = Manifest("", "", "", {}, {}, (), 1, 1, 1, {**counts, "documents": 4, "written": 4})
    said = " ".join(stage.remarks(manifest))
    assert "1 of 4 documents (25.0%) have characters that the tokenizer does not know" in said
    assert "2 characters are dropped" in said
    assert "the tokenizer takes away case" in said


def test_a_tokenizer_that_its_class_rewrites_is_said_and_the_shards_have_the_file(
    tmp_path: Path, corpus: Path, tokenizer: Path
) -> None:
    folder = shutil.copytree(tokenizer, tmp_path / "rewritten")
    file = json.loads((folder / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, file["pre_tokenizer"]]}
    file["model"]["vocab"]["20"] = 400
    file["model"]["merges"].append(["2", "0"])
    (folder / "tokenizer.json").write_text(json.dumps(file))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))
    stage = made(corpus, folder)
    said = " ".join(stage.remarks(Manifest("", "", "", {}, {}, (), 1, 1, 1, {})))
    assert "GPT2Tokenizer, its class, gives other tokens than its tokenizer.json: 'In 2024" in said
    assert _loaded(stage).encoder.encode(pa.array(["20"])).ids.tolist() == [file["model"]["vocab"][d] for d in "20"]
