"""Judges of texts: what tells whether a text is as its tag says. None is the scorer that the tags came from.

A model may learn what a scorer errs in, so its texts are judged by something else. By default that is a bag of words.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from annotate.credentials import redacted
from annotate.errors import ConfigError
from annotate.models.base import Forward, expand
from annotate.proof.gaps import likelihood_ratios
from annotate.proof.intervals import Float64
from annotate.proof.material import Material
from annotate.proof.texts import decoded
from annotate.proof.unigram import Unigram
from annotate.proof.windows import NONE, Int32
from annotate.scorers.anchors import check_anchors
from annotate.scorers.base import Scorer, check_scorer
from annotate.scorers.probe import Probe
from annotate.storage.latest import Latest, made_from, read_latest
from annotate.storage.store import Directory

HOW = ("axes", "columns", "batch_rows", "encoder", "sign", "activation")
"""What does not make a scorer another one, in its identity."""


class Judge(Protocol):
    """Gives each text a score for each tag of a family."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def scores(self, tokens: Int32) -> list[Float64]:
        """Judge texts.

        Args:
            tokens: int32 `[n, length]`, with -1 behind their ends. The first token was given, not written.

        Returns:
            For each family float64 `[n, 1 + tags]`: column 0 is along the grades of a family whose tags are grades in
            order, column k is for tag k. NaN for a text that can't be judged.
        """
        ...


@dataclass(frozen=True, eq=False)
class BagOfWords:
    """Judges a text by how often its tokens occur under each tag in the text of training.

    The score for a tag is the mean over tokens of the log-likelihood ratio of the tag against the others of its family,
    in nats; along the grades it is that of the last tag against the first, or against none. The first token is not
    judged.

    Attributes:
        models: one a family.
    """

    models: tuple[Unigram, ...]
    name: str = "a bag of words, fitted on the spans of training and their tags"

    @staticmethod
    def of(material: Material) -> BagOfWords:
        """Fit it on the text of training."""
        models = [Unigram.of_text(material.text, family, material.vocabulary) for family in material.families]
        return BagOfWords(models=tuple(models))

    def scores(self, tokens: Int32) -> list[Float64]:
        """See `Judge`."""
        written = tokens[:, 1:]
        rows, _ = np.nonzero(written != NONE)
        ids = written[written != NONE].astype(np.int64)
        counts = np.bincount(rows, minlength=len(tokens))
        found = []
        for model in self.models:
            logs = model.likelihoods(ids, rows, len(tokens))
            states = logs.shape[1]
            graded = logs[:, -1] - logs[:, 1 if states > 2 else 0]
            columns = [graded, *(likelihood_ratios(logs, tag) for tag in range(1, states))]
            with np.errstate(invalid="ignore"):  # a text without a token has no mean: NaN
                found.append(np.stack(columns, axis=1) / np.where(counts, counts, np.nan)[:, None])
        return found


@dataclass(frozen=True, eq=False)
class ByScorer:
    """Judges a text by the first axis of a scorer, the same for all tags.

    Attributes:
        name: of the judge.
        scorer: resolved.
        tags: how many tags each family has.
        tokenizer: the `tokenizer.json` of the shards.
        device: "cpu" or "cuda".
    """

    name: str
    scorer: Scorer
    tags: tuple[int, ...]
    tokenizer: bytes
    device: str

    def scores(self, tokens: Int32) -> list[Float64]:
        """See `Judge`.

        Raises:
            ConfigError: its anchors are the wrong way round, or it can score none of the texts.
        """
        return self._scores(self._loaded(), tokens)

    def seconds(self, tokens: Int32, n: int) -> float:
        """How long it takes to judge `n` texts here, by some, int32 `[some, length]`.

        Raises:
            ConfigError: as for `scores`.
        """
        forward = self._loaded()
        started = time.monotonic()
        self._scores(forward, tokens)
        return (time.monotonic() - started) * n / len(tokens)

    def _loaded(self) -> Forward:
        backbone = self.scorer.backbone
        forward = backbone.load([self.scorer], self.device)
        check_anchors([self.scorer], backbone, forward)
        return forward

    def _scores(self, forward: Forward, tokens: Int32) -> list[Float64]:
        backbone = self.scorer.backbone
        prepared = backbone.prepare(pa.table({"text": pa.array(decoded(self.tokenizer, tokens), pa.large_string())}))
        (scores,) = forward(prepared, [0])
        values, failures = expand(prepared, scores)
        if len(failures) == len(tokens):
            raise ConfigError(
                f"the judge ({self.name}) can score no text: {next(iter(failures.values()))}",
                hint="Give another judge; without --judge it is a bag of words.",
            )
        first = values[:, :1].astype(np.float64)
        return [np.repeat(first, 1 + n, axis=1) for n in self.tags]


def scorer_judge(judge: str | Scorer, material: Material, workdir: str | PathLike[str], *, device: str) -> ByScorer:
    """Make a judge of a scorer.

    Args:
        judge: the name of a shipped probe or the path of one; or a scorer that reads nothing but texts.
        material: whose texts are judged.
        workdir: the work directory that it is from.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: there is no such probe; it is no scorer; it reads more than texts; or the tags came from it.
    """
    scorer = Probe(judge) if isinstance(judge, str) else judge
    check_scorer(scorer)
    scorer = scorer.resolved()
    axis = scorer.axes[0]
    if more := sorted({*scorer.backbone.columns} - {"text"}):
        raise ConfigError(
            f"the judge of {axis!r} reads the columns {', '.join(more)}, which written texts do not have",
            hint="Give a judge that reads texts alone.",
        )
    identity = _plain(scorer.identity())
    for item in _made_by(material, workdir):
        settings = _plain(item.settings)
        if item.stage == "annotations" and all(settings.get(key) == value for key, value in identity.items()):
            raise ConfigError(
                f"the judge of {axis!r} is the scorer of {item.label}, which the tags came from: models may have "
                "learned what it errs in",
                hint="Give another judge; without --judge it is a bag of words.",
            )
    return ByScorer(
        name=f"{judge if isinstance(judge, str) else type(scorer).__name__}, its axis {axis!r}",
        scorer=scorer,
        tags=tuple(len(family.ids) for family in material.families),
        tokenizer=material.companions["tokenizer.json"],
        device=device,
    )


def _made_by(material: Material, workdir: str | PathLike[str]) -> list[Latest]:
    """The datasets that the shards were made from."""
    items = read_latest(Directory.at(workdir))
    outputs = [item.output for item in items if item.fingerprint == material.shards[0] and item.output is not None]
    return [found for output in outputs for found in made_from(items, output)]


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a scorer another one, as manifests have it: without credentials, and of its model the files alone."""
    found: dict[str, Any] = json.loads(json.dumps({key: settings[key] for key in settings if key not in HOW}))
    model = found.get("model")
    if isinstance(model, dict):
        head = model.get("head")
        found["model"] = [model.get("model"), head.get("file") if isinstance(head, dict) else None]
    plain: dict[str, Any] = redacted(found)
    return plain
