"""A pipeline with stages that some documents end, or hang; and a corpus with such documents."""

import ctypes
import functools
import os
import sys
import time
import uuid
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from length_scorer import length_scorer
from made_documents import Made, write_contract
from support import sentences

from annotate import Corpus, Options, Pipeline, Place, Render, Schedule, Split, Tag, TagScheme, Thresholds, TokenShards
from annotate.corpus.documents import DocumentReader
from annotate.stages.score import Score
from annotate.storage.manifests import file_rows

DEATHS = {
    "Segfault": lambda: ctypes.string_at(0),
    "Exit": lambda: os._exit(3),
    "Tokenize": lambda: os._exit(3),
    "Hang": lambda: time.sleep(600),
}


def die(texts, *words, calls=""):
    """End this process, or hang, if a text has one of the words; first leave a file for it in the folder `calls`."""
    for text in texts.to_pylist():
        for word in words:
            if text is not None and word in text:
                if calls:
                    Path(calls, uuid.uuid4().hex).touch()
                DEATHS[word]()


@dataclass(frozen=True)
class DeadlyCorpus(Corpus):
    """To read a row of the first unit ends the process, and so does reading those after it. To import a file may, too.

    As if a page of Parquet, or a line, crashed its reader.

    Attributes:
        row: that row of the first shard.
        until: the row after the last of the unit.
        file: the name of the file whose import does.
    """

    _: KW_ONLY
    row: int = 0
    until: int = 0
    file: str = ""

    @property
    def reader(self):  # a cached property has a lock, so that it would not go to workers by value
        found = Corpus.reader.func(self)
        return DeadlyReader(**vars(found), row=self.row, until=self.until)

    def imports(self, directory):
        steps, made = super().imports(directory), None
        while True:
            try:
                step = next(steps) if made is None else steps.send(made)
            except StopIteration as end:
                return end.value
            made = yield replace(step, work=functools.partial(die_at, self.file, step.work))


def die_at(name, work, items):
    if any(Path(str(item)).name == name for item in items):
        os._exit(3)
    return work(items)


@dataclass(frozen=True)
class DeadlyReader(DocumentReader):
    row: int = 0
    until: int = 0

    def _read(self, reader, unit, ours, others):
        bad = unit.shard == "s0.parquet" and unit.start < self.until and unit.stop > self.row
        if bad and not file_rows(unit).unreadable:
            os._exit(3)
        return super()._read(reader, unit, ours, others)


class Longer(Made):
    """The documents of a corpus, with some more words."""

    name = "longer"

    def made(self, documents):
        more = (pa.scalar(text, pa.large_string()) for text in ("More.", " "))
        return {"id": documents["id"], "text": pc.binary_join_element_wise(documents["text"], *more)}


def longer(corpus):
    """Documents that a stage makes of a corpus; their contract lies beside the corpus."""
    return Longer(corpus, write_contract(Path(corpus.path).parent, "longer"))


class DeadlySplit(Split):
    """A map that some documents end, or make take too long."""

    unit_seconds = 2

    def settings(self):
        return {**super().settings(), "deadly": True}

    def unit(self, tables):
        die(tables["corpus"]["text"], "Segfault", "Hang")
        return super().unit(tables)


class DeadlyScore(Score):
    """Documents end what is done before the model: as if its tokenizer crashed."""

    def prepare(self, tables, rows):
        die(tables["corpus"].filter(pa.array(np.isin(tables["corpus"]["row"].to_numpy(), rows)))["text"], "Tokenize")
        return super().prepare(tables, rows)


class Stubborn(Split):
    """Dies whenever a unit has row 3 of the first shard, whatever is in it: as if it could not be read."""

    def unit(self, tables):
        if tables.shard == "s0.parquet" and 3 in tables.rows:
            os._exit(3)
        return super().unit(tables)


@dataclass(frozen=True)
class DeadlyRender(Render):
    """A map that gathers units, or a shuffle, that some documents end."""

    _: KW_ONLY
    calls: str = ""

    def rows(self, documents, tables, bad, counts):
        die(documents.table["text"], "Exit", calls=self.calls)
        return super().rows(documents, tables, bad, counts)


@dataclass(frozen=True)
class DeadlyTokens(TokenShards):
    """Documents end what tokenizes them: in the partition of a shuffle, if there is a schedule."""

    _: KW_ONLY
    calls: str = ""

    def part(self, rows):
        die(rows["text"], "Segfault", "Exit", "Hang", calls=self.calls)
        return super().part(rows)


def write(folder, bad=(), *, invalid=False, shards=2):
    """Shards of 12 documents; some have a deadly word, or as many bytes that are no UTF-8."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        texts = [sentences(i, 3).encode() for i in range(12 * shard, 12 * shard + 12)]
        for row, word in bad:
            if row // 12 == shard:
                text = f"{word} here. ".encode() + texts[row % 12]
                texts[row % 12] = b"\xff" * len(text) if invalid else text
        _, offsets, data = pa.array(texts, pa.binary()).buffers()
        text = pa.StringArray.from_buffers(len(texts), offsets, data)
        pq.write_table(pa.table({"text": text, "n": range(len(texts))}), folder / f"s{shard}.parquet")
    return folder


def pipeline(
    folder,
    *,
    split=DeadlySplit,
    schedule=None,
    calls="",
    tokens=None,
    both=False,
    made=lambda corpus: corpus,
    corpus=Corpus,
    corpus_options=None,
    **options,
):
    """With the settings of token shards in `tokens`, there are such, or both; else text shards."""
    documents = corpus(folder, id=None, unit_bytes=900, **(corpus_options or {}))
    spans = split(made(documents), **options)
    scores = [DeadlyScore(spans, length_scorer())]
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"), Tag(name="any", rule="not length < -1")))
    placements = Place(Thresholds(scores, scheme), schedule=schedule)
    text = DeadlyRender(placements, part_bytes=1500, calls=calls)
    if tokens is None:
        return Pipeline(text)
    windows = DeadlyTokens(placements, window=64, loss="train", part_bytes=1500, calls=calls, **tokens)
    return Pipeline(text=text, tokens=windows) if both else Pipeline(windows)


class Hungry(Split):
    """Takes all the memory there is for some document: the kernel ends its process."""

    def unit(self, tables):
        taken = []
        while any("Hungry" in text for text in tables["corpus"]["text"].to_pylist()):
            taken.append(np.ones(1 << 22))
        return super().unit(tables)


if __name__ == "__main__":  # CORPUS WORKDIR CALLS [TOKENIZER]; with a tokenizer, token shards in training order
    import deadly
    import ray

    corpus, workdir, calls, *tokenizer = sys.argv[1:]
    ray.init(log_to_driver=False, logging_level="ERROR")
    order = {"schedule": Schedule(seed=3), "tokens": {"tokenizer": tokenizer[0]}} if tokenizer else {}
    made = deadly.pipeline(Path(corpus), split=Split, calls=calls, **order)
    made.run(workdir, Options(workers=2, by_value=("deadly", "support", "length_scorer")))
