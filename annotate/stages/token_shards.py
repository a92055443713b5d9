"""Token shards: documents tokenized once, tags inserted as ids, packed to windows. Nothing in the text can be a tag."""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annotate import tally
from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.graph import Stage, Tables
from annotate.stages.repeated_spans import REPEATS, dropped_spans
from annotate.stages.schedule import Schedule, keep_pinned
from annotate.stages.shared.joined_scores import read_scores
from annotate.stages.shared.selection import SelectedDocuments
from annotate.stages.shared.tables import flat, numbered_spans
from annotate.stages.shared.teacher import (
    COLUMNS,
    check_vocabulary,
    teacher_columns,
    teacher_of,
    teacher_remarks,
    teacher_tokens,
)
from annotate.stages.shared.token_cards import about_tags, aliases, data_card
from annotate.stages.shared.training_shards import PHASE, Shards
from annotate.storage.manifests import Manifest
from annotate.storage.parts import UnitOutput
from annotate.tags.forgery import spells_a_tag
from annotate.tags.in_force import InForce, in_force, span_ends
from annotate.text.arrays import lists_by_row, one_array

if TYPE_CHECKING:
    from annotate.tokens import TaggedTokenizer

Packing = Literal["best-fit", "concatenate"]
Loss = Literal["train", "mask", "mask-all-but-closing"]
SCORES = "scores_"
"""Prefix of an axis, for the name of the column of tokens' scores."""
PLACE = ["row", "offset", "byte_offset"]
"""The columns of a place in a document."""


@dataclass(frozen=True)
class TokenShards(Shards):
    """Token shards: packed windows of `window` tokens, with a loss mask, as `schemas/token-shards.json` says.

        Pipeline(TokenShards(placements, tokenizer="tokenizer.json", window=2048, loss="mask"))

    With the shards lie the tokenizer that knows the tags, and `tags.json`: ids, meanings, rules and thresholds, how to
    make the new rows of a model, what to ban when sampling.

    Attributes:
        placements: the tags, from `Place` or `Nest`. The documents, and their order, are those of the placements;
            windows are within one phase, whose name is their `phase`.
        tokenizer: a `tokenizer.json`, a directory that holds one, or a hub name; a fast tokenizer without the tags.
            None for the one that the schedule counts with.
        revision: of a hub name; it is resolved to a commit once, by the driver.
        window: tokens of a window.
        loss: whether the model is trained to predict tags: "train", "mask" them, or "mask-all-but-closing" tags.
        packing: "best-fit", which cuts only documents that are longer than a window, or "concatenate".
        segments: whether each span is tokenized by itself, as Korbak et al. 2023 do; the tokens of the text are then
            not those of the untagged document.
        begin: whether the tokenizer's token for the beginning of a text stands before each document.
        end: whether its token for the end of a text stands after each document.
        reserved: tokens of the tokenizer that are used for tags, so that a model keeps its size.
        multiple: the size of the vocabulary is padded to a multiple of this.
        span_ids: whether the number of each token's span is written too.
        scores: whether each token's scores are written, which are those of its span: a column `scores_<axis>` for each
            axis of the (innermost) placements, NaN for tokens that are not text. Objectives by token, such as
            unlikelihood, need them.
        teacher: whether the teacher's most probable tokens are written too, for documents of a `Distill` whose
            generator keeps `top_k` of them: `teacher_top_tokens` and `teacher_top_logprobs`, `top_k` values in the
            place of each token of a completion, -1 and NaN elsewhere. With 20 they take 160 bytes a token, and while a
            part is made up to four times that; so `part_bytes` counts them with the text, and there are more parts.
        unit_seconds: the time that a worker may take for each work unit of a part. If it takes longer, twice, the
            documents that hold it up are looked for, and go to quarantine. None for no limit.
        part_bytes: bytes of untagged text that a part aims at; windows never go across parts.
        subset: which documents are written, where the verdicts have subsets. Only documents for "train" have a training
            order and phases: those of another subset are written in corpus order, with all their tags.
        exclude: ids of documents that are taken out (takedowns), or a file with one a line. Verdicts, thresholds and
            phases do not change, nor do the bytes of parts that have none of these documents.
    """

    _: KW_ONLY
    window: int
    loss: Loss
    tokenizer: str | PathLike[str] | None = None
    revision: str | None = None
    packing: Packing = "best-fit"
    segments: bool = False
    begin: bool = False
    end: bool = True
    reserved: Sequence[str] = ()
    multiple: int = 1
    span_ids: bool = False
    scores: bool = False
    teacher: bool = False
    unit_seconds: float | None = None

    name: ClassVar[str] = "token-shards"
    schema: ClassVar[str] = "token-shards"
    version: ClassVar[int] = 2
    travel: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("loss", Loss), ("packing", Packing)):
            if getattr(self, name) not in get_args(known):
                choices = ", ".join(f'"{value}"' for value in get_args(known))
                raise ConfigError(f"{name} must be {choices}, got {getattr(self, name)!r}")
        if self.unit_seconds is not None and not self.unit_seconds > 0:
            raise ConfigError(f"unit_seconds must be above 0, got {self.unit_seconds}", hint="None sets no limit.")
        if self.window < 8:
            raise ConfigError(f"window must be at least 8 tokens, got {self.window}")
        if self.teacher:
            teacher_of(self.corpus)
        object.__setattr__(self, "reserved", as_tuple(self.reserved, "reserved"))
        keep_pinned(self, self.tokenizer, self.revision)
        if self.tokenizer is None:
            counting = self.placements.schedule or Schedule()
            keep_pinned(self, counting.tokenizer, counting.revision)
        if self.tokenizer is None:
            raise ConfigError("token shards need a tokenizer", hint='Give TokenShards(..., tokenizer="path/to/model").')

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """The inputs of all shards, the tagged spans, the thresholds for `tags.json`, and scores to be written."""
        places = self.placements.places
        spans = {f"spans-{i}": places[i].spans for i in self._in_force.of_spans}
        thresholds = {f"thresholds-{i}": place.thresholds for i, place in enumerate(places)}
        scores = {f"scores-{i}": stage for i, stage in enumerate(places[-1].scores) if self.scores}
        return {**super().inputs, **spans, **thresholds, **scores}

    def settings(self) -> Mapping[str, Any]:
        """A hash of the tokenizer, and all settings that decide the windows."""
        names = ("window", "loss", "packing", "segments", "begin", "end", "multiple", "span_ids")
        return {
            **super().settings(),
            "tokenizer": self._tokens.hash,
            "reserved": list(self.reserved),
            "ids": [self._tokens.begin_id, self._tokens.end_id, self._tokens.pad_id],
            "tags": list(self.placements.spelled),
            "in_force": self._in_force.identity(),
            **{name: getattr(self, name) for name in names},
            **{name: True for name in ("scores", "teacher") if getattr(self, name)},
            **({} if self.unit_seconds is None else {"unit_seconds": self.unit_seconds}),
        }

    @property
    def top_k(self) -> int:
        """How many of the teacher's most probable tokens are written for each token; 0 for none."""
        return teacher_of(self.corpus).generator.top_k if self.teacher else 0

    @property
    def also_read(self) -> tuple[str, ...]:
        """Those that sources are mixed by, and what the teacher wrote."""
        return tuple(dict.fromkeys((*super().also_read, *(COLUMNS if self.teacher else ()))))

    @property
    def wide(self) -> bool:
        """Whether the teacher's probabilities are carried."""
        return self.teacher

    def warm(self) -> None:
        """Load the tokenizer, and use it once: what it needs besides is loaded then."""
        _loaded(self).encoder.encode(pa.array(["a"], pa.large_string()))

    @property
    def _in_force(self) -> InForce:
        """How long tags are in force."""
        return in_force([place.scheme for place in self.placements.places])

    @functools.cached_property
    def _tokens(self) -> TaggedTokenizer:
        """The tokenizer, with and without the tags."""
        from annotate.tokens import TaggedTokenizer

        tags = self._in_force
        try:
            loaded = TaggedTokenizer.load(
                str(self.tokenizer),
                tags.names,
                revision=self.revision,
                closing=tags.closing,
                families=tags.families,
                reserved=self.reserved,
                begin=self.begin,
                end=self.end,
            )
        except ConfigError as error:
            raise functools.reduce(lambda e, place: place.scheme.located(e), self.placements.places, error) from None
        if self.teacher and "_expected" not in vars(self):  # the driver has checked it for its workers
            check_vocabulary(teacher_of(self.corpus), loaded.untagged, self.tokenizer)
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        """A worker loads the tokenizer itself, and checks that it is this one."""
        state = {name: value for name, value in vars(self).items() if name != "_tokens"}
        return {**state, "_expected": self._tokens.hash}

    def rows(self, documents: SelectedDocuments, tables: Tables, bad: list[pa.Table], counts: Counter[str]) -> pa.Table:
        """The documents, with lists of their placements and of their spans, by bytes of the text."""
        del bad
        texts = documents.table["text"]
        counts["documents_that_spell_a_tag"] += int(spells_a_tag(texts, self.placements.spelled).sum())
        placed = placed_until(documents, tables, self._in_force.of_spans)
        rows = (
            documents.table.select(["row", "id", "text"])
            .append_column("placements", lists_by_row(placed, len(texts)))
            .append_column("spans", lists_by_row(self._spans(documents, tables), len(texts)))
        )
        if self.teacher:
            columns, without = teacher_columns(documents)
            counts["documents_without_teacher"] += without
            for name, column in columns.items():
                rows = rows.append_column(name, column)
        return rows

    def _spans(self, documents: SelectedDocuments, tables: Tables) -> pa.Table:
        """The spans of documents by bytes of the text, with their numbers, and their scores if wanted."""
        place = self.placements.places[-1]
        scores: dict[str, npt.NDArray[np.float32]] = {}
        if self.scores:
            spans, scores = read_scores(tables, place.scores, self.selection.repeated)
            scores.pop(REPEATS, None)
        else:
            spans = tables["spans"]
            spans = numbered_spans(spans, tables.rows)
            if self.selection.repeated is not None:
                spans = spans.filter(pa.array(~dropped_spans(tables["repeated"], tables["spans"])))
        spans = spans.select(["row", "start", "end", "byte_start", "byte_end", "span"])
        for axis, values in scores.items():
            spans = spans.append_column(f"{SCORES}{axis}", pa.array(values))
        spans = documents.at(spans, tables.rows.start)
        for name in ("start", "end"):
            places = spans.select(["row", name, f"byte_{name}"]).rename_columns(PLACE)
            at = spans.column_names.index(f"byte_{name}")
            spans = spans.set_column(at, f"byte_{name}", documents.without_gaps(places)["byte_offset"])
        return spans.drop_columns(["start", "end"])

    def part(self, rows: pa.Table) -> UnitOutput:
        """Tokenize and pack the documents of one part."""
        from annotate.tokens import insert, loss_mask, pack, teacher_places, token_table

        texts = one_array(rows["text"])
        placed, spans = flat(rows["placements"]), flat(rows["spans"])
        tokens = _loaded(self)
        encoder = tokens.encoder
        with tally.phase("tokenize"):
            encoded = encoder.encode_segments(texts, spans) if self.segments else encoder.encode(texts)
        tally.count("tokens", len(encoded.ids))
        tagged = insert(
            encoded, texts, placed, tokens.vocabulary, spans=spans, begin_id=tokens.begin_id, end_id=tokens.end_id
        )
        packed = pack(tagged, self.window, pad_id=tokens.pad_id, way=self.packing)
        mask = loss_mask(packed, self.loss)
        scores = {name.removeprefix(SCORES): spans[name].to_numpy() for name in spans.column_names if SCORES in name}
        teacher, found = None, {}
        if self.teacher:
            wrote = teacher_tokens(rows, self.top_k)
            places = teacher_places(wrote, encoded, texts, encoder, tokens.end_id)
            teacher, found = (wrote, packed.laid_out(places.among(tagged), -1)), places.counts
        table = token_table(packed, mask, spans=spans if self.span_ids else None, scores=scores, teacher=teacher)
        table = _with_ids(table, rows["id"])
        if PHASE in rows.column_names:  # all documents of a part are of one phase
            phase = rows[PHASE][0] if rows.num_rows else pa.scalar("", pa.string())
            table = table.add_column(
                table.column_names.index("document_pieces") + 1, PHASE, pa.repeat(phase, table.num_rows)
            )
        counts = {
            "windows": table.num_rows,
            "tokens": int(packed.segments.size and packed.lengths.sum()),
            "targets": int(mask.sum()),
            "tags": placed.num_rows,
            "moved_tags": tagged.moved,
            "cuts": packed.cuts,
            "cuts_at_spans": packed.cuts_at_spans,
            "tokenized": rows.num_rows,
            "documents_with_lost_characters": int(((encoded.unknown > 0) | (encoded.dropped > 0)).sum()),
            "unknown_tokens": int(encoded.unknown.sum()),
            "dropped_characters": int(encoded.dropped.sum()),
            **found,
        }
        return UnitOutput(table, counts=counts)

    def remarks(self, manifest: Manifest) -> list[str]:
        """Warn of windows that are not full, of documents that spell a tag, and of characters that are lost."""
        counts = manifest.counts
        said = super().remarks(manifest)
        if windows := counts.get("windows", 0):
            filled = counts["tokens"] / (windows * self.window)
            if filled < 0.9:
                said.append(
                    f"windows are filled to {filled:.1%} only: a part has too little text for {self.window} tokens"
                )
        if spell := counts.get("documents_that_spell_a_tag", 0):
            said.append(f"{spell:,} documents spell a tag: the spelling was tokenized as ordinary text")
        if lost := counts.get("documents_with_lost_characters", 0):
            of = counts["tokenized"]
            unknown, dropped = counts["unknown_tokens"], counts["dropped_characters"]
            said.append(
                f"{lost:,} of {of:,} documents ({lost / of:.1%}) have characters that the tokenizer does not know: "
                f"{unknown:,} tokens stand for such characters, {dropped:,} characters are dropped"
            )
        said += teacher_remarks(counts)
        if manifest.counts.get("windows") and (away := self._tokens.taken_away):
            said.append(f"the tokenizer takes away {', '.join(away)}: texts that differ in that alone get equal tokens")
        if self._tokens.rewritten:
            said.append(
                f"tokenizer {self.tokenizer!r}: {self._tokens.rewritten}. The shards have those of the file; load the "
                "tokenizer from beside them"
            )
        return said

    def companions(self, whole: Mapping[str, pa.Table], manifest: Manifest) -> dict[str, bytes]:
        """The tokenizer with the tags, `tags.json`, and a data card."""
        from annotate.tokens import tags_card

        tokens = self._tokens
        about = about_tags(self.placements.places, whole)
        card = tags_card(
            tokens.vocabulary, tokens.tagged, untagged=tokens.untagged, about=about, multiple=self.multiple
        )
        card["shards"] = {
            "window": self.window,
            "loss": self.loss,
            "tokenizer": tokens.hash,
            "begin_id": tokens.begin_id,
            "end_id": tokens.end_id,
            "pad_id": tokens.pad_id,
            "segments": self.segments,
            "splitter": self.placements.places[-1].spans.splitter.settings(),
        }
        card["aliases"] = aliases(self.placements.places)
        files = {"tags.json": json.dumps(card, indent=1, ensure_ascii=False).encode()}
        with tempfile.TemporaryDirectory() as folder:
            tokens.tagged.save_pretrained(folder)
            found = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            files |= {f"tokenizer/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in found}
        return {**files, "README.md": data_card(self, tokens.hash, manifest.counts).encode()}


@functools.lru_cache(maxsize=1)
def _loaded(stage: TokenShards) -> TaggedTokenizer:
    """The tokenizer of a stage, kept for the next unit in the same process."""
    expected = vars(stage).get("_expected")
    if expected is not None and stage._tokens.hash != expected:
        raise ConfigError(
            f"the tokenizer {stage.tokenizer!r} is another one for this worker than for the driver",
            hint="It was changed during the run, or its path is another file there. Put the same file on all nodes, "
            "and run again.",
        )
    return stage._tokens


def placed_until(documents: SelectedDocuments, tables: Tables, of_spans: Mapping[int, list[str]]) -> pa.Table:
    """Placements of documents, with the end of each one's span, by places in the text without what is left out.

    Args:
        documents: of a unit.
        tables: `placements` of the unit, and `spans-<number>` for each number of `of_spans`.
        of_spans: as `InForce` has them.

    Returns:
        `row`, `byte_offset`, `byte_end` (int64; null for a tag that its span does not end), `tag`, `kind` (string).
    """
    start = tables.rows.start
    placed = documents.at(tables["placements"], start)
    ends = pa.nulls(placed.num_rows, pa.int64())
    for i, names in of_spans.items():
        spans = documents.at(tables[f"spans-{i}"], start)
        behind = documents.without_gaps(spans.select(["row", "end", "byte_end"]).rename_columns(PLACE))
        ends = pc.coalesce(ends, span_ends(placed, names, spans, behind["byte_offset"]))
    tags = {name: placed[name].cast(pa.string()) for name in ("tag", "kind")}
    places = documents.without_gaps(placed.select(PLACE))
    return pa.table({"row": places["row"], "byte_offset": places["byte_offset"], "byte_end": ends, **tags})


def _with_ids(table: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    """Put the ids of documents beside their numbers."""
    numbers = one_array(table["document_rows"])
    ends = pa.array(np.append(0, np.cumsum(pc.list_value_length(numbers).to_numpy())), pa.int32())
    named = pa.ListArray.from_arrays(ends, one_array(ids).take(numbers.flatten()))
    return table.add_column(table.column_names.index("document_rows") + 1, "document_ids", named)
