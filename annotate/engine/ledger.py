"""The ledger: of each output, every input document in exactly one state, from what is committed on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from annotate.engine.datasets import Dataset
from annotate.errors import StorageError
from annotate.graph import Stage
from annotate.stages.corpus import Corpus
from annotate.stages.place import Place
from annotate.stages.repeated_spans import FindRepeatedSpans
from annotate.stages.score import Annotations
from annotate.stages.shards import Shards
from annotate.storage.layout import LEDGER
from annotate.storage.store import Directory

LOST = ("documents_with_lost_characters", "unknown_tokens", "dropped_characters")
"""Counts of what a tokenizer has lost of the text."""


@dataclass(frozen=True)
class Ledger:
    """Documents by state, which sum to the input; and counts that stand beside it.

    Attributes:
        documents: input documents.
        states: documents by state.
        beside: spans without a score, files that can't be read, and the like: in no sum.
    """

    documents: int
    states: Mapping[str, int]
    beside: Mapping[str, int]


def write_ledgers(workdir: Directory, ledgers: Mapping[str, Ledger]) -> None:
    """Write `ledger.json`, the ledgers by output; where a run has none, it goes."""
    if ledgers:
        data = {name: vars(ledger) for name, ledger in ledgers.items()}
        workdir.put(LEDGER, json.dumps(data, indent=1).encode())
    else:
        workdir.delete([LEDGER])


def read_ledgers(workdir: Directory) -> dict[str, Ledger]:
    """The ledgers of the last run that went to its end, by output.

    Raises:
        StorageError: the file is damaged, or another version wrote it.
    """
    try:
        return {name: Ledger(**fields) for name, fields in json.loads(workdir.get(LEDGER)).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{workdir.url}/{LEDGER} is damaged, or of another version of annotate: {error}",
            hint="Delete it, and run the pipeline again: it writes the file anew.",
        ) from error


def balance(datasets: Mapping[Stage, Dataset], outputs: Mapping[str, Stage]) -> dict[str, Ledger]:
    """Draw up the ledger of each output that is shards.

    Raises:
        StorageError: the states do not sum to the input, which would be a bug.
    """
    return {name: _balanced(datasets, name, stage) for name, stage in outputs.items() if isinstance(stage, Shards)}


def _balanced(datasets: Mapping[Stage, Dataset], name: str, shards: Shards) -> Ledger:
    counts = _counts(datasets, shards)
    corpus = _counts(datasets, shards.corpus)
    states = {
        "written": counts.get("written", 0),
        "near_duplicate": counts.get("near_duplicate", 0),
        "quarantined": counts.get("quarantined", 0),
        **({"repeated": counts.get("repeated", 0)} if shards.selection.repeated is not None else {}),
        **({"held_out": counts.get("held_out", 0)} if shards.selection.subsets is not None else {}),
        **({"excluded": counts.get("excluded", 0)} if shards.excluded is not None else {}),
        "not_reached": corpus["documents"] - counts.get("documents", 0) + counts.get("not_reached", 0),
    }
    if sum(states.values()) != corpus["documents"] or min(states.values()) < 0:
        raise StorageError(f"the ledger of {name} does not balance: {states} of {corpus['documents']} documents")
    places = shards.placements.places
    placed = _counts(datasets, places[-1])
    left_out = shards.selection.repeated
    repeated = _counts(datasets, left_out) if left_out is not None else {}
    beside = {
        **({"copies": counts["copies"]} if counts.get("copies") else {}),
        **({"repeated_spans_left_out": repeated.get("dropped", 0)} if repeated else {}),
        "spans": placed.get("spans", 0),
        "spans_with_a_null_score": placed.get("spans_with_a_null_score", 0),
        "documents_that_spell_a_tag": counts.get("documents_that_spell_a_tag", 0),
        **{name: counts[name] for name in LOST if name in counts},
        "unreadable_files": corpus.get("unreadable_files", 0),
        **{
            f"failed_scores ({', '.join(stage.axes)})": _counts(datasets, stage).get("failed_scores", 0)
            for place in places
            for stage in place.scores
        },
    }
    return Ledger(corpus["documents"], states, beside)


def _counts(
    datasets: Mapping[Stage, Dataset], stage: Corpus | Place | Shards | Annotations | FindRepeatedSpans
) -> Mapping[str, int]:
    dataset = datasets[stage]
    if dataset.manifest is None:
        dataset.find()
    return dataset.manifest.counts if dataset.manifest is not None else {}
