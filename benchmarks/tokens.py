"""Tokens/s on one core from annotations in memory (texts, spans, placements) to packed windows with a loss mask.

    python benchmarks/tokens.py [--megabytes 4] [--json FILE] [--runs 5]

Texts are docstrings of the standard library, repeated until there are as many megabytes. Spans are sentences; three in
ten have a tag. The tokenizer is a byte-level BPE of 16,000 entries, trained on the same docstrings, with the split
expression of GPT-2. These jobs run in one thread each:

    byte_level         annotate: tokenize, insert tags, pack windows of 2,048 by best fit, make the mask
    byte_level_encode_batch_fast  the tokenizer library alone, from Python strings; its ids are copied to a NumPy array
    to_parquet         as `byte_level`, and write the table of tokens as Parquet in memory
    datatrove          the tokenizer step of datatrove, to its file, without tags, windows and mask (if it is installed)

The first two are also timed with two other tokenizers of 8,000 entries, for which annotate has to ask the library for
offsets: a Unigram one with Metaspace (`metaspace`) and a WordPiece one (`wordpiece`). A ratio is our rate over that of
the library alone with the same tokenizer, or that of `to_parquet` over datatrove's. Jobs run in turn. Rates are medians
in CPU time; they count tokens of the text, without tags.
"""

from __future__ import annotations

import importlib.util
import os

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")  # before the library is imported

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report import measure, medians, parser, print_table, write_json
from texts import docstrings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from annotate.text.splitting import Splitter
from annotate.tokens import Packed, TagVocabulary, TextTokenizer, add_tags, insert, loss_mask, pack, token_table

TAGS = ("nice", "plain", "tone")
WINDOW = 2048
SHARE = 0.3  # of spans that have a tag
END = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """The input from which token shards are made."""

    texts: pa.LargeStringArray
    spans: pa.Table
    placements: pa.Table


def annotated(documents: Sequence[str], megabytes: float) -> Annotated:
    """Texts of this size, their spans, and tags at the start of some spans."""
    size = sum(len(text.encode()) for text in documents)
    whole, rest = divmod(megabytes * 1e6, size)
    texts = list(documents) * int(whole)
    ends = np.cumsum([len(text.encode()) for text in documents])
    texts += documents[: int(np.searchsorted(ends, rest)) + 1]
    array = pa.array(texts, pa.large_string())
    spans = Splitter().split(array).rename_columns(["row", "start", "end", "byte_start", "byte_end"])
    rng = np.random.default_rng(0)
    tagged = np.flatnonzero(rng.random(spans.num_rows) < SHARE)
    placements = pa.table(
        {
            "row": spans["row"].take(tagged),
            "byte_offset": spans["byte_start"].take(tagged),
            "tag": pa.DictionaryArray.from_arrays(rng.integers(0, len(TAGS), len(tagged), np.int32), pa.array(TAGS)),
            "kind": pa.array(["open"] * len(tagged)).dictionary_encode(),
        }
    )
    return Annotated(texts=array, spans=spans, placements=placements)


SETTINGS = {"special_tokens": ["<unk>", END], "show_progress": False}


def byte_level(documents: Sequence[str]) -> Tokenizer:
    """A byte-level BPE with the split expression of GPT-2, trained on the documents."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(documents, trainers.BpeTrainer(vocab_size=16000, initial_alphabet=alphabet, **SETTINGS))
    return made


def tokenizers(documents: Sequence[str]) -> dict[str, Tokenizer]:
    """One tokenizer of each family, trained on the documents."""
    metaspace = Tokenizer(models.Unigram())
    metaspace.normalizer = normalizers.NFKC()
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    metaspace.train_from_iterator(documents, trainers.UnigramTrainer(vocab_size=8000, unk_token="<unk>", **SETTINGS))
    wordpiece = Tokenizer(models.WordPiece(unk_token="<unk>"))
    wordpiece.normalizer = normalizers.BertNormalizer()
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.train_from_iterator(documents, trainers.WordPieceTrainer(vocab_size=8000, **SETTINGS))
    return {"byte_level": byte_level(documents), "metaspace": metaspace, "wordpiece": wordpiece}


def packed(
    annotations: Annotated, encoder: TextTokenizer, vocabulary: TagVocabulary, end_id: int
) -> tuple[Packed, Any]:
    """Windows and their mask, from annotations."""
    encoded = encoder.encode(annotations.texts)
    tagged = insert(
        encoded, annotations.texts, annotations.placements, vocabulary, spans=annotations.spans, end_id=end_id
    )
    windows = pack(tagged, WINDOW, pad_id=end_id)
    return windows, loss_mask(windows, "mask")


def parquet_bytes(windows: Packed, mask: Any) -> int:
    """Write the table of tokens as Parquet in memory; returns the number of bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(token_table(windows, mask), sink, compression="zstd")
    return sink.getvalue().size


def library_alone(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Ids of all texts, by the cheapest way out of the library."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)


def datatrove_step(tokenizer: Path, texts: list[str], folder: Path) -> None:
    """The tokenizer step of datatrove, to its file."""
    from datatrove.data import Document
    from datatrove.pipeline.tokens import DocumentTokenizer
    from loguru import logger

    logger.disable("datatrove")
    step = DocumentTokenizer(str(folder), str(tokenizer), eos_token=END, shuffle_documents=False)
    step.run(Document(text=text, id=str(i)) for i, text in enumerate(texts))


def main() -> None:
    """Run, print a table, write JSON."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--megabytes", type=float, default=4)
    options = arguments.parse_args()
    pa.set_cpu_count(1)
    documents = list(docstrings())
    annotations = annotated(documents, options.megabytes)
    texts = annotations.texts.to_pylist()
    jobs: dict[str, Callable[[], Any]] = {}
    tokens: dict[str, int] = {}
    windows: dict[str, Packed] = {}
    made = tokenizers(documents)
    for family, tokenizer in made.items():
        tagged, vocabulary = add_tags(PreTrainedTokenizerFast(tokenizer_object=tokenizer), TAGS)
        ours = partial(packed, annotations, TextTokenizer(tagged), vocabulary, tokenizer.token_to_id(END))
        alone = library_alone(tokenizer, texts)
        windows[family], _ = ours()
        found = windows[family].counts["text_tokens"]
        if found != len(alone):
            raise SystemExit(f"{family}: {found} tokens of the text, but {len(alone)} by the library alone")
        tokens |= {f"{family}": found, f"{family}_encode_batch_fast": found}
        jobs |= {f"{family}": ours, f"{family}_encode_batch_fast": partial(library_alone, tokenizer, texts)}
    ours = jobs["byte_level"]
    jobs["to_parquet"], tokens["to_parquet"] = lambda: parquet_bytes(*ours()), tokens["byte_level"]
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("datatrove") is None:
            print("datatrove is left out; to add it: `pip install 'datatrove[processing]'`")
        else:
            file = Path(folder) / "tokenizer.json"
            made["byte_level"].save(str(file))
            jobs["datatrove"] = partial(datatrove_step, file, texts, Path(folder))
            tokens["datatrove"] = tokens["byte_level"]
        seconds = measure(jobs, options.runs, clock=time.process_time)
    rates = {name: tokens[name] / taken for name, taken in medians(seconds).items()}
    ratios = {"encode_batch_fast": rates["byte_level"] / rates["byte_level_encode_batch_fast"]}
    ratios |= {
        f"{family}_encode_batch_fast": rates[family] / rates[f"{family}_encode_batch_fast"]
        for family in ("metaspace", "wordpiece")
    }
    if "datatrove" in rates:
        ratios["datatrove"] = rates["to_parquet"] / rates["datatrove"]
    print(f"{len(texts):,} documents, {annotations.spans.num_rows:,} spans, {annotations.placements.num_rows:,} tags")
    against = {"byte_level": "encode_batch_fast", "to_parquet": "datatrove"}
    rows = []
    for name, rate in rates.items():
        ratio = ratios.get(against.get(name, f"{name}_encode_batch_fast"))
        rows.append([name, f"{rate / 1e6:.2f}", f"{ratio:.2f}" if ratio else ""])
    print_table(["", "M tokens/s", "ours / theirs"], rows)
    filled = {family: one.filled_share for family, one in windows.items()}
    print(f"windows of {WINDOW:,} are filled to {filled['byte_level']:.2%}")
    raw = {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": rates,
        "filled": filled,
        "documents": len(texts),
        "placements": annotations.placements.num_rows,
    }
    write_json(options.json, ratios, raw)


if __name__ == "__main__":
    main()
