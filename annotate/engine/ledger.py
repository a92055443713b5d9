"""The ledger: every input document in exactly one state, from what is committed on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from annotate.engine.datasets import Dataset
from annotate.errors import StorageError
from annotate.stages.base import Stage
from annotate.stages.corpus import Corpus
from annotate.stages.place import Place
from annotate.stages.repeated_spans import RepeatedSpans
from annotate.stages.score import Annotations
from annotate.stages.shards import Shards


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

    def to_bytes(self) -> bytes:
        """The JSON form."""
        return json.dumps(vars(self), indent=1).encode()


def balance(datasets: Mapping[Stage, Dataset], outputs: Sequence[Stage]) -> Ledger | None:
    """Draw up the ledger of the first output that is shards, or None where there is none.

    Raises:
        StorageError: the states do not sum to the input, which would be a bug.
    """
    shards = next((stage for stage in outputs if isinstance(stage, Shards)), None)
    if shards is None:
        return None
    counts = _counts(datasets, shards)
    corpus = _counts(datasets, shards.corpus)
    states = {
        "written": counts.get("written", 0),
        "near_duplicate": counts.get("near_duplicate", 0),
        "quarantined": counts.get("quarantined", 0),
        **({"repeated": counts.get("repeated", 0)} if shards.selection.repeated is not None else {}),
        **({"held_out": counts.get("held_out", 0)} if shards.selection.splits is not None else {}),
        **({"excluded": counts.get("excluded", 0)} if shards.excluded is not None else {}),
        "not_reached": corpus["documents"] - counts.get("documents", 0) + counts.get("not_reached", 0),
    }
    if sum(states.values()) != corpus["documents"] or min(states.values()) < 0:
        raise StorageError(f"the ledger does not balance: {states} of {corpus['documents']} documents")
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
        "unreadable_files": corpus.get("unreadable_files", 0),
        **{
            f"failed_scores ({', '.join(stage.axes)})": _counts(datasets, stage).get("failed_scores", 0)
            for place in places
            for stage in place.scores
        },
    }
    return Ledger(corpus["documents"], states, beside)


def _counts(
    datasets: Mapping[Stage, Dataset], stage: Corpus | Place | Shards | Annotations | RepeatedSpans
) -> Mapping[str, int]:
    dataset = datasets[stage]
    if dataset.manifest is None:
        dataset.find()
    return dataset.manifest.counts if dataset.manifest is not None else {}
