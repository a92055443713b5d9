"""Shards are taken apart and put together again, token by token; arms differ in their tags alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from proof_shards import card_and_tables

from annotate.errors import ConfigError
from annotate.exports.huggingface import IGNORED
from annotate.proof.arms import IN_PART, NO_TAGS, SHUFFLED, TRUE, Rendering
from annotate.proof.windows import read_text, tag_families


def without_padding(table: pa.Table) -> list[list[int]]:
    lengths = [sum(each) for each in table["segment_lengths"].to_pylist()]
    return [ids[:n] for ids, n in zip(table["input_ids"].to_pylist(), lengths, strict=True)]


def windows_of(rendering: Rendering) -> list[list[int]]:
    batch = rendering.batch(range(rendering.text.n_windows))
    return [ids[of >= 0].tolist() for ids, of in zip(batch.ids, batch.segments, strict=True)]


@pytest.mark.parametrize("loss", ["mask", "train"])
@pytest.mark.parametrize(("names", "begin", "window"), [(("high", "low", "start"), False, 24), (("high",), True, 16)])
def test_the_arm_with_true_tags_is_the_shards(loss, names, begin, window) -> None:
    card, tables = card_and_tables(loss=loss, names=names, begin=begin, window=window)
    text = read_text(tables, card)
    rendering = Rendering.of(text, TRUE, loss=loss, seed=0)
    expected = [window for table in tables for window in without_padding(table)]
    assert windows_of(rendering) == expected
    batch = rendering.batch(range(text.n_windows))
    masks = [mask for table in tables for mask in table["loss_mask"].to_pylist()]
    positions = [each for table in tables for each in table["position_ids"].to_pylist()]
    tags = [token for family in tag_families(card) for token in family.ids]
    differ = 0
    for i, ids in enumerate(expected):
        assert batch.positions[i, : len(ids)].tolist() == positions[i][: len(ids)]
        own, given = batch.labels[i, : len(ids)] != IGNORED, np.array(masks[i][: len(ids)], bool)
        assert not (own & ~given).any()  # all targets are targets of the shards
        differ += int((given & ~own).sum())
        after_tag = np.append(False, np.isin(ids[:-1], tags))
        assert (~own & given & ~np.isin(ids, tags) <= after_tag).all()  # but the first of a segment, after tags
        assert (batch.labels[i, : len(ids)][own] == np.array(ids)[own]).all()
    assert differ <= 2 * len(text.documents)
    assert text.without_text == 0
    assert len(text.of_spans) == len({*zip(text.of_spans.documents, text.of_spans.numbers, strict=True)})


def test_arms_have_the_same_text_in_the_same_order() -> None:
    card, tables = card_and_tables(loss="train")
    text = read_text(tables, card)
    tags = [token for family in tag_families(card) for token in family.ids]
    arms = [Rendering.of(text, arm, loss="train", seed=3) for arm in (TRUE, SHUFFLED, NO_TAGS, *IN_PART)]
    bodies = [[[t for t in ids if t not in tags] for ids in windows_of(arm)] for arm in arms]
    assert all(body == bodies[0] for body in bodies)
    targets = []
    for arm in arms:
        batch = arm.batch(range(text.n_windows), at=0.25)
        labels = batch.labels[(batch.labels != IGNORED) & ~np.isin(batch.labels, tags)]
        targets.append(labels.tolist())
        assert batch.ids.shape[1] <= arm.width
    assert all(each == targets[0] for each in targets)
    assert not np.isin(arms[2].batch(range(text.n_windows)).ids, tags).any()


def test_shuffled_tags_are_the_same_tags_on_other_spans() -> None:
    card, tables = card_and_tables(400, untagged=0.2)
    text = read_text(tables, card)
    (family,) = tag_families(card)
    true = text.of_spans.states(family)
    moved = Rendering.of(text, SHUFFLED, loss="mask", seed=0).tags
    assert sorted(moved[:, 0].tolist()) == sorted(text.of_spans.tags[:, 0].tolist())
    state = np.array([0, *range(1, 3)])[np.searchsorted([-1, *family.ids], moved[:, 0])]
    table = np.array([[((true == i) & (state == j)).mean() for j in range(3)] for i in range(3)])
    assert table == pytest.approx(np.outer(table.sum(axis=1), table.sum(axis=0)), abs=0.03)  # independent
    again = Rendering.of(text, SHUFFLED, loss="mask", seed=0).tags
    assert (again == moved).all() and not (Rendering.of(text, SHUFFLED, loss="mask", seed=1).tags == moved).all()


def test_arms_in_part_have_tags_when_they_should() -> None:
    card, tables = card_and_tables(300, untagged=0.0)
    text = read_text(tables, card)
    (family,) = tag_families(card)

    def share(arm: int, at: float) -> float:
        """Of spans that have a tag."""
        ids = Rendering.of(text, IN_PART[arm], loss="mask", seed=0).batch(range(text.n_windows), at).ids
        return float(np.isin(ids, family.ids).sum() / text.run_starts().sum())

    assert (share(0, 0.2), share(0, 0.7)) == (1.0, 0.0)
    assert (share(1, 0.2), share(1, 0.7)) == (0.0, 1.0)
    assert (share(2, 0.2), share(2, 0.95)) == (1.0, 0.0)
    assert share(3, 0.0) == 0.0 and share(3, 0.5) == pytest.approx(0.5, abs=0.1) and share(3, 0.99) > 0.95
    assert share(5, 0.3) == pytest.approx(0.1, abs=0.06) == share(5, 0.9)


def test_some_segments_alone() -> None:
    card, tables = card_and_tables()
    text = read_text(tables, card)
    kept = text.documents % 3 == 0
    some = text.only(kept)
    assert set(some.documents.tolist()) == {d for d in text.documents.tolist() if d % 3 == 0}
    assert (np.diff(some.windows) > 0).all() and some.windows[-1] == kept.sum()
    assert len(some.tokens) == np.diff(text.segments)[kept].sum()
    assert windows_of(Rendering.of(some, TRUE, loss="mask", seed=0))


def test_reading_stops_when_there_is_enough() -> None:
    card, tables = card_and_tables(80, parts=4)
    one = read_text(tables[:1], card)
    assert len(read_text(tables, card, enough=5).tokens) == len(one.tokens) < len(read_text(tables, card).tokens)


def test_what_can_not_be_measured_is_refused() -> None:
    card, tables = card_and_tables()
    with pytest.raises(ConfigError, match="which span each token is of"):
        read_text([tables[0].drop_columns(["span_ids"])], card)
    card["tags"][1]["every_span"] = False
    with pytest.raises(ConfigError, match="<low> is of larger spans than those inside it, as `Nest` places it"):
        read_text(tables, card)
    card["tags"][0]["layout"] = "repeat"
    with pytest.raises(ConfigError, match="<high> does not stand before each of its spans"):
        read_text(tables, card)
    with pytest.raises(ConfigError, match="no tags"):
        tag_families({"tags": []})
