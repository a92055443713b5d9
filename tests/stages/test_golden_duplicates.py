"""Verdicts on a fixed corpus of 61 documents, byte for byte: tests/golden/near_duplicates.json, one line a document.

Where they are meant to change: `PYTHONPATH=.:benchmarks python tests/stages/test_golden_duplicates.py --write`, and
read the difference line by line. Ids say what a document is: `harbour-decomposed` is `harbour` in Unicode's form D.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from exchanges import run_filter

from annotate import Corpus, NearDuplicates, Options, Pipeline
from annotate.pipeline import make

GOLDEN = Path(__file__).parents[1] / "golden"
CORPUS, VERDICTS = GOLDEN / "near_duplicates", GOLDEN / "near_duplicates.json"
STAGE = NearDuplicates(Corpus(str(CORPUS), unit_bytes=2000))


def documents() -> dict[str, list[dict[str, str]]]:
    """The documents of each shard."""
    return {
        path.name: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in sorted(CORPUS.glob("*.jsonl"))
    }


def told(verdicts: pa.Table) -> str:
    """Verdicts, with their shard and in order, as a person reads them: the golden file."""
    known, lines = documents(), []
    for verdict in verdicts.to_pylist():
        document = known[verdict["shard"]][verdict["row"]]
        line = {
            "id": document["id"],
            "starts": document["text"][:24],
            "at": f"{verdict['shard']}:{verdict['row']}",
            "kept": verdict["kept"],
            "keeper": known[verdict["keeper_shard"]][verdict["keeper_row"]]["id"],
            "keeper_at": f"{verdict['keeper_shard']}:{verdict['keeper_row']}",
            "similarity": verdict["similarity"],  # a 128th of a whole number: all digits of the float32
            "cluster": f"{verdict['cluster']:016x}",
            "split_group": f"{verdict['split_group']:016x}",
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def in_memory(unit_rows: int = 1000) -> pa.Table:
    """Verdicts without Ray; a blank text is one that can't be used, as in a corpus that is read."""
    texts = {
        shard: [each["text"] if each["text"].strip() else None for each in of] for shard, of in documents().items()
    }
    return run_filter(STAGE, texts, unit_rows=unit_rows)[0]


@pytest.mark.parametrize("unit_rows", [1000, 2])
def test_verdicts_are_the_golden_ones(unit_rows: int) -> None:
    assert told(in_memory(unit_rows)) == VERDICTS.read_text("utf-8")


def test_a_run_gives_the_golden_verdicts(ray_in_process, tmp_path: Path) -> None:
    dataset = make(Pipeline(STAGE), tmp_path / "out", Options(workers=2)).datasets[STAGE]
    units = list(dataset.units())
    assert len(units) > 6
    tables = [
        table.add_column(0, "shard", pa.array([unit.shard] * table.num_rows))
        for unit, table in ((unit, STAGE.read(dataset.directory, unit)) for unit in units)
    ]
    assert told(pa.concat_tables(tables)) == VERDICTS.read_text("utf-8")


def test_the_golden_verdicts_are_what_a_person_says() -> None:
    found = {line["id"]: line for line in json.loads(VERDICTS.read_text("utf-8"))}
    assert len(found) == sum(map(len, documents().values())) == 61
    exact = [
        ("harbour", "harbour-decomposed", "harbour-other-blanks", "harbour-copy-in-one-shard"),
        ("short", "short-copy"),
        ("four-words", "four-words-copy"),
        ("train", "train-copy", "train-copy-again"),
        ("chinese", "chinese-copy"),
    ]
    for copies in exact:
        assert len({found[name]["cluster"] for name in copies}) == 1
        assert {found[name]["similarity"] for name in copies} == {1.0}
        assert sum(found[name]["kept"] for name in copies) <= 1
    near = [("bread", "bread-one-word"), ("emoji", "emoji-one-other"), ("japanese", "japanese-half-sentence-more")]
    for name, copy in near:
        assert found[name]["cluster"] == found[copy]["cluster"]
    akin = [("comet", "comet-two-words"), ("train", "train-with-licence"), ("clock", "clock-and-garden")]
    for name, other in akin:
        assert found[name]["cluster"] != found[other]["cluster"]
        assert found[name]["split_group"] == found[other]["split_group"]
    apart = ["empty", "only-blanks", "short-other", "one-word", "lighthouse", "market", "japanese-other"]
    for name in apart:
        assert found[name]["kept"]
    assert len({found[name]["split_group"] for name in apart}) == len(apart)


if __name__ == "__main__" and "--write" in sys.argv:
    VERDICTS.write_text(told(in_memory()), "utf-8")
