"""Names from a corpus: they leave no work directory, reach no shell, and steer no terminal."""

import re
import unicodedata
from pathlib import Path

import here
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import support

import annotate as package
from annotate.cli import local_ray
from annotate.cli.terminal import visible

ESCAPES = ("\x1b]0;title\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe", "\u2066x", "\r", "\x00", "\x7f")
NAMES = (
    "../../../up",
    "/etc/up",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned;",
    "[bold red]x[/]",
    "[/]",
    "con\nnext",
    "empty",
    "spells",
)
FILES = ("a $(touch pwned)", "b; touch pwned;", "c [bold]x", "d ..", "e%2f..%2fup", "f \u202egnp")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a corpus all of whose names are hostile, and a pipeline over it."""
    place = tmp_path_factory.mktemp("hostile")
    (place / "corpus").mkdir()
    hostile = [*ESCAPES, *NAMES]
    for number, name in enumerate(FILES):
        texts = [support.sentences(100 * number + i, 4) for i in range(len(hostile))]
        table = pa.table(
            {
                "id": [f"{each}{number}" for each in hostile],
                "text": [*texts[:-2], "", f"{texts[-1]} \x1b[31m <nice>"],
                "source": hostile,
                "\x1b[35m[bold]col": hostile,
                "../up": hostile,
            }
        )
        pq.write_table(table, place / "corpus" / f"{name}.parquet")
    (place / "mine.py").write_text(PIPELINE)
    return place


PIPELINE = """
import hashlib

import numpy as np

from annotate import *


def odd(table):
    return np.array([hashlib.sha256(text.encode()).digest()[0] for text in table["text"].to_pylist()], np.float32)


def pipeline(corpus: str = "corpus") -> Pipeline:
    documents = Corpus(corpus, unit_bytes=1000)
    scores = score(Split(documents), [PythonScorer(function=odd, axes=["odd"])], skip=NearDuplicates(documents))
    scheme = TagScheme(tags=[Tag(name="nice", rule="odd > 128")])
    mix = Mix(column="source", weights=[("[/]", 0.2), ("\\x1b[2J", 0.2), ("*", 0.6)])
    return Pipeline(
        mixed=Render(Place(scores, scheme, schedule=Schedule(mix=mix))), plain=Render(Place(scores, scheme))
    )
"""


def steering(text):
    """The characters of a text that steer a terminal, or turn the direction of what follows."""
    turning = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
    return sorted(
        {
            c
            for c in text
            if c not in "\n\t" and (unicodedata.category(c) == "Cc" or unicodedata.bidirectional(c) in turning)
        }
    )


@pytest.mark.slow
def test_all_that_commands_print_of_such_a_corpus_is_harmless(world, annotate, monkeypatch):
    monkeypatch.chdir(world)
    monkeypatch.setattr(local_ray, "ray_running", lambda address, console: here.ray_here())
    before = files(world.parent)
    told = {}
    for name, words in {
        "plan": ("run", "mine.py", "--workdir", "out", "--plan", "--sample", "0"),
        "run": ("run", "mine.py", "--workdir", "out"),
        "again": ("run", "mine.py", "--workdir", "out", "--plan", "--sample", "0"),
        "status": ("status", "out"),
        "show": ("show", "out", "--output", "mixed", "-n", "200"),
        "scores": ("show", "out", "--output", "plain", "--scores", "-n", "200"),
        "one": ("show", "out", "--output", "plain", "--doc", "[/]1"),
        "clean": ("clean", "out", "--dry-run", "--old-units"),
        "missing": ("show", "out", "--output", "plain", "--doc", "\x1b[2Jnone"),
    }.items():
        code, out, err = annotate(*words)
        assert code == (2 if name == "missing" else 0), f"{name}: {err}{out[-2000:]}"
        assert steering(out) == steering(err) == [], (
            name,
            [line for line in (out + err).splitlines() if steering(line)],
        )
        told[name] = out + err
    assert "[bold red]x[/]" in told["scores"] + told["show"], "what looks like markup is shown as it is"
    new = files(world.parent) - before
    assert new and all(path.is_relative_to(world / "out") for path in new), "nothing is outside the work directory"
    assert not any(re.search(r"[^A-Za-z0-9._-]", path.name) for path in new), "names on disk are ours"
    rows = pa.concat_tables([pq.read_table(path) for path in package.shards("out", output="plain")])
    assert "\x1b[2J" in rows["source"].to_pylist(), "the data themselves are not changed"


def test_a_file_name_that_steers_is_refused_and_shown_harmlessly(annotate, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"id": ["a"], "text": ["A text."]}), tmp_path / "a \x1b[2J.parquet")
    (tmp_path / "mine.py").write_text(PIPELINE.replace('"corpus"', "'.'"))
    code, out, err = annotate("run", "mine.py", "--workdir", "out", "--plan", "--sample", "0")
    assert code == 4 and "a \u241b[2J.parquet" in err and not steering(out + err)


def files(folder):
    return {path for path in Path(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_what_steers_a_terminal_is_replaced_one_for_one():
    text = "".join(map(chr, range(0x2100)))
    assert steering(text) != [] and steering(visible(text)) == []
    assert len(visible(text)) == len(text) and visible("a\tb\nç") == "a\tb\nç"
