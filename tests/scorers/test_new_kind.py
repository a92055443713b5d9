"""A kind of scorer that is defined here alone: it runs, shares a forward pass, is found again, and has curves."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from support import to_shards, write_corpus

from annotate import ConfigError, Corpus, Encoder, Options, Probe, Split, Tag, TagScheme, score, shards
from annotate.curves import Platt
from annotate.engine.run import together
from annotate.models.base import Backbone, Prepared, Scores, expand
from annotate.models.repeats import drop_repeats
from annotate.pipeline import make
from annotate.probes.file import EncoderHashes, Feature, Head, ProbeCard, save_probe
from annotate.scorers.base import Scorer
from annotate.stages.score import Score


@dataclass(frozen=True)
class Letters:
    """A backbone without a model: the counts of letters."""

    columns: ClassVar = ("text",)
    gpu: ClassVar = False

    def reading(self):
        return None

    def prepare(self, spans, reading=None):
        distinct, inverse = drop_repeats(spans, self.columns)
        counts = [Counter(text) for text in distinct["text"].to_pylist()]
        truncated = np.zeros(len(inverse), np.bool_)
        return Prepared(arrays={"counts": counts}, inverse=inverse, distinct=len(counts), tokens=0, truncated=truncated)

    def load(self, scorers, device):
        return Counted([scorer.letter for scorer in scorers])


class Counted:
    device = None

    def __init__(self, letters):
        self.letters = letters

    def __call__(self, prepared, wanted):
        counts = prepared.arrays["counts"]
        rows = [[[c[self.letters[i]] / max(1, c.total())] for c in counts] for i in wanted]
        return [Scores(values=np.array(values, np.float32).reshape(-1, 1)) for values in rows]


@dataclass(frozen=True)
class LetterShare:
    """The share of a letter in a span."""

    letter: str
    backbone: ClassVar = Letters()

    @property
    def axes(self):
        return (f"share_{self.letter}",)

    @property
    def anchors(self):
        return {self.axes[0]: ("...", 3 * self.letter)}

    @property
    def curves(self):
        return {self.axes[0]: Platt(a=100.0, b=-8.0)}

    def resolved(self):
        return self

    def identity(self):
        return {"kind": "letter_share", "axes": list(self.axes), "letter": self.letter}


def test_a_kind_of_this_file_runs_and_its_scores_are_found_again(ray_in_process, tmp_path):
    corpus = Corpus(str(write_corpus(tmp_path / "corpus", shards=1)), unit_bytes=3000)
    spans = Split(corpus)
    scores = score(spans, scorers=[LetterShare("e"), LetterShare("a")])
    assert [len(stages) for stages in together(scores)] == [2]
    made = to_shards(scores, TagScheme(tags=(Tag(name="e", rule="p(share_e) >= 0.5 and share_a < 1"),)))
    result = make(made, tmp_path / "out", Options(workers=1, by_value=(__name__,)))
    assert result.result().ledger.states["written"] == 30
    assert any("<e>" in text for text in pl.read_parquet(shards(tmp_path / "out"))["text"])
    texts = pl.read_parquet(tmp_path / "corpus/s0.parquet")["text"]
    cut = _rows(result, spans)
    expected = [texts[row][start:end] for row, start, end in cut.select("row", "start", "end").iter_rows()]
    for stage in scores:
        letter, (axis,) = stage.scorer.letter, stage.axes
        shares = [np.float32(text.count(letter) / len(text)) for text in expected]
        assert _rows(result, stage)[axis].to_list() == shares
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("annotations-*/parts/*")}
    made.run(tmp_path / "out", Options(workers=1, by_value=(__name__,)))
    assert len(parts) >= 2
    assert parts == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("annotations-*/parts/*")}


def _rows(result, stage):
    dataset = result.datasets[stage]
    return pl.concat([pl.from_arrow(stage.read(dataset.directory, unit)) for unit in dataset.units()])


@dataclass(frozen=True)
class Opposite:
    """A kind on a backbone that is there: what a probe says, with the other sign."""

    probe: Probe

    curves: ClassVar = {}
    anchors: ClassVar = {}
    axes: ClassVar = ("opposite",)

    @property
    def backbone(self):
        return self.probe.backbone

    def head(self):
        head = self.probe.head()
        return Head(card=head.card, weight=-head.weight, bias=-head.bias)

    def resolved(self):
        return Opposite(self.probe.resolved())

    def identity(self):
        return {"kind": "opposite", "of": self.probe.identity()}


def test_a_kind_with_a_head_of_its_own_shares_the_forward_pass_of_an_encoder(tiny, spans, tmp_path):
    encoder = Encoder(tiny("bert-encoder"))
    hashes = EncoderHashes(name=encoder.model, **encoder.files().hashes())
    card = ProbeCard(
        axis="nice", encoder=hashes, features=(Feature(layer=1),), max_length=64, anchors=("a", "b"), meaning="nice"
    )
    weight = np.random.default_rng(0).normal(size=32)
    save_probe(tmp_path / "nice.safetensors", card, weight, 0.5)
    probe = Probe(str(tmp_path / "nice.safetensors"), encoder=encoder)
    stages = score(Split(Corpus(str(write_corpus(tmp_path / "corpus", shards=1)))), scorers=[probe, Opposite(probe)])
    assert [len(some) for some in together(stages)] == [2]
    scorers = [stage.scorer for stage in stages]
    prepared = scorers[0].backbone.prepare(spans)
    one, other = scorers[0].backbone.load(scorers, "cpu")(prepared, [0, 1])
    assert np.array_equal(expand(prepared, one)[0], -expand(prepared, other)[0])


class NoCurves:
    axes = ("x",)
    anchors: ClassVar = {}
    backbone = Letters()

    def resolved(self):
        return self

    def identity(self):
        return {}


class NoLoad:
    columns = ("text",)
    gpu = False

    def reading(self):
        raise NotImplementedError

    def prepare(self, spans, reading=None):
        raise NotImplementedError


def test_what_is_no_scorer_is_refused_by_what_it_lacks(tmp_path):
    spans = Split(Corpus(str(write_corpus(tmp_path / "corpus", shards=1))))
    assert isinstance(LetterShare("e"), Scorer) and isinstance(Letters(), Backbone)
    with pytest.raises(ConfigError, match=r"(?s)NoCurves is no scorer: it has no curves.*annotate.scorers.base.Scorer"):
        Score(spans, NoCurves())
    unfinished = type("Unfinished", (NoCurves,), {"curves": {}, "backbone": NoLoad()})()
    with pytest.raises(ConfigError, match="NoLoad is no backbone: it has no load"):
        Score(spans, unfinished)
    with pytest.raises(ConfigError, match="str is no scorer: it has no axes, backbone"):
        Score(spans, "niceness")
