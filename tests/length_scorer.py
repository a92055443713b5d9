"""A scorer for tests of what comes after scoring: the number of characters of a text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate import PythonScorer


def length_scorer(axis: str = "length") -> PythonScorer:
    # A function of this function: workers, which can't import the tests, get it by value.
    def length(table: pa.Table) -> np.ndarray:
        return pc.utf8_length(table["text"]).to_numpy().astype(np.float32)

    return PythonScorer(function=length, axes=(axis,), version="1")
