"""A column of the corpus as an axis."""

import pyarrow as pa
import pytest

from annotate import column_scorer
from annotate.errors import ConfigError


def scores(column: pa.Array) -> list[float | None]:
    scorer = column_scorer("reward", "niceness")
    prepared = scorer.backbone.prepare(pa.table({"reward": column, "text": ["t"] * len(column)}))
    [found] = scorer.backbone.load([scorer], "cpu")(prepared, [0])
    values = found.values[prepared.inverse][:, 0]
    return [None if value != value else float(value) for value in values]


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.float32(), pa.uint8()])
def test_numbers_are_scores_and_nulls_are_none(kind: pa.DataType) -> None:
    assert scores(pa.array([3, None, 7, 3], kind)) == [3.0, None, 7.0, 3.0]
    assert scores(pa.array([True, False, None])) == [1.0, 0.0, None]


def test_it_is_known_by_its_column() -> None:
    one, two = column_scorer("reward"), column_scorer("other", "reward")
    assert one.axes == two.axes == ("reward",) and one.columns == ("reward",)
    assert one.identity() != two.identity()


def test_text_is_no_score() -> None:
    with pytest.raises(ConfigError, match="the column 'reward' has no scores: its type is string"):
        scores(pa.array(["a"]))
