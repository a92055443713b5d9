"""The shipped pipeline: parameters that do not go together are said, not passed over."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import support

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


def test_the_file_works_where_it_alone_is_copied(tmp_path):
    copy = shutil.copy("pipelines/conditional_pretraining.py", tmp_path)
    corpus = support.write_corpus(tmp_path / "corpus", shards=1, documents=4)
    script = f"from annotate.pipeline_files import load_pipeline\nload_pipeline({copy!r}, corpus={str(corpus)!r})"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    script = f"from annotate.pipeline_files import load_pipeline\nload_pipeline({copy!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert "no corpus was named" in done.stderr and "--set 'corpus=" in done.stderr
