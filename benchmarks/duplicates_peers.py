"""The jobs of `duplicates.py` with rensa, datasketch and datatrove, each as fast as its users can make it.

The three filters return which documents they keep: the first of those that are alike.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rensa
import xxhash
from datasketch import MinHash, MinHashLSH

from annotate.minhash.bands import optimal_bands

SHINGLE, PERMUTATIONS, SEED, THRESHOLD = 5, 128, 1, 0.8
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder whose files are in memory, if the machine has one."""

Kept = npt.NDArray[np.int64]
"""Indices of the documents that a filter keeps."""


def shingled(texts: Sequence[str]) -> Iterator[list[bytes]]:
    """Yield the shingles of each text, in the fastest of five ways that were tried."""
    for text in texts:
        words = text.encode().split()
        yield list(map(b" ".join, zip(*(words[i:] for i in range(SHINGLE)), strict=False)))


def rensa_signatures(texts: Sequence[str]) -> Any:
    """Signatures by rensa."""
    return rensa.RMinHash.digest_matrix_from_token_sets(shingled(texts), PERMUTATIONS, SEED)


def datasketch_signatures(
    texts: Sequence[str], hashfunc: Callable[[bytes], int] = xxhash.xxh32_intdigest
) -> list[MinHash]:
    """Signatures by datasketch."""
    return MinHash.bulk(shingled(texts), num_perm=PERMUTATIONS, seed=SEED, hashfunc=hashfunc, scheme="affine32")


def rensa_filter(texts: Sequence[str]) -> Kept:
    """The whole filter by rensa. It is no faster with signatures that are made beforehand, in bulk or not."""
    filtering = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True)
    return np.flatnonzero(filtering.add_pairs(zip(map(str, range(len(texts))), shingled(texts), strict=True)))


def datasketch_filter(texts: Sequence[str]) -> Kept:
    """The whole filter by datasketch: a document is dropped if an earlier one is a candidate, without verification."""
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    kept = []
    for i, signature in enumerate(datasketch_signatures(texts)):
        if not lsh.query(signature):
            lsh.insert(i, signature, check_duplication=False)
            kept.append(i)
    return np.array(kept, np.int64)


def has_datatrove() -> bool:
    """Whether datatrove is installed, and spaCy, with which it finds English words."""
    return all(map(importlib.util.find_spec, ("datatrove", "spacy")))


class BlankSplitter:
    """Splits at blanks, in place of datatrove's word splitter."""

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text."""
        return text.split()


def datatrove_filter(texts: Sequence[str], *, own_words: bool) -> Kept:
    """The whole filter by datatrove: its four steps, one task after the other, without verification.

    Documents are in memory. Only what the steps leave for each other is written and read, in memory if possible.

    Args:
        texts: of the documents.
        own_words: whether words are those of datatrove: spaCy's words of the text in lower case without punctuation. If
            not, they are what stands between blanks, as in the other filters. Datatrove has no setting for that.
    """
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.text import TextNormConfig

    buckets, hashes = optimal_bands(THRESHOLD, PERMUTATIONS)
    config = MinhashConfig(n_grams=SHINGLE, num_buckets=buckets, hashes_per_bucket=hashes, seed=SEED)
    if not own_words:
        config.norm_config = TextNormConfig(*[False] * 5)
    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    kept = []

    def read(data: object, rank: int, world_size: int) -> Iterator[Document]:
        yield from documents

    def keep(data: Iterator[Document], rank: int, world_size: int) -> Iterator[Document]:
        for document in data:
            kept.append(int(document.id))
            yield document

    # Its executor sets its log up itself, on stderr.
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name, redirect_stderr(io.StringIO()):
        signatures, pairs, dropped = (str(Path(name) / step) for step in ("signatures", "pairs", "dropped"))
        signing = MinhashDedupSignature(signatures, config)
        # The default is xxHash too, but datatrove passes a str, which xxhash takes no more since version 4.
        signing._hash_func = lambda shingle: xxhash.xxh64_intdigest(shingle.encode())
        if not own_words:
            signing.word_tokenizer = BlankSplitter()
        whole = {"lines_to_buffer": -1}  # reads a whole file at once, not five signatures at a time
        pipelines: dict[str, tuple[list[Any], int]] = {
            "sign": ([read, signing], 1),
            "pair": ([MinhashDedupBuckets(signatures, pairs, config=config, **whole)], buckets),
            "cluster": ([MinhashDedupCluster(pairs, dropped, config=config, **whole)], 1),
            "filter": ([read, MinhashDedupFilter(dropped, **whole), keep], 1),
        }
        for step, (pipeline, tasks) in pipelines.items():
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(Path(name) / step)).run()
    return np.array(kept, np.int64)
