"""Finds the directions of a run's tags in a model, and measures them against chance.

Documents are drawn in three: directions are found in some, weights and layers chosen on others, and what is reported is
measured on the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from annotate.directions.direction import Direction, DirectionCard, Found, difference_of_means, mean_difference
from annotate.directions.log_odds import log_odds
from annotate.directions.measures import (
    RANDOM,
    Bool,
    cosine,
    cosine_to_texts,
    equivalence,
    of_equal_norm,
)
from annotate.directions.progress import Tell
from annotate.directions.readings import Parts, Readings
from annotate.directions.report import Curves, DirectionsReport, LayerReport, Recombined, TagReport, file_name
from annotate.directions.rows import fitted
from annotate.directions.spans import TaggedSpans
from annotate.directions.steering import Additions
from annotate.directions.subject import WEIGHTS, Subject, added
from annotate.errors import ConfigError
from annotate.models.base import FloatArray
from annotate.proof.discrimination import auroc_interval
from annotate.proof.intervals import LEAST, Interval

Vectors = Mapping[Found, FloatArray]
"""Directions by how they were found: float32 `[n_layers, width]` each."""


@dataclass(frozen=True, kw_only=True)
class Steered:
    """A direction in one layer with the weight that was chosen for it.

    Attributes:
        weight: of the direction, in units of itself.
        chosen: its steering equivalence on the documents that it was chosen on.
        addition: what is added to the hidden states.
        measured: its steering equivalence on others.
        curve: by weight, its steering equivalence on the documents that weights are chosen on; NaN where there is none.
    """

    weight: float
    chosen: float
    addition: Additions
    measured: Interval
    curve: tuple[float, ...]


Steering = Mapping[tuple[str, int], Steered]
"""By kind of direction ("tags", "texts", "random 0", ...) and layer; empty for a model that has not seen the tags."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A tag, what it is set against, and what was found of it."""

    report: TagReport
    directions: Mapping[Found, Direction]
    steering: Steering
    anchors: tuple[str, str]


def find_directions(
    workdir: str | PathLike[str],
    model: str,
    tags: str | Sequence[str],
    *,
    against: str | Sequence[str] = (),
    untagged: bool = False,
    documents: int = 500,
    layers: Sequence[int] | None = None,
    weights: Sequence[float] = WEIGHTS,
    output: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    tell: Tell = lambda line: None,
) -> DirectionsReport:
    """Find the directions of tags in a model's hidden states, and measure them.

        report = find_directions("out", "model", "nice")
        report.directions["nice", "tags"].save("nice.safetensors")

    Args:
        workdir: of a finished run: its documents, and the tags of their spans. Give documents that the model was not
            trained on, if you can.
        model: a folder or a hub name of a causal language model, with its tokenizer. It was trained on the run's token
            shards, unless `untagged`.
        tags: names of tags; each has its own directions. With two or more, pairs are recombined.
        against: the tags that each is set against, such as the opposite one. Empty: text without the tag.
        untagged: whether the model has not seen the tags. Directions are then found in texts alone.
        documents: how many to look at, from the first scored one on; three fifths are for finding, one for choosing,
            one for measuring.
        layers: those to look at, counted from 1. None: up to six, evenly spaced, with the last.
        weights: how often a direction may be added, in units of itself.
        output: the token shards whose documents are looked at, such as those of held-out text. None: all that are
            scored.
        device: "cpu" or "cuda".
        seed: of random directions, permutations and draws.
        tell: is given lines that say what goes on.

    Raises:
        ConfigError: the model can't be read, or has no rows for the tags; a tag is not known, or no span has it; there
            are too few documents; or a layer does not exist.
        StorageError: the run has no scores, or no token shards.
    """
    tell(f"loading {model}")
    subject = Subject.load(
        workdir, model, output=output, untagged=untagged, device=device, layers=layers, weights=weights, seed=seed
    )
    names = (tags,) if isinstance(tags, str) else tuple(tags)
    if len({file_name(name, "") for name in names}) < len(names):
        raise ConfigError(f"the tags {', '.join(names)} have files of one name", hint="Look at them one by one.")
    opposite = subject.named(against)
    tell(f"reading {documents:,} documents of {workdir}")
    found = TaggedSpans.of_run(workdir, documents=documents, output=output)
    there = sorted({tag for tags in found.tags for each in tags for tag in each})
    for missing in {each for name in names for each in subject.named(name)} - set(there):
        raise ConfigError(
            f"no span of these {len(found.spans)} documents has the tag {missing!r}; tags there: {', '.join(there)}",
            hint="Check the name, or look at more documents: --documents.",
        )
    longest = [] if untagged else [*(each for name in names for each in subject.named(name)), *opposite]
    texts = fitted(found, subject.reader, longest, subject.max_length)
    if dropped := len(found.spans) - len(texts.spans):
        tell(f"{dropped} documents left out: their first span is longer than the model's {subject.max_length:,} tokens")
    parts = Parts.of(texts, seed=seed)
    sizes = tuple(len(part.spans) for part in (parts.finding, parts.choosing, parts.measuring))
    tell(f"{len(texts.spans)} documents: {sizes[0]} to find, {sizes[1]} to choose, {sizes[2]} to measure")
    if sizes[2] < LEAST:
        tell(f"too few to measure an AUROC, which needs {LEAST}: look at more documents")
    readings = Readings.of(subject, parts, opposite, tell)
    conditions = [studied(readings, name, tell) for name in names]
    pairs = itertools.combinations(conditions, 2) if subject.knows_tags else ()
    return DirectionsReport(
        model=model,
        documents=(sizes[0], sizes[1], sizes[2]),
        dropped=dropped,
        max_length=subject.max_length,
        weights=subject.weights,
        tags=tuple(each.report for each in conditions),
        recombined=tuple(recombined(readings, *pair, tell) for pair in pairs),
        directions={
            (condition.report.tag, kind): each
            for condition in conditions
            for kind, each in condition.directions.items()
        },
        anchors={condition.report.tag: condition.anchors for condition in conditions},
    )


def studied(readings: Readings, name: str, tell: Tell) -> Condition:
    """Find the directions of a tag, and measure them."""
    subject, parts, against = readings.subject, readings.parts, readings.against
    own = subject.named(name)
    having, lacking = parts.finding.sides(own, against)
    plain = readings.finding
    vectors: dict[Found, FloatArray] = {"texts": difference_of_means(plain, having, lacking)}
    if subject.knows_tags:
        rows = subject.reader.under(parts.finding, own)
        under = subject.states(rows, parts.finding, tell, f"hidden states of the same under <{name}>")
        vectors["tags"] = mean_difference(under, readings.opposite)
    tell(f"<{name}>: directions found, of {having.sum():,} spans with it and {lacking.sum():,} without")
    steering = steered_best(subject, vectors, own, against, parts, tell)
    layers = []
    for layer in subject.layers:
        of_layer: Vectors = {kind: vector[layer - 1] for kind, vector in vectors.items()}
        told = told_apart(subject, of_layer, readings.measuring[layer], parts.measuring, own, against)
        layers.append(
            LayerReport(
                layer=layer,
                norm=float(np.linalg.norm(of_layer.get("tags", of_layer["texts"]))),
                auroc=told.get("tags"),
                auroc_texts=told["texts"],
                **_cosines(subject, of_layer, plain[layer - 1], (having, lacking), own, against),
                **_steered(steering, layer),
            )
        )
    lead: Found = "tags" if subject.knows_tags else "texts"
    if steering:
        best = max(subject.layers, key=lambda layer: steering["tags", layer].chosen)
    else:
        best = _best_told(readings, vectors["texts"], own)
    report = TagReport(
        tag=name,
        against=against,
        spans=(int(having.sum()), int(lacking.sum())),
        layers=tuple(layers),
        best=best,
        auroc_alone=_told_alone(readings, vectors[lead], best, own),
        additivity=log_odds(readings, own, vectors[lead], best, tell),
    )
    cards = {
        kind: DirectionCard(model=subject.hashes, found=kind, tags=own, against=against, spans=report.spans[0])
        for kind in vectors
    }
    return Condition(
        report=report,
        directions={kind: Direction(card=cards[kind], vectors=vector) for kind, vector in vectors.items()},
        steering=steering,
        anchors=_anchors(readings, vectors[lead], best),
    )


def told_apart(
    subject: Subject,
    of_layer: Vectors,
    states: FloatArray,
    texts: TaggedSpans,
    own: tuple[str, ...],
    against: tuple[str, ...],
) -> dict[Found, Interval]:
    """AUROC of spans' projections on each direction as a sign of the tag.

    Args:
        subject: the model.
        of_layer: directions, float32 `[width]`.
        states: float32 `[n_spans, width]`, of the untagged spans of `texts`.
        texts: whose spans have tags.
        own: the tags.
        against: those they are set against.
    """
    having, lacking = texts.sides(own, against)
    kept = (having | lacking) & ~np.isnan(states).any(axis=1)
    projected = {kind: states[kept].astype(np.float64) @ vector for kind, vector in of_layer.items()}
    return {
        kind: auroc_interval(values, having[kept], texts.documents[kept], seed=subject.seed)
        for kind, values in projected.items()
    }


def _told_alone(readings: Readings, vectors: FloatArray, layer: int, own: tuple[str, ...]) -> Interval:
    """AUROC of the probe that is made of a direction, which reads each span by itself."""
    lead: Vectors = {"tags": vectors[layer - 1]}
    measured = readings.parts.measuring
    return told_apart(readings.subject, lead, readings.alone[layer], measured, own, readings.against)["tags"]


def steered_best(
    subject: Subject,
    vectors: Vectors,
    own: tuple[str, ...],
    against: tuple[str, ...],
    parts: Parts,
    tell: Tell,
) -> Steering:
    """How each direction steers in each layer, with the weight that is best on other documents; random ones too."""
    if not subject.knows_tags:
        return {}
    drawn = of_equal_norm(vectors["tags"], RANDOM, seed=subject.seed)
    every: dict[str, FloatArray] = {f"random {k}": each for k, each in enumerate(drawn)}
    every.update({kind: vector for kind, vector in vectors.items()})  # noqa: C416 - mypy sees keys of another type
    keys = [(kind, layer) for kind in every for layer in subject.layers]
    tries = [{}, *(added(every[kind], layer, weight) for kind, layer in keys for weight in subject.weights)]
    sums = subject.divergences(parts.choosing, own, against, tries, tell).sum(axis=1)
    if not np.isfinite(sums[0]):
        raise ConfigError(
            f"model {subject.hashes.name!r} gives numbers that are none, where it reads the text of this run",
            hint="Its weights may be damaged, or its dtype may not hold its states.",
        )
    tried = sums[1:].reshape(len(keys), len(subject.weights))
    after = np.nan_to_num(tried, nan=np.inf)
    best = after.argmin(axis=1).tolist()
    chosen = [added(every[kind], layer, subject.weights[k]) for (kind, layer), k in zip(keys, best, strict=True)]
    measured = subject.divergences(parts.measuring, own, against, [{}, *chosen], tell)
    return {
        key: Steered(
            weight=subject.weights[k],
            chosen=float(1 - after[i, k] / sums[0]) if sums[0] else 0.0,
            addition=chosen[i],
            measured=equivalence(measured[i + 1], measured[0], seed=subject.seed),
            curve=tuple((1 - of_choosing / sums[0]).tolist()) if sums[0] else (0.0,) * len(subject.weights),
        )
        for i, (key, k, of_choosing) in enumerate(zip(keys, best, tried, strict=True))
    }


def recombined(readings: Readings, first: Condition, second: Condition, tell: Tell) -> Recombined:
    """Two directions added together, against the model under both tags."""
    subject, texts, against = readings.subject, readings.parts.measuring, readings.against
    names = (first.report.tag, second.report.tag)
    alone = [dict(each.steering["tags", each.report.best].addition) for each in (first, second)]
    both = dict(alone[0])
    for layer, vector in alone[1].items():
        both[layer] = both[layer] + vector if layer in both else vector
    found = subject.divergences(texts, subject.named(names), against, [{}, both, *alone], tell)
    shares = [equivalence(each, found[0], seed=subject.seed) for each in found[1:]]
    return Recombined(tags=names, equivalence=shares[0], alone=(shares[1], shares[2]))


def _cosines(
    subject: Subject,
    of_layer: Vectors,
    states: FloatArray,
    labelled: tuple[Bool, Bool],
    own: tuple[str, ...],
    against: tuple[str, ...],
) -> dict[str, Any]:
    """The fields of a layer's report that have cosines of the direction of tags."""
    trained = subject.reader.trained
    if trained is None:
        return {}
    table = subject.model.get_input_embeddings().weight.detach().float().cpu().numpy()
    means = [
        table[[trained.vocabulary.id_of(name, "open") for name in names]].mean(axis=0) if names else 0.0 * table[0]
        for names in (own, against)
    ]
    same = table.shape[1] == len(of_layer["tags"])  # some models have narrower embeddings
    return {
        "cosine": cosine_to_texts(of_layer["tags"], states, *labelled, seed=subject.seed),
        "cosine_to_embeddings": cosine(of_layer["tags"], means[0] - means[1]) if same else None,
    }


def _best_told(readings: Readings, vectors: FloatArray, own: tuple[str, ...]) -> int:
    """The layer whose direction of texts tells spans apart best."""
    subject, texts, states = readings.subject, readings.parts.choosing, readings.choosing
    assert states is not None, "the model has not seen the tags"
    found = {
        layer: told_apart(subject, {"texts": vectors[layer - 1]}, states[layer], texts, own, readings.against)
        for layer in subject.layers
    }
    return max(found, key=lambda layer: np.nan_to_num(found[layer]["texts"].value))


def _steered(steering: Steering, layer: int) -> dict[str, Any]:
    """The fields of a layer's report that steering gives."""
    if not steering:
        return {}
    tags, texts = (steering[kind, layer] for kind in ("tags", "texts"))
    random = [steering[f"random {k}", layer] for k in range(RANDOM)]
    return {
        "weight": tags.weight,
        "equivalence": tags.measured,
        "weight_texts": texts.weight,
        "equivalence_texts": texts.measured,
        "equivalence_random": max(each.measured.value for each in random),
        "curves": Curves(tags=tags.curve, texts=texts.curve, random=tuple(each.curve for each in random)),
    }


def _anchors(readings: Readings, vectors: FloatArray, layer: int) -> tuple[str, str]:
    """The spans with the lowest and the highest projection, read by themselves, as a probe does."""
    projected = readings.short_alone[layer].astype(np.float64) @ vectors[layer - 1]
    return readings.short[int(np.nanargmin(projected))], readings.short[int(np.nanargmax(projected))]
