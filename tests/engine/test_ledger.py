"""A ledger that does not sum to its input is a mistake of ours, and is said to be one."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from annotate.engine.ledger import balance
from annotate.errors import InternalError, StorageError
from annotate.graph import EndsDocuments, LedgerStates, Map
from annotate.stages.corpus import Corpus


class _Ends(EndsDocuments, Map):
    name = "ends"

    @property
    def inputs(self) -> dict[str, Any]:
        return {"corpus": Corpus("a.parquet")}

    def settings(self) -> dict[str, Any]:
        return {}

    def unit(self, tables: Any) -> Any:
        raise NotImplementedError

    def ledger(self, counts: Any) -> LedgerStates:
        return LedgerStates(states={"written": 4}, reached=5, beside={})


def test_states_that_do_not_sum_to_the_input_are_reported_as_a_mistake_of_annotate():
    stage = _Ends()
    manifest = SimpleNamespace(counts={"documents": 10})
    datasets: Any = {each: SimpleNamespace(manifest=manifest) for each in (stage, stage.inputs["corpus"])}
    with pytest.raises(
        InternalError, match=r"output 'train' sum to 9, not to the 10 .*: written 4, not_reached 5"
    ) as e:
        balance(datasets, {"train": stage})
    assert "Report it" in str(e.value) and not isinstance(e.value, StorageError)
    again = pickle.loads(pickle.dumps(e.value))
    assert (type(again), str(again)) == (InternalError, str(e.value))
