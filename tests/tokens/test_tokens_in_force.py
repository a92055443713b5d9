"""What stands at the head of a window is what is in force there: for all layouts, families, nestings and packings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from token_families import TEXT as PROSE
from token_families import encoder

from annotate.tags.in_force import in_force, span_ends
from annotate.tags.placements import nest
from annotate.tags.placing import place
from annotate.tags.scheme import TagScheme
from annotate.tags.states import Measured, by_rules, shuffled, states
from annotate.tags.vocabulary import Alias, Family, Tag
from annotate.tokens import TagVocabulary, insert, pack
from annotate.tokens.kinds import CLOSE, OPEN, REPEATED, TEXT
from annotate.tokens.packing import Packed

WORDS = sorted({word for text in PROSE[:4] for word in text.split() if len(word) < 9})
STAYS = ("prefix", "begin-end", "change")  # layouts whose tags are in force beyond where they stand


@dataclass(frozen=True)
class Level:
    """Documents cut in spans, with what a scheme makes of them.

    Attributes:
        spans: as `Measured` has them.
        placements: of the scheme.
        truth: for each span the tag of each family that is in force in it, by the states of spans.
    """

    scheme: TagScheme
    spans: pa.Table
    placements: pa.Table
    truth: list[dict[str, str | None]]


@st.composite
def schemes(draw: st.DrawFn, prefix: str) -> TagScheme:
    """Some families of some tags each, in any layouts, with all that decides which of them stand."""
    families, tags = [], []
    for k in range(draw(st.integers(1, 3))):
        name = f"{prefix}{k}"
        many = draw(st.integers(1, 4))
        tags += [Tag(name=f"{name}.{i}", rule=f"{i} < x{k} <= {i + 1}", family=name) for i in range(many)]
        families.append(
            Family(
                name=name,
                layout=draw(st.sampled_from(["prefix", "begin-end", "change", "change", "suffix", "repeat"])),
                dropout=draw(st.sampled_from([0.0, 0.0, 0.3])),
                null=draw(st.sampled_from([None, f"{name}.null"])),
            )
        )
    aliases = ()
    if len(families) > 1 and draw(st.booleans()):
        aliases = (Alias(name=f"{prefix}.alias", tags=(f"{prefix}1.0", f"{prefix}0.0"), expand=False),)
    return TagScheme(
        tags=tuple(tags),
        families=tuple(families),
        aliases=aliases,
        order=draw(st.sampled_from(["fixed", "shuffled"])),
        document_dropout=draw(st.sampled_from([0.0, 0.0, 0.3])),
        control=draw(st.sampled_from(["none", "none", "constant", "reversed", "hashed-names", "shuffled-in-document"])),
    )


@st.composite
def levels(draw: st.DrawFn, texts: list[str], prefix: str, most: int) -> Level:
    """Spans of documents, up to so many each, and tags for them."""
    scheme = draw(schemes(prefix))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for row, text in enumerate(texts):
        cuts = sorted({int(cut) for cut in rng.integers(1, len(text), rng.integers(0, most))})
        rows += [(row, k, a, b, a, b) for k, (a, b) in enumerate(pairwise([0, *cuts, len(text)]))]  # all is ASCII
    names = ("row", "span", "start", "end", "byte_start", "byte_end")
    spans = pa.table([pa.array(column) for column in np.array(rows, np.int64).T], names=names)
    changing = np.round(np.cumsum(rng.normal(0, 0.7, (4, len(rows))), axis=1)) + 1  # states last for some spans
    scores = {f"x{k}": changing[k].astype(np.float32) for k in range(4)}
    measured = Measured(spans=spans, scores=scores, thresholds={}, curves={}, columns={}, shard="s")
    pieces = pa.array([texts[row][a:b] for row, _, a, b, _, _ in rows], pa.large_string())
    found = states(shuffled(by_rules(measured, scheme), measured, scheme), measured, scheme)
    truth = [
        {
            family.name: scheme.shown[state] if state >= 0 else None
            for (family, _), state in zip(scheme.tags_by_family, of_span.tolist(), strict=True)
            if family.layout in STAYS
        }
        for of_span in found
    ]
    return Level(scheme, spans, place(measured, scheme, texts=pieces), truth)


@st.composite
def nested(draw: st.DrawFn) -> tuple[list[str], list[Level]]:
    """Documents of ASCII words, and one to two levels of tags in them, the outer first."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ascii_words = [word for word in WORDS if word.isascii()]
    texts = [" ".join(rng.choice(ascii_words, rng.integers(3, 60))) for _ in range(draw(st.integers(1, 3)))]
    outer = [draw(levels(texts, "o", 4))] if draw(st.booleans()) else []
    return texts, [*outer, draw(levels(texts, "i", 12))]


def family_of(level: Level) -> dict[str, str]:
    """The family whose place each name takes, spelled as it stands in text."""
    scheme = level.scheme
    shown = dict(zip(scheme.names, scheme.shown, strict=True))
    found = {shown[tag.name]: tag.family for tag in scheme.tags}
    found |= {shown[family.null]: family.name for family in scheme.families if family.null}
    return found | {shown[alias.name]: found[shown[alias.tags[0]]] for alias in scheme.aliases}


def segments_of(packed: Packed) -> list[tuple[int, int, int]]:
    """Where each segment that has text begins and where its first text is: window, begin, text."""
    found = []
    for window in range(len(packed.ids)):
        at = 0
        for length in packed.lengths[packed.segments[window] : packed.segments[window + 1]].tolist():
            text = np.flatnonzero(packed.kinds[window, at : at + length] == TEXT)
            if len(text):
                found.append((window, at, at + int(text[0])))
            at += length
    return found


def said(packed: Packed, window: int, begin: int, text: int, vocabulary: TagVocabulary, of: dict[str, str]) -> dict:
    """What the tags from `begin` up to the first text say, one after the other: the tag of each family."""
    names = {i: (name, "open") for name, i in zip(vocabulary.names, vocabulary.open_ids, strict=True)}
    names |= {i: (name, "close") for name, i in zip(vocabulary.names, vocabulary.close_ids, strict=True) if i >= 0}
    found = {}
    for i in range(begin, text):
        if packed.kinds[window, i] not in (OPEN, CLOSE, REPEATED):
            continue
        name, kind = names[int(packed.ids[window, i])]
        assert (kind == "close") == (packed.kinds[window, i] == CLOSE)
        if packed.kinds[window, i] == REPEATED:
            assert of[name] not in found, "a family is repeated once"
        if kind == "close":
            assert found.pop(of[name], name) == name
        else:
            found[of[name]] = name
    return found


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(
    made=nested(),
    window=st.integers(20, 48),
    way=st.sampled_from(["best-fit", "concatenate"]),
    tolerance=st.sampled_from([None, 0, 6]),
    by_segment=st.booleans(),
    ends=st.booleans(),
)
def test_what_stands_at_the_head_of_a_window_is_in_force_there(made, window, way, tolerance, by_segment, ends) -> None:
    documents, levels_ = made
    texts = pa.array(documents, pa.large_string())
    inner = levels_[-1]
    known = in_force([level.scheme for level in levels_])
    placements = levels_[0].placements if len(levels_) == 1 else nest(levels_[0].placements, inner.placements)
    byte_end = pa.nulls(placements.num_rows, pa.int64())
    for i, names in known.of_spans.items():
        spans = levels_[i].spans
        byte_end = pa.compute.coalesce(byte_end, span_ends(placements, names, spans, spans["byte_end"]))
    placements = placements.append_column("byte_end", byte_end)
    closing = iter(range(9500, 9999))
    vocabulary = TagVocabulary(
        names=tuple(known.names),
        open_ids=tuple(range(9000, 9000 + len(known.names))),
        close_ids=tuple(next(closing) if name in known.closing else -1 for name in known.names),
        families=tuple(known.families[name] for name in known.names),
    )
    tokenizer = encoder("byte-level")
    encoded = tokenizer.encode_segments(texts, inner.spans) if by_segment else tokenizer.encode(texts)
    options = {"begin_id": 8998 if ends else None, "end_id": 8999 if ends else None}
    by_level = [insert(encoded, texts, placements, vocabulary, spans=level.spans, **options) for level in levels_]
    tagged = by_level[-1]
    # A span inside one token has no text of its own to be in force in.
    assume(all(len(np.unique(t.spans)) - 1 == level.spans.num_rows for t, level in zip(by_level, levels_, strict=True)))
    numbered = np.where(tagged.kinds == TEXT, np.arange(len(tagged.ids)), tagged.ids)  # each text token by its place
    packed = pack(replace(tagged, ids=numbered.astype(np.int32)), window, pad_id=0, way=way, tolerance=tolerance)
    of = {name: family for level in levels_ for name, family in family_of(level).items()}
    stays = {family.name for level in levels_ for family, _ in level.scheme.tags_by_family if family.layout in STAYS}
    for where, begin, text in segments_of(packed):
        token = int(packed.ids[where, text])
        expected = {}
        for t, level in zip(by_level, levels_, strict=True):
            expected |= {k: tag for k, tag in level.truth[t.spans[token]].items() if tag is not None}
        head = said(packed, where, begin, text, vocabulary, of)
        assert {family: tag for family, tag in head.items() if family in stays} == expected
