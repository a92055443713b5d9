"""Runs the near-duplicate filter without Ray or files: its stages on tables in memory, in units of a given size.

`duplicates.py` and the tests use it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa

from annotate.graph import AGAINST, RANGE_UNITS, Partitions, Received, Shuffle, Tables, graph
from annotate.stages.corpus import Corpus
from annotate.stages.duplicates.shared_spans import Fingerprints, KeptFingerprints
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.signatures import Signatures
from annotate.storage.contracts import contract
from annotate.storage.parts import UnitOutput

Texts = Sequence[str | None]


class Given(Tables):
    """Tables that are given instead of read."""

    def __init__(self, shard: str, start: int, stop: int, number: int = 0, **tables: pa.Table) -> None:
        self._shard, self._rows, self._tables, self.number = shard, range(start, stop), tables, number

    @property
    def shard(self) -> str:
        """As given."""
        return self._shard

    @property
    def rows(self) -> range:
        """As given."""
        return self._rows

    @property
    def sent(self) -> pa.Table:
        """The first table given."""
        return next(iter(self._tables.values()))

    def __getitem__(self, name: str) -> pa.Table:
        """The table given for this input."""
        return self._tables[name]


def documents(texts: Texts, start: int = 0) -> pa.Table:
    """A unit of a corpus."""
    rows = range(start, start + len(texts))
    return pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "id": pa.array([f"d{row}" for row in rows], pa.large_string()),
            "text": pa.array(texts, pa.large_string()),
            "problem": pa.array(["the text is null" if text is None else None for text in texts], pa.string()),
        }
    )


def run_filter(
    stage: NearDuplicates,
    shards: Mapping[str, Texts],
    *,
    against: Mapping[str, Texts] | None = None,
    unit_rows: int = 1000,
    counts: Counter[tuple[str, str]] | None = None,
) -> tuple[pa.Table, dict[str, list[pa.Table]]]:
    """Run the filter.

    If several stages have the same label, the second one's ends with #2 and so on, as in the engine.

    Args:
        stage: the filter.
        shards: texts, by shard.
        against: texts of the older corpus, by shard.
        unit_rows: documents in a unit.
        counts: if given, the counts of the shuffles are added to it, by their label and the name of the count.

    Returns:
        The verdicts on all documents, with their shard, in order; and the tables of each stage, by its label.
    """
    units = {stage.corpus: _units(shards, unit_rows)}
    if stage.against is not None:
        units[stage.against] = _units(against or {}, unit_rows)
    rows = sum(map(len, shards.values()))
    made: dict = {}
    for each in graph([stage]):
        if isinstance(each, Corpus):
            made[each] = [unit["corpus"] for unit in units[each]]
        elif isinstance(each, Signatures | Fingerprints):
            made[each] = [_checked(each, each.unit(unit).table) for unit in units[each.corpus]]
        elif isinstance(each, KeptFingerprints):
            made[each] = [
                _checked(each, each.unit(_given(each, made, unit, number)).table)
                for number, unit in enumerate(units[each.corpus])
            ]
        elif isinstance(each, Shuffle):
            made[each] = _exchange(each, made, units, rows, Counter() if counts is None else counts)
    verdicts = []
    for number, unit in enumerate(units[stage.corpus]):
        table = _checked(stage, stage.unit(_given(stage, made, unit, number)).table)
        verdicts.append(table.add_column(0, "shard", pa.array([unit.shard] * table.num_rows, pa.string())))
    labels = Counter()
    named = {}
    for each, tables in made.items():
        labels[each.label] += 1
        named[each.label if labels[each.label] == 1 else f"{each.label} #{labels[each.label]}"] = tables
    return pa.concat_tables(verdicts), named


def _given(stage: NearDuplicates | KeptFingerprints, made: dict, unit: Given, number: int) -> Given:
    """The tables that a map reads: of each input the same unit, or the range that the unit is in."""
    read = {
        name: made[source][number // RANGE_UNITS if isinstance(source, Shuffle) else number]
        for name, source in stage.inputs.items()
    }
    return Given(unit.shard, unit.rows.start, unit.rows.stop, number, **read)


def _units(shards: Mapping[str, Texts], unit_rows: int) -> list[Given]:
    cuts = [(shard, texts, at) for shard, texts in shards.items() for at in range(0, len(texts), unit_rows)]
    return [
        Given(shard, at, min(at + unit_rows, len(texts)), n, corpus=documents(texts[at : at + unit_rows], at))
        for n, (shard, texts, at) in enumerate(cuts)
    ]


def _exchange(stage: Shuffle, made: dict, units: dict, rows: int, counts: Counter) -> list[pa.Table]:
    def documents(names: tuple[str, ...]) -> list[tuple[Given, dict[str, pa.Table]]]:
        """The units of a corpus, each with its tables of these inputs."""
        return [
            (unit, {name.removeprefix(AGAINST): made[stage.inputs[name]][i] for name in names})
            for i, unit in enumerate(units[stage.inputs[names[0]].corpus])
        ]

    beside = [unit for names in stage.beside for unit in documents(names)]
    sizes = {
        name: Totals(
            units=len(made[stage.inputs[name]]), rows=sum(table.num_rows for table in made[stage.inputs[name]])
        )
        for name in stage.sized_by
    }
    partitions = Partitions(stage.partitions({}, sizes), 1 << 30)
    tables = [table for (name,) in stage.sources for table in made[stage.inputs[name]]]
    own = len(units[stage.inputs[stage.beside[0][0]].corpus]) if stage.beside else 0
    for turn in count():
        assert turn < 50, "the rounds don't end"

        def near(partition: int) -> Iterator[Given]:
            for n, (unit, read) in enumerate(beside):
                if n // RANGE_UNITS == partition:
                    yield Given(unit.shard, unit.rows.start, unit.rows.stop, n, **read)

        outputs = shuffled(stage, tables, partitions, beside=near, units=own, rows=rows)
        for output in outputs:
            counts.update({(stage.label, name): n for name, n in output.counts.items()})
        tables = [_checked(stage, output.table) for output in outputs]
        if not stage.rounds or not sum(output.counts["changed"] for output in outputs):
            return tables
    raise AssertionError


@dataclass(frozen=True)
class Totals:
    """The part of a manifest that shuffles read."""

    units: int
    rows: int


def shuffled(
    stage: Shuffle,
    tables: Sequence[pa.Table],
    partitions: Partitions,
    *,
    beside: Callable[[int], Iterable[Tables]] = lambda partition: (),
    units: int = 0,
    rows: int = 0,
) -> list[UnitOutput]:
    """Send the tables of all units, and return what the partitions of a shuffle make of them."""
    sent = [
        contract(stage.sent_schema).check(output.table, stage.name)
        for number, table in enumerate(tables)
        for output in stage.send(Given("", 0, 0, number, sent=table), partitions)
    ]
    everything = pa.concat_tables(sent)
    to = everything["to"].to_numpy()
    assert not len(to) or 0 <= to.min() <= to.max() < partitions.number, "a row was sent to no partition"
    outputs = []
    for partition in range(partitions.number):
        mine = everything.filter(pa.array(to == partition))
        received = Received(partition, lambda mine=mine: iter([mine]), mine.nbytes, beside(partition), units, rows)
        outputs += stage.receive(received)
    return outputs


def _checked(
    stage: Shuffle | NearDuplicates | Signatures | Fingerprints | KeptFingerprints, table: pa.Table
) -> pa.Table:
    return contract(stage.schema).check(table, stage.name).combine_chunks()
