"""How long the tags of schemes are in force, for readers that begin in the middle of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.tags.layouts import LAYOUTS
from annotate.tags.scheme import TagScheme
from annotate.text.arrays import one_array

NOWHERE = -1


@dataclass(frozen=True)
class InForce:
    """The tags of nested schemes, as they are between angle brackets, and how long each is in force.

    Of each family one tag is at most: it is so from where it stands until another of its family stands, or its closing
    tag does, or its span ends, where it is of one.

    Attributes:
        names: of all tags.
        closing: those that have a closing tag.
        families: by name; `NOWHERE` for a tag behind what it is of, or inside it.
        of_spans: by number of the scheme, the tags that stand before a span and are in force no longer than it lasts.
    """

    names: list[str]
    closing: list[str]
    families: dict[str, int]
    of_spans: dict[int, list[str]]

    def identity(self) -> list[Any]:
        """All that decides where a tag is in force, JSON-ready."""
        return [self.closing, self.families, [*self.of_spans.items()]]


def in_force(schemes: Sequence[TagScheme]) -> InForce:
    """How long the tags of schemes are in force, the outermost scheme first."""
    found = InForce([], [], {}, {})
    number = 0
    for i, scheme in enumerate(schemes):
        shown = dict(zip(scheme.names, scheme.shown, strict=True))
        found.names.extend(scheme.shown)
        found.closing.extend(shown[name] for name in scheme.closed)
        for family, own in scheme.names_by_family:
            number += 1
            lasts = LAYOUTS[family.layout].in_force
            found.families.update({shown[name]: NOWHERE if lasts == "nowhere" else number for name in own})
            if lasts == "span":
                found.of_spans.setdefault(i, []).extend(shown[name] for name in own)
    return found


def span_ends(placements: pa.Table, tags: Sequence[str], spans: pa.Table, ends: pa.ChunkedArray) -> pa.Array:
    """Where the spans end that these tags stand before; null for other tags.

    Args:
        placements: columns `row`, `byte_offset` (int64), `tag`; one of these tags is at the start of a span.
        tags: that are of spans.
        spans: columns `row`, `byte_start` (int64), sorted.
        ends: int64 `[n_spans]`, their ends, by whatever text.

    Returns:
        int64 `[n_placements]`.
    """
    chosen = one_array(pc.is_in(placements["tag"].cast(pa.string()), pa.array(tags, pa.string())))
    # Units have fewer than 2^27 documents, of less than 2^36 bytes.
    begins = (spans["row"].to_numpy() << 36) + spans["byte_start"].to_numpy()
    at = (placements["row"].to_numpy() << 36) + placements["byte_offset"].to_numpy()
    of_tags = one_array(ends).take(pa.array(np.searchsorted(begins, at[chosen.to_numpy(zero_copy_only=False)])))
    return pc.replace_with_mask(pa.nulls(len(at), pa.int64()), chosen, of_tags)
