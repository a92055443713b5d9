"""The ledger of each output: every input document in exactly one state, from the counts on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from annotate.engine.datasets import Dataset
from annotate.errors import InternalError, StorageError
from annotate.graph import EndsDocuments, Stage, documents_of
from annotate.storage.layout import LEDGER
from annotate.storage.store import Directory

NOT_REACHED = "not_reached"
"""The state of documents that the stage did not read because of a limit. The stage may put documents in it, too."""


@dataclass(frozen=True)
class Ledger:
    """Documents by state, which sum to the input; and other counts.

    Attributes:
        documents: input documents.
        states: documents by state.
        beside: counts that are not part of the sum, such as spans without a score and files that can't be read.
    """

    documents: int
    states: Mapping[str, int]
    beside: Mapping[str, int]


def write_ledgers(workdir: Directory, ledgers: Mapping[str, Ledger]) -> None:
    """Write `ledger.json`, the ledgers by output; remove it if there are none."""
    if ledgers:
        data = {name: vars(ledger) for name, ledger in ledgers.items()}
        workdir.put(LEDGER, json.dumps(data, indent=1).encode())
    else:
        workdir.delete([LEDGER])


def read_ledgers(workdir: Directory) -> dict[str, Ledger]:
    """The ledgers of the last finished run, by output.

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
    """Draw up the ledger of each output where documents end.

    Raises:
        InternalError: the states do not sum to the input.
    """
    ending = {name: stage for name, stage in outputs.items() if isinstance(stage, EndsDocuments)}
    return {name: _balanced(datasets, name, stage) for name, stage in ending.items()}


def _balanced(datasets: Mapping[Stage, Dataset], name: str, stage: EndsDocuments) -> Ledger:
    def counts(of: Stage) -> Mapping[str, int]:
        dataset = datasets[of]
        if dataset.manifest is None:
            dataset.find()
        return dataset.manifest.counts if dataset.manifest is not None else {}

    said, documents = stage.ledger(counts), counts(documents_of(stage)).get("documents", 0)
    not_reached = documents - said.reached + said.states.get(NOT_REACHED, 0)
    states = {**said.states, NOT_REACHED: not_reached}
    if sum(states.values()) != documents or min(states.values()) < 0:
        raise InternalError(
            f"the states of the documents of output {name!r} sum to {sum(states.values()):,}, not to the {documents:,} "
            f"documents of the corpus: {', '.join(f'{state} {n:,}' for state, n in states.items())}"
        )
    return Ledger(documents, states, said.beside)
