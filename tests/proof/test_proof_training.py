"""Training learns tags that can be learned, and a run that was killed ends as one that was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from proof_shards import card_and_tables

from annotate.errors import ConfigError
from annotate.proof.arms import NO_TAGS, SHUFFLED, TRUE, Rendering
from annotate.proof.gaps import swap_gaps
from annotate.proof.likelihoods import Columns, likelihoods, rows_of
from annotate.proof.training import STATE, Recipe, load_state, new_model, train, window_numbers
from annotate.proof.windows import read_text, tag_families

RECIPE = Recipe(width=32, layers=1, batch=4, steps=12, checkpoints=3)


class Killed(Exception):
    pass


def trained(rendering: Rendering, folder: Path, recipe: Recipe = RECIPE, die_at: int | None = None) -> torch.nn.Module:
    model = new_model(recipe, 48, 64, seed=1)

    def tell(progress) -> None:
        if progress.step == die_at:
            raise Killed

    train(model, rendering, recipe, folder, seed=1, checkpoint=lambda step, model: None, tell=tell)
    return model


def test_a_run_that_was_killed_has_the_weights_of_one_that_was_not(tmp_path: Path, monkeypatch) -> None:
    torch.set_num_threads(1)
    card, tables = card_and_tables()
    rendering = Rendering.of(read_text(tables, card), TRUE, loss="mask", seed=0)
    whole = trained(rendering, tmp_path / "whole")
    monkeypatch.setattr("annotate.proof.training.SAVED_EVERY", 0.0)  # each step is saved
    for step in (1, 5, 8):
        with pytest.raises(Killed):
            trained(rendering, tmp_path / "killed", die_at=step)
        assert (tmp_path / "killed" / STATE).exists()
    again = trained(rendering, tmp_path / "killed")
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, dict(again.named_parameters())[name]), name
    assert (tmp_path / "killed" / STATE).read_bytes() == (tmp_path / "whole" / STATE).read_bytes()
    assert not [*tmp_path.glob("*/.*")]


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    card, tables = card_and_tables()
    rendering = Rendering.of(read_text(tables, card), TRUE, loss="mask", seed=0)
    trained(rendering, tmp_path)
    other = new_model(Recipe(width=64, layers=1, steps=12), 48, 64, seed=1)
    with pytest.raises(ConfigError, match="another model"):
        load_state(tmp_path, other, torch.optim.AdamW(other.parameters()))


def test_each_epoch_has_each_window_once_in_another_order() -> None:
    recipe = Recipe(batch=7, steps=30)
    numbers = np.concatenate([window_numbers(step, recipe, 35, seed=0, ordered=False) for step in range(15)])
    first, second = numbers[:35], numbers[35:70]
    assert sorted(first) == sorted(second) == list(range(35)) and (first != second).any()
    kept = np.concatenate([window_numbers(step, recipe, 35, seed=0, ordered=True) for step in range(10)])
    assert kept.tolist() == [*range(35)] * 2
    assert (window_numbers(0, recipe, 35, seed=1, ordered=False) != first[:7]).any()


def test_checkpoints_are_spaced_by_factors_and_the_rate_falls() -> None:
    assert Recipe(steps=800).measured == (25, 50, 100, 200, 400, 800)
    assert Recipe(steps=3).measured == (1, 2, 3)
    recipe = Recipe(steps=1000)
    rates = [recipe.rate(step) for step in range(1000)]
    assert max(rates) == pytest.approx(2e-3) and rates[0] < 1e-4 and rates[-1] == pytest.approx(2e-4, rel=0.01)
    with pytest.raises(ConfigError, match="steps is at least 1"):
        Recipe(steps=0)
    with pytest.raises(ConfigError, match="multiple of"):
        Recipe(steps=1, width=100)


def test_true_tags_are_learned_and_shuffled_ones_are_not(tmp_path: Path) -> None:
    """Words of the text tell its tag: a model of one layer finds that in seconds."""
    torch.set_num_threads(1)
    card, tables = card_and_tables(500, cue=0.7, window=64)
    text, families = read_text(tables, card), tag_families(card)
    held = card_and_tables(60, cue=0.7, window=64, seed=5, parts=1)[1]
    measured = read_text(held, card)
    columns = Columns(families=families)
    rows = rows_of(*(Rendering.of(measured, arm, loss="mask", seed=0) for arm in (TRUE, NO_TAGS)), columns)
    recipe, gaps = Recipe(width=32, layers=1, batch=8, steps=120, learning_rate=1e-2), {}
    for arm in (TRUE, SHUFFLED):
        model = trained(Rendering.of(text, arm, loss="mask", seed=0), tmp_path / arm.name, recipe)
        found = likelihoods(model, rows, len(measured.of_spans), columns)
        gaps[arm.name] = np.nanmean(swap_gaps(found[:, columns.of(0)], measured.of_spans.states(families[0])))
    assert gaps["true"] > 3.0  # nats: about five words of seven are the tag's own
    assert abs(gaps["shuffled"]) < 0.5
