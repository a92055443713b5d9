"""The control "shuffled" through the engine, on a corpus that is sorted by source, in small units."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from length_scorer import length_scorer
from scipy.stats import hypergeom
from support import sentences

from annotate import (
    Corpus,
    Nest,
    Options,
    Pipeline,
    Render,
    Split,
    Splitter,
    TagScheme,
    Thresholds,
    by_column,
    score,
    shards,
)
from annotate.graph import RANGE_UNITS

N = 30  # documents of each source
SOURCES, YEARS = ["wiki"] * N + ["web"] * N, [2000 + i % 3 for i in range(2 * N)]
WHOLE = TagScheme(tags=by_column("of", "source", {"wiki": "wiki", "web": "web"}), control="shuffled")
PARTS = TagScheme(
    tags=(
        *by_column("source", "source", {"wiki": "w", "web": "v"}),
        *by_column("year", "year", {str(year): f"y{year}" for year in sorted(set(YEARS))}),
    ),
    control="shuffled",
)


def rendering(corpus: Path) -> Render:
    """Tags of documents and of sentences, both shuffled."""
    documents = Corpus(str(corpus), id=None, unit_bytes=1200)

    def thresholds(by: str, scheme: TagScheme) -> Thresholds:
        scores = score(Split(documents, Splitter(by=by)), scorers=[length_scorer()])
        return Thresholds(scores, scheme)

    return Render(Nest([thresholds("document", WHOLE), thresholds("sentence", PARTS)]))


def test_tags_do_not_go_with_sources(ray_in_process, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    table = pa.table({"text": [sentences(i, 6) for i in range(2 * N)], "source": SOURCES, "year": YEARS})
    for shard in range(2):
        pq.write_table(table.slice(N * shard, N), corpus / f"s{shard}.parquet")
    made = rendering(corpus)
    result = Pipeline(made).run(str(tmp_path / "two"), Options(workers=2))
    states = [dataset for label, dataset in result.datasets.items() if label.startswith("span-states")]
    assert len(states) == 2 and all(dataset.units > RANGE_UNITS for dataset in states)
    texts = pl.read_parquet(shards(tmp_path / "two"))["text"].to_list()

    outer = [re.match("<(wiki|web)>", text)[1] for text in texts]
    inner = [re.findall("<([wv])><y([0-9]+)>", text) for text in texts]
    sizes = [len(each) for each in inner]
    true = Counter({("w" if s == "wiki" else "v", str(y)): 0 for s, y in zip(SOURCES, YEARS, strict=True)})
    for source, year, size in zip(SOURCES, YEARS, sizes, strict=True):
        true["w" if source == "wiki" else "v", str(year)] += size
    assert Counter(outer) == Counter(SOURCES)
    assert Counter(itertools.chain(*inner)) == true  # each span has both tags, so none is left
    in_wiki = Counter(source for source, _ in itertools.chain(*inner[:N]))["w"]
    for n, wiki, stayed in ((2 * N, N, outer[:N].count("wiki")), (sum(sizes), sum(sizes[:N]), in_wiki)):
        low, high = hypergeom.interval(1 - 1e-6, n, wiki, wiki)
        assert low <= stayed <= high < wiki  # all of them, where tags stay in their unit

    Pipeline(made).run(str(tmp_path / "one"), Options(workers=1))
    one, two = ([Path(path).read_bytes() for path in shards(tmp_path / name)] for name in ("one", "two"))
    assert one == two
