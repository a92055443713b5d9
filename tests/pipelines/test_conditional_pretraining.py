"""The shipped pipeline: parameters that do not go together are said, not passed over."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate import ConfigError
from annotate.pipeline_files import build, load
from annotate.storage.contracts import shipped


def test_a_mix_has_an_order(tmp_path: Path) -> None:
    made, _ = load(str(shipped("pipelines") / "conditional_pretraining.py"))
    pq.write_table(pa.table({"id": ["a"], "text": ["A text."], "source": ["web"]}), tmp_path / "a.parquet")
    given = {"corpus": str(tmp_path), "mix": "web=1"}
    assert build(made, given).outputs["shards"].placements.schedule.mix.weights == (("web", 1.0),)
    with pytest.raises(ConfigError, match=r"(?s)order=corpus keeps that of the corpus.*Leave order=corpus out"):
        build(made, {**given, "order": "corpus"})
    with pytest.raises(ConfigError, match="got two for 'web'"):
        build(made, {**given, "mix": "web=1,web=2"})
    with pytest.raises(ConfigError, match=r"weights are written as source=0\.5,other=0\.5, got web"):
        build(made, {**given, "mix": "web"})
