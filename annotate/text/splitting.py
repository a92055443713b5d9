"""Documents to spans: what a split is, and the table of spans it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.arguments import as_path
from annotate.errors import ConfigError
from annotate.text.blanks import BlankRuns, find_blank_runs
from annotate.text.lengths import cut_long, merged, splits_character
from annotate.text.pages import Mask, Page, Positions, pages, require_text
from annotate.text.pieces import in_pieces, long_documents
from annotate.text.sentences import Cuts, cuts_at, sentence_cuts
from annotate.text.token_windows import load_tokenizer_file, tokenizer_file_hash, window_cuts
from annotate.text.utf8 import code_point_offsets

VERSION = 1  # raise it when the spans of any text change

SPANS = pa.schema(
    [pa.field(name, pa.int64(), nullable=False) for name in ("document", "start", "end", "byte_start", "byte_end")]
)

SpanUnit = Literal["sentence", "line", "paragraph", "tokens", "document"]

_LENGTHS = {"sentence": (12, 1000), "line": (0, None), "paragraph": (0, None)}
_SHORTEST_MAX = 16


@dataclass(frozen=True, kw_only=True)
class Splitter:
    """How documents are cut into spans.

        Splitter(by="paragraph", max_chars=2000)

    Attributes:
        by: what a span is. "tokens" cuts windows of tokenizer tokens, "document" cuts nothing.
        blanks: the span to which blanks between two spans belong. Blanks at the start of a document belong to its
            first span, those at its end to its last.
        min_chars: a fragment that is shorter, not counting the blanks around it, joins the next one. The last of a
            document, or of a block (paragraph, list item) that holds others, joins the one before. None: 12 for
            sentences, 0 for lines and paragraphs.
        max_chars: a span that is longer, counting blanks, is cut into near-equal parts: at a blank where one is near,
            else between two code points. None: 1000 for sentences, no limit for lines and paragraphs.
        tokens: tokens of a window, for by="tokens"; the last window of a document may have fewer.
        tokenizer: a tokenizer.json or a directory that holds one, for by="tokens".

    Raises:
        ConfigError: a setting is out of range, or is not one of this `by`.
    """

    by: SpanUnit = "sentence"
    blanks: Literal["following", "previous"] = "following"
    min_chars: int | None = None
    max_chars: int | None = None
    tokens: int = 128
    tokenizer: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.tokenizer is not None:
            object.__setattr__(self, "tokenizer", as_path(self.tokenizer, "tokenizer"))
        units = ("sentence", "line", "paragraph", "tokens", "document")
        if self.by not in units:
            raise ConfigError(f"by must be one of {', '.join(units)}, not {self.by!r}")
        if self.blanks not in ("following", "previous"):
            raise ConfigError(f"blanks must be following or previous, not {self.blanks!r}")
        if self.tokens < 1:
            raise ConfigError(f"tokens must be at least 1, not {self.tokens}")
        if (self.by == "tokens") != (self.tokenizer is not None):
            raise ConfigError(
                f"tokenizer must be given for by='tokens' and only there; by={self.by!r}, tokenizer={self.tokenizer!r}"
            )
        if self.by not in _LENGTHS and (self.min_chars, self.max_chars) != (None, None):
            raise ConfigError(
                f"min_chars and max_chars are for sentence, line and paragraph; by={self.by!r}, "
                f"min_chars={self.min_chars}, max_chars={self.max_chars}"
            )
        shortest, longest = self.limits
        if shortest < 0:
            raise ConfigError(f"min_chars must be at least 0, not {shortest}")
        if longest is not None and longest < max(_SHORTEST_MAX, 4 * shortest):
            raise ConfigError(
                f"max_chars must be at least {_SHORTEST_MAX} and four times min_chars ({shortest}), not {longest}"
            )

    @property
    def limits(self) -> tuple[int, int | None]:
        """The shortest and the longest span in code points; no longest where it is None."""
        shortest, longest = _LENGTHS.get(self.by, (0, None))
        return (
            shortest if self.min_chars is None else self.min_chars,
            longest if self.max_chars is None else self.max_chars,
        )

    def identity(self) -> dict[str, Any]:
        """All that can change a span, JSON-ready: the settings in force, the tokenizer's hash, the algorithm's version.

        Raises:
            ConfigError: the tokenizer can't be read.
        """
        if self.by == "document":
            return {"version": VERSION, "by": self.by}
        identity = {"version": VERSION, "by": self.by, "blanks": self.blanks}
        if self.tokenizer is not None:
            return identity | {"tokens": self.tokens, "tokenizer": tokenizer_file_hash(str(self.tokenizer))}
        shortest, longest = self.limits
        return identity | {"min_chars": shortest, "max_chars": longest}

    def settings(self) -> dict[str, Any]:
        """All fields, for readers on other machines: of the tokenizer, the hash of its file and not the path."""
        fields = asdict(self)
        return fields if self.tokenizer is None else {**fields, "tokenizer": self.identity()["tokenizer"]}

    def split(self, texts: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Cut documents into spans that tile them: no gap, no overlap.

        Args:
            texts: string or large_string `[n]`, valid UTF-8 (see `annotate.text.utf8.invalid_utf8`).

        Returns:
            A table of schema `SPANS`, one row a span in order: `document` is the position in `texts`, `start` and `end`
            are offsets in the document in code points, `byte_start` and `byte_end` in bytes of UTF-8. A null or empty
            document has no span. A document of more than 8 MiB is split in pieces of about 4 that end at blank lines;
            no short fragment joins one in another piece.

        Raises:
            InputError: `texts` is not text.
            ConfigError: the tokenizer can't be loaded.
        """
        require_text(texts)
        if self.by == "document":
            return _whole_documents(texts)
        cut = self._cutter()
        tables = []
        done = 0
        # Token windows do not end at a blank line, so for them a long document can't be cut in pieces.
        for row in [] if self.by == "tokens" else long_documents(texts):
            pieces = in_pieces(texts[row], before_blanks=self.blanks == "following")
            tables += [_split_rows(texts[done:row], done, cut), _joined(_split_rows(pieces, 0, cut), pieces, row)]
            done = row + 1
        return pa.concat_tables([*tables, _split_rows(texts[done:], done, cut)])

    def _cutter(self) -> Callable[[Page], Positions]:
        """The function that finds all cuts of a page."""
        if self.tokenizer is not None:
            tokenizer = load_tokenizer_file(str(self.tokenizer))
            return lambda page: window_cuts(page, find_blank_runs(page), tokenizer, self.tokens, self.blanks)
        return self._text_cuts

    def _text_cuts(self, page: Page) -> Positions:
        gaps = find_blank_runs(page)
        cuts = _unit_cuts(page, gaps, self.by)
        welcome = gaps.starts if self.blanks == "following" else gaps.ends
        shortest, longest = self.limits
        at = cuts.left if self.blanks == "following" else cuts.right
        whole = ~splits_character(page.buffer, at)
        cuts = Cuts(left=cuts.left[whole], right=cuts.right[whole], block=cuts.block[whole])
        at = at[whole]
        if shortest > 0:
            at = at[_still_cut(page, gaps, cuts, shortest)]
        if longest is None:
            return at
        borders = np.sort(np.concatenate([at, page.starts, page.ends]))
        begins, ends = borders[:-1], borders[1:]
        return np.sort(np.append(at, cut_long(page.buffer, begins, ends, welcome, longest)))


KORBAK_SPLITTER = Splitter(by="sentence", blanks="previous", min_chars=0)
"""Sentences as in Korbak et al. 2023 (arXiv 2302.08582): blanks stay with the sentence before them (`text_with_ws`)."""


def _unit_cuts(page: Page, gaps: BlankRuns, by: str) -> Cuts:
    if by == "sentence":
        return sentence_cuts(page, gaps)
    least = {"line": 1, "paragraph": 2}[by]
    return cuts_at(gaps, np.flatnonzero((gaps.breaks >= least) & ~gaps.outer))


def _still_cut(page: Page, gaps: BlankRuns, cuts: Cuts, min_chars: int) -> Mask:
    """Which cuts remain when short fragments have joined a neighbour."""
    document = np.flatnonzero(page.ends > page.starts)
    starts, ends = page.starts[document], page.ends[document]
    # The words of a document begin where the gap before it ends, and end where the gap behind it starts.
    opens = np.minimum(gaps.ends[np.searchsorted(gaps.starts, starts - 1, "right") - 1], ends)
    closes = np.maximum(gaps.starts[np.searchsorted(gaps.starts, ends, "right") - 1], opens)
    at = np.append(starts, cuts.left)
    order = np.argsort(at, kind="stable")
    is_first = order < len(starts)
    begins = np.append(opens, cuts.right)[order]
    stops = np.sort(np.append(closes, cuts.left))
    lengths = code_point_offsets(page.buffer, stops) - code_point_offsets(page.buffer, begins)
    block = np.append(np.zeros(len(starts), np.bool_), cuts.block)[order]
    return merged(lengths, is_first, block, min_chars)[~is_first]


def _split_rows(texts: pa.Array | pa.ChunkedArray, first: int, cut: Callable[[Page], Positions]) -> pa.Table:
    """The spans of documents, of which the first has number `first`."""
    return pa.concat_tables([SPANS.empty_table(), *(_spans(page, cut(page), first) for page in pages(texts))])


def _joined(spans: pa.Table, pieces: pa.LargeStringArray, row: int) -> pa.Table:
    """Make spans of the pieces of one document into spans of the document."""
    piece, start, end, byte_start, byte_end = (column.to_numpy() for column in spans.columns)
    points, size = pc.utf8_length(pieces).to_numpy(), pc.binary_length(pieces).to_numpy()
    points_before, bytes_before = (np.cumsum(points) - points)[piece], (np.cumsum(size) - size)[piece]
    return _table(
        np.full_like(piece, row),
        start + points_before,
        end + points_before,
        byte_start + bytes_before,
        byte_end + bytes_before,
    )


def _table(*columns: Positions) -> pa.Table:
    return pa.Table.from_arrays([pa.array(column, pa.int64()) for column in columns], schema=SPANS)


def _spans(page: Page, cuts: Positions, first: int) -> pa.Table:
    document = np.flatnonzero(page.ends > page.starts)
    begins = np.sort(np.append(page.starts[document], cuts))
    row = np.searchsorted(page.starts, begins, "right") - 1
    ends = np.append(begins[1:], 0)
    last = np.append(row[1:] != row[:-1], np.ones(min(len(row), 1), np.bool_))
    ends = np.where(last, page.ends[row], ends[: len(row)])
    origin = page.starts[row]
    origin_points, begin_points, end_points = (code_point_offsets(page.buffer, at) for at in (origin, begins, ends))
    return _table(
        row + page.first + first,
        begin_points - origin_points,
        end_points - origin_points,
        begins - origin,
        ends - origin,
    )


def _whole_documents(texts: pa.Array | pa.ChunkedArray) -> pa.Table:
    size = pc.fill_null(pc.binary_length(texts), 0).to_numpy().astype(np.int64)
    document = np.flatnonzero(size)
    points = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.int64)[document]
    zero = np.zeros(len(document), np.int64)
    return _table(document, zero, points, zero, size[document])
