"""What was measured of directions, as values and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from annotate.directions.direction import Direction, Found
from annotate.directions.measures import Additivity, Cosine
from annotate.pictures import Line, picture
from annotate.proof.intervals import Interval
from annotate.storage.store import Directory

REPORT = "report.json"
FOUND: tuple[Found, ...] = ("tags", "texts")


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Steering equivalence by weight, on the documents that weights are chosen on; NaN where there is none.

    Attributes:
        tags: of the direction of tags.
        texts: of the direction of texts.
        random: of random directions of equal norm, one each.
    """

    tags: tuple[float, ...]
    texts: tuple[float, ...]
    random: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """What was measured of a tag's directions in one layer. What needs a model that has seen the tags is None without.

    Attributes:
        layer: counted from 1.
        norm: of the direction of tags, or else of texts.
        cosine: of the direction of tags with that of texts, against permuted labels.
        cosine_to_embeddings: of the direction of tags with the difference of the tags' embeddings.
        auroc: untagged spans that have the tag, told from others by their projection on the direction.
        auroc_texts: the same of the direction of texts.
        weight: how often the direction is added; chosen on other documents.
        equivalence: steering equivalence with that weight.
        weight_texts: as `weight`, of the direction of texts.
        equivalence_texts: likewise.
        equivalence_random: the highest of random directions of equal norm, each with its own weight.
        curves: steering equivalence with each weight.
    """

    layer: int
    norm: float
    cosine: Cosine | None = None
    cosine_to_embeddings: float | None = None
    auroc: Interval | None = None
    auroc_texts: Interval
    weight: float | None = None
    equivalence: Interval | None = None
    weight_texts: float | None = None
    equivalence_texts: Interval | None = None
    equivalence_random: float | None = None
    curves: Curves | None = None


@dataclass(frozen=True, kw_only=True)
class TagReport:
    """What was measured of the directions of one tag.

    Attributes:
        tag: its name.
        against: what it is set against; empty: text without tags.
        spans: how many spans directions are the means of: with the tag, and without.
        layers: one for each layer that was looked at.
        auroc_alone: of the probe that is written, which projects on the direction in the layer `best`. It reads each
            span by itself.
        best: the layer where steering comes nearest to the tag, on the documents that weights are chosen on.
        additivity: of the log-odds of spans with the tag in that layer.
    """

    tag: str
    against: tuple[str, ...]
    spans: tuple[int, int]
    layers: tuple[LayerReport, ...]
    best: int
    auroc_alone: Interval
    additivity: Additivity


@dataclass(frozen=True, kw_only=True)
class Recombined:
    """Two directions that are added together, against the model under both tags, which nothing was chosen on.

    Attributes:
        tags: the two.
        equivalence: of the sum of both directions, each in its best layer with its own weight.
        alone: of each direction alone.
    """

    tags: tuple[str, str]
    equivalence: Interval
    alone: tuple[Interval, Interval]


@dataclass(frozen=True, kw_only=True)
class DirectionsReport:
    """Directions of some tags in one model, with what was measured of them.

    Attributes:
        model: its name.
        documents: how many documents were used: to find directions, to choose, and to measure.
        dropped: documents whose first span is longer than the model has positions for.
        max_length: tokens of a text at most.
        weights: how often a direction is added, as `curves` has it.
        tags: of each tag.
        recombined: of each pair of tags.
        directions: by tag and how they were found ("tags" or "texts"); not part of the JSON.
        anchors: by tag, the untagged spans with the lowest and the highest projection, of at most 200 characters.
    """

    model: str
    documents: tuple[int, int, int]
    dropped: int
    max_length: int
    weights: tuple[float, ...]
    tags: tuple[TagReport, ...]
    recombined: tuple[Recombined, ...] = ()
    directions: Mapping[tuple[str, Found], Direction] = field(default_factory=dict)
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def save(self, folder: str | PathLike[str]) -> list[str]:
        """Write what was found: the report, for each tag its directions, a probe, and a picture for each layer.

        A tag whose direction is zero in its best layer gets no probe.

        Args:
            folder: where to, which may be a URL. Files of an earlier report of the same tags are replaced.

        Returns:
            The names of the files.

        Raises:
            StorageError: they can't be written.
        """
        place = Directory.at(folder)
        place.put(REPORT, json.dumps(self.as_json(), indent=1, ensure_ascii=False).encode())
        names = [REPORT]
        for tag in self.tags:
            for layer in tag.layers:
                if layer.curves is not None:
                    names.append(file_name(tag.tag, f".steering-{layer.layer}", "svg"))
                    place.put(names[-1], steering_picture(tag, layer.layer, layer.curves, self.weights).encode())
            found = {kind: self.directions[tag.tag, kind] for kind in FOUND if (tag.tag, kind) in self.directions}
            for kind, direction in found.items():
                names.append(file_name(tag.tag, "" if kind == "tags" else ".texts"))
                direction.save(f"{place.url}/{names[-1]}")
            lead = found.get("tags", found["texts"])
            if lead.vectors[tag.best - 1].any():
                names.append(file_name(tag.tag, ".probe"))
                lead.save_probe(
                    f"{place.url}/{names[-1]}",
                    layer=tag.best,
                    axis=re.sub(r"\W", "_", tag.tag),
                    anchors=self.anchors[tag.tag],
                    max_length=self.max_length,
                )
        return names

    def as_json(self) -> dict[str, Any]:
        """The report as JSON has it; null where nothing could be measured."""
        kept = dataclasses.replace(self, directions={})
        values: dict[str, Any] = _plain(dataclasses.asdict(kept))
        del values["directions"]
        return values


def steering_picture(tag: TagReport, layer: int, curves: Curves, weights: tuple[float, ...]) -> str:
    """How near the directions of a tag in a layer bring a model to the tag, by how often they are added: an SVG."""
    values = (0.0, *weights)
    order = sorted(range(len(values)), key=lambda k: values[k])

    def along(curve: Sequence[float]) -> list[float]:
        return [(0.0, *curve)[k] for k in order]

    random = [
        [value for value in each if math.isfinite(value)] for each in zip(*map(along, curves.random), strict=True)
    ]
    fewest = min(map(len, random), default=0)
    measured = "" if fewest == len(curves.random) else f", of {fewest} at least where some could not be measured"
    lines = {
        "of tags": Line(values=along(curves.tags)),
        "of texts": Line(values=along(curves.texts)),
        "random": Line(
            values=[sum(each) / len(each) if each else math.nan for each in random],
            low=[min(each, default=math.nan) for each in random],
            high=[max(each, default=math.nan) for each in random],
        ),
    }
    return picture(
        f"Steering towards <{tag.tag}> in layer {layer}",
        "E, the share of the divergence that goes away, on the documents that weights are chosen on",
        [values[k] for k in order],
        lines,
        axis="how often the direction is added",
        doublings=False,
        shaded=f"lowest to highest of {len(curves.random)} random directions{measured}",
    )


def file_name(tag: str, kind: str, ending: str = "safetensors") -> str:
    """The file of a tag: letters, digits, `_` and `-` of its name, and `_` for all else."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', tag)}{kind}.{ending}"


def _plain(value: Any) -> Any:
    """JSON has no NaN, and no infinity."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
