"""What a proof is made of: the token shards of a run, and text that is held out from training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from annotate.amounts import counted
from annotate.errors import ConfigError, InputError, StorageError
from annotate.proof.companions import read_companions
from annotate.proof.held_out import SHARED, SHINGLE, checked, chosen_segments, drawn
from annotate.proof.intervals import LEAST
from annotate.proof.windows import TagFamily, Text, read_text, tag_families
from annotate.storage.latest import Latest, Role, read_latest
from annotate.storage.results import read_tags, shard_tables, tags_folder
from annotate.storage.store import Directory

HELD_OUT = 0.1  # of the documents, if the run has no subset for evaluation
TO_TRAIN_ON, TO_MEASURE_ON = "to train on", "to measure on"  # what outputs are for, in messages
MOST = 50_000_000  # tokens of text that are read if no number is given; a token takes some 20 bytes of memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Text to train on and text to measure, with the tags of both.

    Attributes:
        text: the windows that are trained on.
        measured: the segments that are measured.
        families: of tags.
        vocabulary: how many ids there are.
        loss: the loss policy of the shards.
        shards: the fingerprints of the datasets that both are from.
        companions: by name, the files that belong beside a model: the tokenizer of the shards, and `tags.json`.
        remarks: what was cut, left out or trusted, in sentences.
    """

    text: Text
    measured: Text
    families: tuple[TagFamily, ...]
    vocabulary: int
    loss: str
    shards: tuple[str, ...]
    companions: Mapping[str, bytes]
    remarks: tuple[str, ...]


def read_material(
    workdir: str | PathLike[str],
    *,
    output: str | None = None,
    held_out: str | None = None,
    tokens: int | None = None,
    spans: int = 2000,
    seed: int = 0,
) -> Material:
    """Read the token shards that the last run left.

    Args:
        workdir: the work directory.
        output: the output to train on. None: the only one that is token shards of no other subset than "train".
        held_out: the output to measure on. None: the one of the subset "evaluation"; without it, a tenth of the
            documents of `output` is held out.
        tokens: tokens of text to read for training, at most, to the end of a part. None: all, up to 50 million.
        spans: about how many spans to measure; whole documents are drawn.
        seed: of what is drawn.

    Raises:
        ConfigError: the shards have no `span_ids`, or tags that can't be measured; or both outputs do not go together.
        StorageError: no run has finished there, or it left no token shards.
        InputError: nothing is left to train on, or fewer than 10 documents to measure.
    """
    found = _token_shards(workdir)
    trained = _only(found, output, ("train", None), TO_TRAIN_ON)
    other = _only(found, held_out, ("evaluation",), TO_MEASURE_ON) if held_out or _of(found, ("evaluation",)) else None
    beside = tags_folder(workdir, trained.output)
    card = read_tags(beside)
    families = tag_families(card)
    enough, where = tokens or MOST, f"{trained.output} of {workdir}"
    text = read_text(shard_tables(workdir, trained.output), card, enough=enough, where=where)
    remarks = []
    if tokens is None and len(text.tokens) >= enough:
        remarks.append(f"only the first {len(text.tokens):,} tokens of text are used: --tokens asks for more")
    if other is not None:
        _check_alike(card, read_tags(tags_folder(workdir, other.output)), trained, other)
        where = f"{other.output} of {workdir}"
        apart = read_text(shard_tables(workdir, other.output), card, enough=MOST, where=where)
        remarks.append(
            f"measured on the output {other.output!r}, which shares no split group with what is trained on"
            if other.subset == "evaluation" and trained.subset == "train"
            else f"measured on the output {other.output!r}; that it shares no document with what is trained on is "
            "trusted, but for the check below"
        )
    else:
        chosen = drawn(text.documents, HELD_OUT, seed=seed)
        text, apart = text.only(~chosen), text.only(chosen)
        remarks.append(
            f"the run has no subset for evaluation: {HELD_OUT:.0%} of the documents were held out by a hash. "
            "Near-copies are on both sides, unless the run dropped them; see the check below"
        )
    apart = apart.only(chosen_segments(apart, spans, seed=seed))
    apart, said = _unshared(apart, text)
    remarks.append(said)
    _check_enough(text, apart, f"{workdir} leaves", "; ".join(remarks))
    if lost := text.without_text + apart.without_text:
        remarks.append(f"{counted(lost, 'tag')} of spans without a token left out")
    return Material(
        text=text,
        measured=apart,
        families=families,
        vocabulary=card["vocabulary"]["padded_size"],
        loss=card["shards"]["loss"],
        shards=tuple(item.fingerprint for item in (trained, other) if item is not None),
        companions=read_companions(beside),
        remarks=tuple(remarks),
    )


def _check_enough(text: Text, apart: Text, leaves: str, remarks: str) -> None:
    """Check that there is text to train on, and that an interval over documents means something."""
    hint = "The corpus is too small, or most of what is held out is in training too."
    whole = np.unique(apart.of_spans.documents[apart.whole_spans()])
    if not text.n_windows or not len(whole):
        raise InputError(f"{leaves} no text to {'measure' if text.n_windows else 'train on'}: {remarks}", hint=hint)
    if len(whole) < LEAST:
        raise InputError(
            f"{leaves} {counted(len(whole), 'document')} to measure, and intervals need {LEAST}: {remarks}",
            hint=f"{hint} Or too few spans are asked for: --spans.",
        )


def _of(found: list[Latest], subsets: tuple[str | None, ...]) -> list[Latest]:
    return [item for item in found if item.subset in subsets and item.control is None]


def _token_shards(workdir: str | PathLike[str]) -> list[Latest]:
    directory = Directory.at(workdir)
    left = [item for item in read_latest(directory) if item.output is not None]
    if not left:
        raise StorageError(f"no run has finished in {directory.url}", hint="Run a pipeline to its end there first.")
    found = [item for item in left if item.role is Role.TOKEN_SHARDS]
    if not found:
        raise StorageError(
            f"the last run in {directory.url} left no token shards: {', '.join(item.described for item in left)}",
            hint="Use TokenShards(..., span_ids=True) in the pipeline, and run it there again: scores stay. In "
            "the shipped pipeline, --set tokenizer=FOLDER --set span_ids=true does that.",
        )
    return found


def _only(found: list[Latest], output: str | None, subsets: tuple[str | None, ...], what: str) -> Latest:
    items = _of(found, subsets) if output is None else [item for item in found if item.output == output]
    if len(items) != 1:
        named = f" called {output!r}" if output is not None else ""
        option = "--output" if what == TO_TRAIN_ON else "--held-out"
        raise ConfigError(
            f"the last run has {counted(len(items), 'output')} of token shards {what}{named}; one is needed",
            hint=f"Its token shards are: {', '.join(item.described for item in found)}. Name one of them: {option}.",
        )
    if items[0].control is not None:
        raise ConfigError(
            f"{items[0].described} has the tags of a control", hint="Name the output with true tags: controls are made."
        )
    return items[0]


def _check_alike(card: dict[str, Any], other: dict[str, Any], trained: Latest, held: Latest) -> None:
    """Check that both outputs have the same ids."""
    same = [(c["shards"]["tokenizer"], [(tag["name"], tag["id"]) for tag in c["tags"]]) for c in (card, other)]
    if same[0] != same[1]:
        raise ConfigError(
            f"the outputs {trained.output!r} and {held.output!r} have other tokens or tags",
            hint="Make both of the same placements, with the same tokenizer.",
        )


def _unshared(apart: Text, text: Text) -> tuple[Text, str]:
    """Held-out text without the documents that are in training or can't be checked, and what is to be said of that."""
    there, unchecked = checked(apart, text)
    n = len(np.unique(apart.documents))
    left = apart.only(~np.isin(apart.documents, [*there, *unchecked]))
    cut = len(np.unique(left.spans[left.run_starts()])) - len(left.whole_spans())
    remain = counted(len(left.whole_spans()), "span"), counted(len(np.unique(left.documents)), "document")
    return left, (
        f"{len(there):,} of {counted(n, 'held-out document')} left out: more than {SHARED:.0%} of the {SHINGLE}-token "
        f"shingles of a piece are in training, or a whole piece that is shorter; {len(unchecked):,} more left out: cut "
        f"into pieces too short to be checked. {remain[0]} in {remain[1]} remain; {counted(cut, 'span')} more were cut "
        "by a window"
    )
