"""Scores that are there already: a column of the corpus, which becomes an axis with no model run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from annotate.errors import ConfigError
from annotate.scorers.function import PythonScorer


def column_scorer(column: str, axis: str | None = None) -> PythonScorer:
    """Give each span the value that its document has in a column of the corpus; a null is no score.

        score(Split(Corpus("data/*.parquet"), by="document"), [column_scorer("quality")])

    Args:
        column: of numbers or booleans; they are taken as float32.
        axis: what the axis is called; None for the name of the column.
    """
    return PythonScorer(
        function=_Column(column), axes=(axis or column,), columns=(column,), version=1, batch_rows=1 << 16
    )


@dataclass(frozen=True)
class _Column:
    name: str

    def __call__(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
        column = table[self.name]
        if not (
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
        ):
            raise ConfigError(
                f"the column {self.name!r} has no scores: its type is {column.type}", hint="Name a column of numbers."
            )
        values = pc.cast(column, pa.float32(), safe=False)
        return pc.fill_null(values, float("nan")).to_numpy()
