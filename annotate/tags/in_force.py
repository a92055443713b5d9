"""How long tags are in force: what a reader has to know who begins in the middle of a document.

Token shards need it: a document that is cut at the end of a window goes on in another one, under the same tags.
"""

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
    """How long each tag of some nested schemes is in force. Tags are named as they stand between angle brackets.

    One tag of a family is in force at most. It is so from where it stands until another tag of its family stands, or
    its closing tag does, or, with some layouts, its span ends.

    Attributes:
        names: all tags.
        closing: the tags that have a closing tag.
        families: the number of each tag's family; `NOWHERE` for a tag that is in force nowhere, since it stands after
            its span or inside it.
        of_spans: by number of the scheme, the tags that are in force no longer than their span.
    """

    names: list[str]
    closing: list[str]
    families: dict[str, int]
    of_spans: dict[int, list[str]]

    def identity(self) -> list[Any]:
        """All that decides where a tag is in force, as JSON."""
        return [self.closing, self.families, [*self.of_spans.items()]]


def in_force(schemes: Sequence[TagScheme]) -> InForce:
    """How long the tags of nested schemes are in force; the outermost scheme is the first."""
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
    """Find the end of the span of each placement, for tags that are in force no longer than their span.

    Args:
        placements: columns `row`, `byte_offset` (int64), `tag`. A placement of one of these tags is at a span's start.
        tags: those that are in force no longer than their span.
        spans: columns `row`, `byte_start` (int64), sorted.
        ends: int64 `[n_spans]`, what to give as the end of each span: its offset in whatever text is written.

    Returns:
        int64 `[n_placements]`; null for other tags.
    """
    chosen = one_array(pc.is_in(placements["tag"].cast(pa.string()), pa.array(tags, pa.string())))
    # Row and offset in one number: a unit has fewer than 2^27 documents, of less than 2^36 bytes each.
    begins = (spans["row"].to_numpy() << 36) + spans["byte_start"].to_numpy()
    at = (placements["row"].to_numpy() << 36) + placements["byte_offset"].to_numpy()
    of_tags = one_array(ends).take(pa.array(np.searchsorted(begins, at[chosen.to_numpy(zero_copy_only=False)])))
    return pc.replace_with_mask(pa.nulls(len(at), pa.int64()), chosen, of_tags)
