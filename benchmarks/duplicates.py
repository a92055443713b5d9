"""Documents/s and MB/s of near-duplicate filtering on one core, against datasketch and rensa.

    python benchmarks/duplicates.py [--json FILE] [--documents 20000] [--runs 5]

Texts are triple-quoted strings of installed Python packages, about 1 kB each; shingles are of 5 words, signatures of
128 permutations, the threshold is 0.8. Timed are, from texts in memory to signatures,

    annotate          from an Arrow array
    rensa             `RMinHash.digest_matrix_from_token_sets`, its fastest over all shingles, hash included
    datasketch_bulk   `MinHash.bulk` with 32-bit xxHash, which is called without a function of Python's between

these two from a list of Python strings, with the fastest shingling that Python has; it alone is `python_shingling`.
Then what bounds annotate:

    normal_form       asking which texts may not be in normal form C
    shingling         folding blanks, finding and hashing shingles: signatures of no permutation
    minimum           the minimum of each permutation over as many hashes a document
    minimum_unbroken  the same over all hashes as one document: what this loop can do at most
    reading           adding up the bytes of the texts, eight at a time

and the whole filter, from texts to which documents are kept:

    rensa_filter      `RMinHashDeduplicator` with LSH
    datasketch_filter `MinHashLSH`, documents with no candidate before them being kept

Each runs in one thread; times are CPU time, all jobs run in turn, medians of the runs. Takes about a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import rensa
import xxhash
from datasketch import MinHash, MinHashLSH
from report import measure, medians, parser, print_table, write_json
from texts import triple_quoted

from annotate.minhash.documents import sign_texts
from annotate.minhash.kernel import Permutations, sign_hashes
from annotate.minhash.normal_form import may_not_be_normal
from annotate.minhash.reference import shingle_hash

SHINGLE, PERMUTATIONS, SEED, THRESHOLD = 5, 128, 1, 0.8

Kept = npt.NDArray[np.int64]
"""Indices of the documents that a filter keeps."""


def shingled(texts: Sequence[str]) -> Iterator[list[bytes]]:
    """The shingles of each text. Of five ways to write this, the fastest."""
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
    """The whole filter by rensa."""
    filtering = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=PERMUTATIONS, use_lsh=True)
    return np.flatnonzero(filtering.add_pairs(zip(map(str, range(len(texts))), shingled(texts), strict=True)))


def datasketch_filter(texts: Sequence[str]) -> Kept:
    """The whole filter by datasketch."""
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    kept = []
    for i, signature in enumerate(datasketch_signatures(texts)):
        if not lsh.query(signature):
            lsh.insert(i, signature)
            kept.append(i)
    return np.array(kept, np.int64)


def main() -> None:
    """Run, print a table, write JSON."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--documents", type=int, default=20_000)
    options = arguments.parse_args()
    pa.set_cpu_count(1)
    os.environ["RAYON_NUM_THREADS"] = "1"  # rensa's; read when it first has work for several

    texts = list(islice(triple_quoted(), options.documents))
    array = pa.array(texts, pa.large_string())
    permutations = Permutations.draw(PERMUTATIONS, SEED)
    none = Permutations(scheme="affine32", a=permutations.a[:0], b=permutations.b[:0])
    signed = sign_texts(array, permutations, shingle=SHINGLE)
    check(texts[:500], signed.values)

    offsets = np.append(0, np.cumsum(signed.shingles))
    hashes = np.random.default_rng(0).integers(0, 1 << 32, offsets[-1], np.uint32)
    data = np.frombuffer(array.buffers()[2], np.uint64, array.buffers()[2].size // 8)
    signatures: dict[str, Callable[[], Any]] = {
        "annotate": lambda: sign_texts(array, permutations, shingle=SHINGLE),
        "rensa": lambda: rensa_signatures(texts),
        "datasketch_bulk": lambda: datasketch_signatures(texts),
    }
    parts: dict[str, Callable[[], Any]] = {
        "python_shingling": lambda: sum(map(len, shingled(texts))),
        "normal_form": lambda: may_not_be_normal(array),
        "shingling": lambda: sign_texts(array, none, shingle=SHINGLE),
        "minimum": lambda: sign_hashes(hashes, offsets, permutations),
        "minimum_unbroken": lambda: sign_hashes(hashes, offsets[[0, -1]], permutations),
        "reading": lambda: data.sum(),
    }
    kept: dict[str, int] = {}
    filters = {"rensa_filter": rensa_filter, "datasketch_filter": datasketch_filter}

    def filtered(name: str) -> Callable[[], None]:
        return lambda: kept.update({name: len(filters[name](texts))})

    jobs = {**signatures, **parts, **{name: filtered(name) for name in filters}}
    seconds = measure(jobs, options.runs, clock=time.process_time)
    median = medians(seconds)
    ratios = {f"signatures_vs_{name}": median[name] / median["annotate"] for name in ("rensa", "datasketch_bulk")}
    ratios["signatures_vs_reading"] = median["reading"] / median["annotate"]

    size = len(data) * 8
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB, {offsets[-1]:,} shingles")
    rows = [
        [name, f"{taken * 1e3:,.1f}", f"{len(texts) / taken:,.0f}", f"{size / taken / 1e6:,.0f}"]
        for name, taken in median.items()
    ]
    print_table(["", "ms", "documents/s", "MB/s"], rows)
    print_table(["", "theirs / ours"], [[name, f"{ratio:.2f}"] for name, ratio in ratios.items()])
    products = int(offsets[-1]) * PERMUTATIONS
    raw = {
        "seconds": seconds,
        "documents": len(texts),
        "bytes": size,
        "shingles": int(offsets[-1]),
        "kept": kept,
        "products_per_s": {name: products / median[name] for name in ("minimum", "minimum_unbroken")},
    }
    write_json(options.json, ratios, raw)


def check(texts: Sequence[str], values: npt.NDArray[np.uint32]) -> None:
    """End the program where our signatures are not datasketch's with our hash; of texts without odd blanks."""
    for i, minhash in enumerate(datasketch_signatures(texts, shingle_hash)):
        if texts[i].isascii() and not np.array_equal(minhash.hashvalues, values[i]):
            raise SystemExit(f"document {i} has another signature by datasketch")


if __name__ == "__main__":
    main()
