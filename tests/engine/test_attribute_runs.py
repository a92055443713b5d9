"""Scores from Dolma's attribute files through the engine: rules read them beside those of a scorer."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import support
from length_scorer import length_scorer

from annotate import AttributeScores, Corpus, Options, Split, Splitter, Tag, TagScheme, score, shards, tables

NAME = "tox__v1__toxic"
DOCUMENTS = 20


def put(path: Path, lines: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


def attributes(folder: Path, shard: str, threshold: int) -> None:
    """Of each document but every fifth, the second line has a score of 1 from a number of documents on, else of 0."""
    lines = []
    for i in range(DOCUMENTS):
        first = len(f"Caf\u00e9 {i}.\n")
        ranges = [[0, first, 0.25], [first, first + 8, float(i >= threshold)]]
        lines.append({"id": f"{shard}-{i}", "attributes": {NAME: ranges}})
    put(folder / "attributes" / "tox" / "2019" / f"{shard}.jsonl.gz", [line for i, line in enumerate(lines) if i % 5])


def test_tags_by_scores_from_elsewhere(ray_in_process, tmp_path: Path) -> None:
    for shard in ("a", "b"):
        documents = [{"id": f"{shard}-{i}", "text": f"Caf\u00e9 {i}.\nAnother."} for i in range(DOCUMENTS)]
        put(tmp_path / "documents" / "2019" / f"{shard}.jsonl.gz", documents)
        attributes(tmp_path, shard, 10)
    corpus = Corpus(str(tmp_path / "documents" / "**" / "*.jsonl.gz"), unit_bytes=500)
    spans = Split(corpus, Splitter(by="line", blanks="previous"))
    scored = (
        *score(spans, scorers=[length_scorer()]),
        AttributeScores(spans, tmp_path / "attributes" / "tox", attributes={"toxicity": NAME}),
    )
    rules = {"bad": "toxicity >= q(0.8) and length > 7", "some": "else"}
    scheme = TagScheme(tags=tuple(Tag(name=name, rule=rule, family="t") for name, rule in rules.items()))
    pipeline = support.to_shards(scored, scheme)
    workdir = tmp_path / "out"

    def run() -> tuple[dict[str, str], list[Path]]:
        """The text of each document, and the parts of the annotations from the files."""
        result = pipeline.run(str(workdir), Options(workers=2))
        assert any("8 of 40 documents are not in the attribute files" in remark for remark in result.remarks)
        assert result.ledger is not None and result.ledger.beside["spans_with_a_null_score"] == 16
        written = pl.read_parquet(shards(workdir))
        folder = workdir / scored[1].dataset
        return dict(zip(written["id"], written["text"], strict=True)), sorted(folder.glob("parts/*"))

    def expected(shard: str, i: int, threshold: int) -> str:
        if i % 5 == 0:
            return f"Caf\u00e9 {i}.\nAnother."
        return f"<some>Caf\u00e9 {i}.\n<{'bad' if i >= threshold else 'some'}>Another."

    texts, parts = run()
    assert texts == {f"{s}-{i}": expected(s, i, 10) for s in "ab" for i in range(DOCUMENTS)}
    found = pa.concat_tables(tables(workdir, "annotations (toxicity)"))
    assert found["shard"].unique().to_pylist() == ["2019/a.jsonl.gz", "2019/b.jsonl.gz"]
    assert found["toxicity"].null_count == 16 and len(parts) > 3
    # Attributes of one shard that are written anew: the units of the other are found.
    attributes(tmp_path, "b", 12)
    texts, now = run()
    assert texts == {f"{s}-{i}": expected(s, i, {"a": 10, "b": 12}[s]) for s in "ab" for i in range(DOCUMENTS)}
    fresh = set(now) - set(parts)
    assert 0 < len(fresh) <= len(parts) // 2 and set(parts) <= set(now)
