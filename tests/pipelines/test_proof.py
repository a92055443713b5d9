"""The pipeline of the proof, on a small corpus: its shards are what a proof reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import train_tokenizer
from click.testing import CliRunner
from support import write_corpus
from tiny_tokenizer import byte_tokenizer

from annotate import Options
from annotate.errors import ConfigError
from annotate.pipeline_files import load_pipeline
from annotate.proof.arms import TRUE, Rendering
from annotate.proof.material import read_material
from annotate.storage.results import shard_tables
from pipelines.proof import letters_a_word, marks_a_word, pipeline

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_its_shards_can_be_proved(ray_in_process, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", shards=2, documents=60)
    made = CliRunner().invoke(
        train_tokenizer.main, [str(tmp_path / "corpus"), str(tmp_path / "tokenizer"), "--size", "400"]
    )
    assert made.exit_code == 0, made.output
    given = {
        "corpus": str(tmp_path / "corpus"),
        "tokenizer": str(tmp_path / "tokenizer"),
        "window": 64,
        "held_out": 0.3,
    }
    load_pipeline(REPOSITORY / "pipelines" / "proof.py", **given).run(str(tmp_path / "out"), Options(workers=2))
    material = read_material(tmp_path / "out")
    (family,) = material.families
    assert family.names == ("long_words", "short_words")
    assert any("shares no split group" in remark for remark in material.remarks)
    states = material.text.of_spans.states(family)
    assert 0.3 < (states == 1).mean() < 0.6 and 0.1 < (states == 0).mean() < 0.35
    # The arm with true tags is the shards, also where sentences were cut.
    batch = Rendering.of(material.text, TRUE, loss="mask", seed=0).batch(range(material.text.n_windows))
    windows = [ids[of >= 0].tolist() for ids, of in zip(batch.ids, batch.segments, strict=True)]
    expected = [
        ids[: sum(lengths)]
        for table in shard_tables(tmp_path / "out", "train")
        for ids, lengths in zip(table["input_ids"].to_pylist(), table["segment_lengths"].to_pylist(), strict=True)
    ]
    assert windows == expected and len(windows) > 20


def test_letters_a_word() -> None:
    import pyarrow as pa

    found = letters_a_word(pa.table({"text": ["We go.", "Überlänge, 3 (a)!", "... 12"]}))
    np.testing.assert_allclose(np.asarray(found), [2.0, 5.0, 0.0])


def test_marks_a_word() -> None:
    import pyarrow as pa

    found = marks_a_word(pa.table({"text": ["We go.", "(`a`_b)", "... 12"]}))
    np.testing.assert_allclose(np.asarray(found), [0.5, 2.5, 3.0])


def test_more_levels_are_grades_in_their_order(tmp_path: Path) -> None:
    given = {"tokenizer": str(byte_tokenizer(tmp_path)), "levels": 4}
    scheme = pipeline(**given).outputs["train"].placements.thresholds.scheme
    assert [tag.name for tag in scheme.tags] == ["letters_1", "letters_2", "letters_3", "letters_4"]
    assert (scheme.tags[0].rule, scheme.tags[3].rule) == ("letters <= q(letters, 0.25)", "letters > q(letters, 0.75)")
    assert [family.dropout for family in scheme.families] == [0.1]
    with pytest.raises(ConfigError, match="bins must be at least 2"):
        pipeline(**{**given, "levels": 1})


def test_a_second_family_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    tokenizer = str(byte_tokenizer(tmp_path))
    one, two = (
        pipeline(tokenizer=tokenizer, marks=marks).outputs["train"].placements.thresholds.scheme
        for marks in (False, True)
    )
    assert [tag.name for tag in two.tags] == ["long_words", "short_words", "many_marks", "few_marks"]
    assert two.tags[:2] == one.tags and two.families[:1] == one.families
