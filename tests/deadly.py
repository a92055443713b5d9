"""A pipeline with stages that some documents end, or hang; and a corpus with such documents."""

import ctypes
import os
import sys
import time
import uuid
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from length_scorer import length_scorer
from support import sentences

from annotate import Corpus, Options, Pipeline, Place, Render, Schedule, Split, Tag, TagScheme, Thresholds, TokenShards
from annotate.stages.score import Score

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
    folder.mkdir(exist_ok=True)
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


def pipeline(folder, split=DeadlySplit, schedule=None, calls="", tokens=None, **options):
    """With the settings of token shards in `tokens`, there are such; else text shards."""
    spans = split(Corpus(folder, id=None, unit_bytes=900), **options)
    scores = [DeadlyScore(spans, length_scorer())]
    scheme = TagScheme(tags=(Tag(name="long", rule="length >= q(0.5)"), Tag(name="any", rule="not length < -1")))
    placements = Place(Thresholds(scores, scheme), schedule=schedule)
    if tokens is not None:
        return Pipeline(DeadlyTokens(placements, window=64, loss="train", part_bytes=1500, calls=calls, **tokens))
    return Pipeline(DeadlyRender(placements, part_bytes=1500, calls=calls))


class Hungry(Split):
    """Takes all the memory there is for some document: the kernel ends its process."""

    def unit(self, tables):
        taken = []
        while any("Hungry" in text for text in tables["corpus"]["text"].to_pylist()):
            taken.append(np.ones(1 << 22))
        return super().unit(tables)


if __name__ == "__main__":  # CORPUS WORKDIR CALLS TOKENIZER
    import deadly
    import ray

    hook = {name: os.environ[name] for name in ("ANNOTATE_FAULT_HOOK", "FAULT_PLAN")}
    ray.init(log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": hook})
    order, tokens = Schedule(seed=3), {"tokenizer": sys.argv[4]}
    made = deadly.pipeline(Path(sys.argv[1]), split=Split, schedule=order, calls=sys.argv[3], tokens=tokens)
    made.run(sys.argv[2], Options(workers=2, by_value=("deadly", "support", "length_scorer")))
