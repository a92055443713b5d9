"""Documents/s and MB/s of near-duplicate filtering on one core, against datasketch, rensa and datatrove.

    python benchmarks/duplicates.py [--json FILE] [--documents 20000] [--runs 5]

Texts are triple-quoted strings of installed Python packages, about 1 kB each. Shingles have 5 words, signatures 128
permutations, and the threshold is 0.8. These jobs go from texts in memory to signatures:

    annotate          from an Arrow array
    rensa             from a list of Python strings, by `RMinHash.digest_matrix_from_token_sets`: its fastest function
                      that uses all shingles; the time includes hashing
    datasketch_bulk   from a list of Python strings, by `MinHash.bulk` with 32-bit xxHash, which it calls directly
    python_shingling  only the shingling of these two, which is the fastest that Python has

These are the parts of annotate's time:

    normal_form       the check for texts that may not be in normal form C
    shingling         folding blanks, finding and hashing shingles: signatures without permutations
    minimum           the minimum of each permutation, over as many hashes for each document
    minimum_unbroken  the same over all hashes as one document: the most that this loop can do
    reading           adding up the bytes of the texts, eight at a time

These are the whole filter, from a list of Python strings to the list of kept documents:

    annotate_filter   the stages of `NearDuplicates` without split groups. This is the work of the other filters, and
                      verification, which only rensa does among them. The ratios `filter_vs_...` compare with this row
    annotate_groups   the same with its defaults, so with split groups, which no other filter makes. The ratios
                      `groups_vs_...` compare with this row
    rensa_filter      `RMinHashDeduplicator` with LSH
    datasketch_filter `MinHashLSH`; a document is kept if no earlier one is a candidate
    datatrove_filter  its four steps by `LocalPipelineExecutor`, with 9 buckets of 13 hashes, xxHash, else its defaults
    datatrove_split   the same without its word splitter and its simplifying of texts, which it has no setting for.
                      Words are what stands between blanks
    annotate_on_ray   the filter as users run it, on a local Ray of one CPU, from a Parquet file to committed verdicts

Each job runs in one thread. All jobs run in turn; times are medians of CPU time. There are two exceptions:
`annotate_on_ray` is in wall time, because it has several processes; `datatrove_filter` runs only once, after a warm-up
on a few documents. Files are in memory if there is a /dev/shm. Takes about two minutes.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duplicates_peers import (
    IN_MEMORY,
    PERMUTATIONS,
    SEED,
    SHINGLE,
    THRESHOLD,
    Kept,
    datasketch_filter,
    datasketch_signatures,
    datatrove_filter,
    has_datatrove,
    rensa_filter,
    rensa_signatures,
    shingled,
)
from exchanges import run_filter
from processes import local_ray
from report import measure, medians, parser, print_table, write_json
from texts import triple_quoted

from annotate import Corpus, NearDuplicates, Options, Pipeline
from annotate.minhash.documents import sign_texts
from annotate.minhash.normal_form import may_not_be_normal
from annotate.minhash.reference import shingle_hash
from annotate.minhash.signing import Permutations, sign_hashes

UNIT_ROWS = 8000  # 8 MB of text, the default work unit

Jobs = dict[str, Callable[[], Any]]
Seconds = dict[str, list[float]]


def main() -> None:
    """Run, print a table, write JSON."""
    arguments = parser(__doc__, runs=5)
    arguments.add_argument("--documents", type=int, default=20_000)
    options = arguments.parse_args()
    pa.set_cpu_count(1)
    os.environ["RAYON_NUM_THREADS"] = "1"  # rensa's; it reads this when it first starts threads

    texts = list(itertools.islice(triple_quoted(), options.documents))
    array = pa.array(texts, pa.large_string())
    permutations = Permutations.draw(PERMUTATIONS, SEED)
    signed = sign_texts(array, permutations, shingle=SHINGLE)
    check(texts[:500], signed.values)
    offsets = np.append(0, np.cumsum(signed.shingles))
    raw = {"documents": len(texts), "bytes": pc.sum(pc.binary_length(array)).as_py(), "shingles": int(offsets[-1])}

    jobs = signatures(texts, array, permutations) | parts(texts, array, permutations, offsets)
    kept: dict[str, int] = {}
    seconds = measure(jobs | filters(texts, kept), options.runs, clock=time.process_time)
    if has_datatrove():
        seconds |= datatrove_once(texts, kept)
    else:
        print("datatrove is left out; to add it: `pip install datatrove spacy`, or the extra `benchmarks`\n")
    seconds |= on_ray(texts, options.runs, kept)
    raw |= {"seconds": seconds, "kept": kept}
    products = int(offsets[-1]) * PERMUTATIONS
    median = medians(seconds)
    raw["products_per_s"] = {name: products / median[name] for name in ("minimum", "minimum_unbroken")}
    write_json(options.json, show(median, raw), raw)


def signatures(texts: Sequence[str], array: pa.Array, permutations: Permutations) -> Jobs:
    """The jobs from text to signatures."""
    return {
        "annotate": lambda: sign_texts(array, permutations, shingle=SHINGLE),
        "rensa": lambda: rensa_signatures(texts),
        "datasketch_bulk": lambda: datasketch_signatures(texts),
    }


def parts(texts: Sequence[str], array: pa.Array, permutations: Permutations, offsets: npt.NDArray[np.int64]) -> Jobs:
    """The jobs for parts of the way from text to signatures; `offsets` are those of the shingles of each text."""
    none = Permutations(scheme="affine32", a=permutations.a[:0], b=permutations.b[:0])
    hashes = np.random.default_rng(0).integers(0, 1 << 32, offsets[-1], np.uint32)
    data = np.frombuffer(array.buffers()[2], np.uint64, array.buffers()[2].size // 8)
    return {
        "python_shingling": lambda: sum(map(len, shingled(texts))),
        "normal_form": lambda: may_not_be_normal(array),
        "shingling": lambda: sign_texts(array, none, shingle=SHINGLE),
        "minimum": lambda: sign_hashes(hashes, offsets, permutations),
        "minimum_unbroken": lambda: sign_hashes(hashes, offsets[[0, -1]], permutations),
        "reading": lambda: data.sum(),
    }


def near_duplicates(corpus: Corpus, *, groups: bool = True) -> NearDuplicates:
    """Our filter, with default split groups or without any."""
    none: dict[str, Any] = {} if groups else {"group_threshold": THRESHOLD, "group_span": None}
    return NearDuplicates(corpus, threshold=THRESHOLD, shingle=SHINGLE, permutations=PERMUTATIONS, seed=SEED, **none)


def annotate_filter(texts: Sequence[str], *, groups: bool) -> Kept:
    """Our whole filter, in memory, in one process."""
    verdicts, _ = run_filter(near_duplicates(Corpus("texts"), groups=groups), {"": texts}, unit_rows=UNIT_ROWS)
    return np.flatnonzero(verdicts["kept"])


def filters(texts: Sequence[str], kept: dict[str, int]) -> Jobs:
    """The jobs for the whole filter; each writes into `kept` how many documents it keeps."""
    found: dict[str, Callable[[], Kept]] = {
        "annotate_filter": lambda: annotate_filter(texts, groups=False),
        "annotate_groups": lambda: annotate_filter(texts, groups=True),
        "rensa_filter": lambda: rensa_filter(texts),
        "datasketch_filter": lambda: datasketch_filter(texts),
    }
    if has_datatrove():
        found["datatrove_split"] = lambda: datatrove_filter(texts, own_words=False)

    def noted(name: str, job: Callable[[], Kept]) -> Callable[[], None]:
        return lambda: kept.update({name: len(job())})

    return {name: noted(name, job) for name, job in found.items()}


def datatrove_once(texts: Sequence[str], kept: dict[str, int]) -> Seconds:
    """Time datatrove with its defaults, once: it takes tens of seconds."""
    datatrove_filter(texts[:200], own_words=True)

    def job() -> None:
        kept["datatrove_filter"] = len(datatrove_filter(texts, own_words=True))

    return measure({"datatrove_filter": job}, 1, warm_up=False, clock=time.process_time)


def on_ray(texts: Sequence[str], runs: int, kept: dict[str, int]) -> Seconds:
    """Time our filter as users run it, each time in a new work directory."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name, local_ray(1):
        folder = Path(name)
        pq.write_table(pa.table({"text": texts}), folder / "corpus.parquet", row_group_size=1000)
        workdirs = (str(folder / f"run-{i}") for i in itertools.count())

        def job() -> None:
            verdicts = near_duplicates(Corpus(str(folder / "corpus.parquet"), id=None))
            result = Pipeline(verdicts).run(next(workdirs), Options(workers=1))
            kept["annotate_on_ray"] = result.outputs["verdicts"].counts["kept"]

        return measure({"annotate_on_ray": job}, runs)


def show(median: dict[str, float], raw: dict[str, Any]) -> dict[str, float]:
    """Print the tables; returns the ratios."""
    documents, size, kept = raw["documents"], raw["bytes"], raw["kept"]
    print(f"{documents:,} documents, {size / 1e6:.1f} MB, {raw['shingles']:,} shingles")
    rows = [
        [
            name,
            f"{taken * 1e3:,.1f}",
            f"{documents / taken:,.0f}",
            f"{size / taken / 1e6:,.0f}",
            f"{kept[name]:,}" if name in kept else "",
        ]
        for name, taken in median.items()
    ]
    print_table(["", "ms", "documents/s", "MB/s", "kept"], rows)
    rivals = {"rensa": "rensa", "datasketch_bulk": "datasketch_bulk", "reading": "reading"}
    ratios = against(median, "signatures", "annotate", rivals)
    rivals = {"rensa": "rensa_filter", "datasketch_lsh": "datasketch_filter"}
    theirs = {"datatrove": "datatrove_filter", "datatrove_split": "datatrove_split"} if has_datatrove() else {}
    ratios |= against(median, "filter", "annotate_filter", rivals | theirs)
    ratios |= against(median, "groups", "annotate_groups", rivals | theirs)
    ratios |= against(median, "on_ray", "annotate_on_ray", theirs)
    print_table(["", "theirs / ours"], [[name, f"{ratio:.2f}"] for name, ratio in ratios.items()])
    return ratios


def against(median: dict[str, float], what: str, ours: str, rivals: dict[str, str]) -> dict[str, float]:
    """The ratios of other rows to one of ours; `rivals` gives the row to compare for the name of each ratio."""
    return {f"{what}_vs_{name}": median[row] / median[ours] for name, row in rivals.items()}


def check(texts: Sequence[str], values: npt.NDArray[np.uint32]) -> None:
    """End the program if our signatures are not those of datasketch with our hash. Only ASCII texts are compared."""
    for i, minhash in enumerate(datasketch_signatures(texts, shingle_hash)):
        if texts[i].isascii() and not np.array_equal(minhash.hashvalues, values[i]):
            raise SystemExit(f"datasketch gives another signature for document {i}")


if __name__ == "__main__":
    main()
