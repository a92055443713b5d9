"""Files with a good footer and damaged pages: the run goes on without their documents, and accounts for them."""

import polars as pl
import pyarrow.parquet as pq
import pytest
from support import pipeline, write_corpus

from annotate import InputError, Options, shards
from annotate.pipeline import make


def damage(path, column, group):
    """Overwrite a column of a row group."""
    leaf = next(
        leaf for leaf in map(pq.read_metadata(path).row_group(group).column, range(3)) if leaf.path_in_schema == column
    )
    data = bytearray(path.read_bytes())
    data[leaf.data_page_offset : leaf.data_page_offset + leaf.total_compressed_size] = bytes(leaf.total_compressed_size)
    path.write_bytes(data)


@pytest.mark.parametrize("column", ["text", "id", "source"])
def test_documents_in_damaged_pages_are_quarantined_and_the_ledger_balances(ray_in_process, tmp_path, column):
    corpus = write_corpus(tmp_path / "corpus", shards=2, row_group_size=10, use_dictionary=False)
    damage(corpus / "s1.parquet", column, 1)
    settings = {"unit_bytes": 1000}  # units of a row group or less
    with pytest.raises(InputError, match=r"s1\.parquet is truncated or damaged Parquet"):
        pipeline(corpus, tmp_path / "calls", **settings).run(str(tmp_path / "stopped"), Options(workers=2))
    stages = pipeline(corpus, tmp_path / "calls", unreadable="quarantine", **settings)
    made = make(stages, tmp_path / "out", Options(workers=2))
    result = made.result()
    assert result.ledger.documents == 60
    assert result.ledger.states["quarantined"] == 10
    assert result.ledger.states["not_reached"] == 0
    written = pl.read_parquet(shards(tmp_path / "out"))
    assert written.height == result.ledger.states["written"] > 40
    assert not set(written["id"]) & {f"doc-1-{i}" for i in range(10, 20)}
    assert written["source"].null_count() == 0
    rendered = next(dataset for stage, dataset in made.datasets.items() if stage.name == "text-shards")
    bad = pl.concat(
        pl.read_parquet(f"{rendered.directory.url}/{entry.quarantine.path}")
        for unit in rendered.units()
        for entry in unit.entries
        if entry.quarantine
    )
    assert bad.select("shard", "row").rows() == [("s1.parquet", row) for row in range(10, 20)]
    assert bad["reason"].str.starts_with("the file can't be read here: ").all()
    assert not bad["reason"].str.contains(str(tmp_path), literal=True).any()
