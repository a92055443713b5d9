"""Two tags of two families: what they do together, and what becomes of a pair that was never seen together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from proof_shards import card_and_tables
from test_likelihoods import untrained

from annotate.proof import prove as prove_module
from annotate.proof.arms import TRUE, Rendering, has_both, held_out_pair, kept_apart
from annotate.proof.joint_effects import effects, joint_effects, rows_of_pairs
from annotate.proof.likelihoods import Columns
from annotate.proof.pairs import measure_pairs, measure_recombination
from annotate.proof.prove import prove
from annotate.proof.windows import NONE, TagFamily, Text, read_text, tag_families

NAMES = ("high", "low", "long", "short")
SMALL = {"width": 32, "layers": 1, "learning_rate": 1e-2, "jobs": 1, "checkpoints": 1}


def shards(n: int = 14, **settings) -> tuple[Text, tuple[TagFamily, ...], int]:
    card, tables = card_and_tables(
        n, parts=1, names=NAMES, **{"window": 24, "untagged": 0.2, "dropout": 0.2, **settings}
    )
    return read_text(tables, card), tag_families(card), card["vocabulary"]["padded_size"]


class Table:
    """A model that is a table: the logits are those of what a token sees, in sum, or what the tags that it sees give.

    `of_tags` takes the number of each tag that each token sees, float `[n, width, tags]`.
    """

    device = torch.device("cpu")

    def __init__(self, size: int, tags: list[int], of_tags) -> None:
        self.table = torch.randn(size, size, generator=torch.Generator().manual_seed(1))
        self.tags, self.of_tags = tags, of_tags

    def eval(self) -> None: ...

    def __call__(self, *, input_ids: torch.Tensor, position_ids: torch.Tensor, attention_mask: torch.Tensor):
        seen = attention_mask[:, 0].float() @ torch.nn.functional.one_hot(input_ids, len(self.table)).float()
        own = seen[..., self.tags]
        seen[..., self.tags] = 0
        return SimpleNamespace(logits=seen @ self.table + self.of_tags(own))


def found_in(model, text: Text, families) -> np.ndarray:
    rows = rows_of_pairs(Rendering.of(text, TRUE, loss="mask", seed=0), families)
    return joint_effects(model, rows, text, families)


def test_effects_are_those_of_passes_of_their_own() -> None:
    text, families, size = shards()
    model, checked = untrained(size), 0
    found = found_in(model, text, families)
    kept = np.setdiff1d(np.arange(size), [token for family in families for token in family.ids])
    whole = set(text.whole_spans().tolist())
    for segment in range(len(text.documents)):
        begin, end = text.segments[segment], text.segments[segment + 1]
        before: list[int] = []
        for span in dict.fromkeys(text.spans[begin:end].tolist()):
            own = text.tokens[begin:end][text.spans[begin:end] == span].tolist()
            tags = [] if span < 0 else [t for t in text.of_spans.tags[span].tolist() if t >= 0]
            if span in whole and len(tags) == 2:
                skipped = int(not before)  # nothing counts that stands first in a segment
                logits = []
                for choice in ([], tags[:1], tags[1:], tags):
                    with torch.no_grad():
                        all_of = model(input_ids=torch.tensor([[*before, *choice, *own]])).logits[0]
                    first = len(before) + len(choice)
                    logits.append(all_of[first - 1 + skipped : first + len(own) - 1][:, kept])
                expected = effects(*logits)
                apart = np.stack([expected[: 1 - skipped].sum(axis=0), expected[1 - skipped :].sum(axis=0)])
                np.testing.assert_allclose(found[span, 0], apart, rtol=1e-3, atol=1e-4)
                checked += 1
            elif span >= 0:
                assert np.isnan(found[span]).all()
            before += [*tags, *own]
    assert checked > 5


@pytest.mark.parametrize("expected", [1.0, 0.0])
def test_tags_that_add_up_have_r2_1_and_tags_that_tell_the_same_once_have_0(expected: float) -> None:
    text, families, size = shards(40, window=64)
    ids = [token for family in families for token in family.ids]
    each = torch.randn(len(ids), size, generator=torch.Generator().manual_seed(2))
    add_up = Table(size, ids, lambda own: own @ each)
    once = Table(size, ids, lambda own: own.sum(dim=-1, keepdim=True).clamp(max=1) * each[0])
    found = found_in(add_up if expected else once, text, families)
    kept = np.flatnonzero(~np.isnan(found[:, 0, 0, 0]))
    pairs = measure_pairs(families, text.of_spans, kept, {"true": found[kept][None]})
    assert {pair.tags for pair in pairs} == {(a, b) for a in NAMES[:2] for b in NAMES[2:]}
    assert sum(pair.spans for pair in pairs) == len(kept) > 20
    for pair in pairs:
        for at in (pair.arms[0].all_tokens, pair.arms[0].behind_first):
            assert (at.r2.value, at.cosine.value, at.r2.low) == pytest.approx((expected, 1, expected), abs=1e-4)
        assert pair.above_control is None and pair.documents >= 10
    at_nine = kept[np.isin(text.of_spans.documents[kept], np.unique(text.of_spans.documents[kept])[:9])]
    for pair in measure_pairs(families, text.of_spans, at_nine, {"true": found[at_nine][None]}):
        assert pair.documents < 10 and np.isnan(pair.arms[0].all_tokens.r2.value)


def test_what_a_pair_does_is_told_above_the_control() -> None:
    """The control's cosine is high, as that of noise is: the difference says so."""
    text, families, size = shards(40, window=64)
    ids = [token for family in families for token in family.ids]
    each = torch.randn(len(ids), size, generator=torch.Generator().manual_seed(2))
    add_up = found_in(Table(size, ids, lambda own: own @ each), text, families)
    once = Table(size, ids, lambda own: own.sum(dim=-1, keepdim=True).clamp(max=1) * each[0])
    control = found_in(once, text, families)
    kept = np.flatnonzero(~np.isnan(add_up[:, 0, 0, 0]))
    effects = {"true": add_up[kept][None], "shuffled": control[kept][None]}
    for pair in measure_pairs(families, text.of_spans, kept, effects):
        above = pair.above_control
        assert above is not None and above.arm == "true less shuffled"
        for at in (above.all_tokens, above.behind_first):
            assert (at.r2.value, at.r2.low, at.cosine.value) == pytest.approx((1, 1, 0), abs=1e-4)


def test_a_pair_is_kept_apart_and_nothing_else_changes() -> None:
    text, families, _ = shards(300)
    arm = held_out_pair(families)
    assert arm is not None and arm.apart == (families[0].ids[0], families[1].ids[0])
    spans = text.of_spans
    tags = kept_apart(spans, arm.apart, seed=0)
    both = has_both(spans, arm.apart)
    assert 100 < both.sum() < len(spans) - 100
    np.testing.assert_array_equal(tags[~both], spans.tags[~both])
    assert (tags[both][:, 1] == NONE).all()  # one of the two is left, and it stands first
    share = (tags[both][:, 0] == arm.apart[0]).mean()
    assert np.isin(tags[both][:, 0], arm.apart).all() and 0.35 < share < 0.65
    assert not np.array_equal(tags, kept_apart(spans, arm.apart, seed=1))
    np.testing.assert_array_equal(Rendering.of(text, arm, loss="mask", seed=0).tags, tags)
    assert held_out_pair(families[:1]) is None


def test_gaps_of_a_pair_that_was_held_out_are_those_of_spans_that_have_both() -> None:
    text, families, _ = shards(100)
    spans, columns, pair = text.of_spans, Columns(families=families), (families[0].ids[0], families[1].ids[1])
    both = has_both(spans, pair)
    given = {"true": 2.0, "shuffled": 0.25, "held-out pair": 1.5}
    likelihoods = {name: np.full((1, len(spans), columns.plain + 1), -100.0) for name in given}
    for name, gap in given.items():
        for family in (0, 1):
            own = columns.of(family).start + spans.states(families[family])
            likelihoods[name][0, np.arange(len(spans)), own] += np.where(both, gap * (family + 1), 50.0)
    kept = np.arange(len(spans))
    found = measure_recombination(pair, "held-out pair", spans, spans, kept, likelihoods, columns)
    assert found.tags == ("high", "short") and found.trained == found.spans == both.sum() > 10
    assert found.documents == len(np.unique(spans.documents[both])) >= 10
    for times, of in enumerate(found.of_tags, start=1):
        values = np.array([each.value for each in (of.held_out, of.true, of.shuffled, of.above_control, of.lost)])
        np.testing.assert_allclose(values / times, [1.5, 2, 0.25, 1.25, 0.5])
    assert found.recombined
    few = np.flatnonzero(~both | (spans.documents < np.unique(spans.documents[both])[9]))
    nine = measure_recombination(
        pair,
        "held-out pair",
        spans,
        spans,
        few,
        {name: values[:, few] for name, values in likelihoods.items()},
        columns,
    )
    assert nine.documents == 9 and nine.spans >= 9 and nine.recombined is None  # however large the gaps are
    assert np.isnan(nine.of_tags[0].above_control.value)
    others = {name: values[:, ~both] for name, values in likelihoods.items()}
    none = measure_recombination(pair, "held-out pair", spans, spans, kept[~both], others, columns)
    assert none.spans == 0 and none.recombined is None


def test_a_proof_of_two_families_tells_what_tags_do_together(empty, tmp_path: Path, monkeypatch) -> None:
    """Words tell one tag, their number the other: the model can know a pair from its tags alone."""
    monkeypatch.setattr(prove_module, "IN_PART", ())
    card, tables = card_and_tables(400, cue=0.7, window=64, names=NAMES, dropout=0.15)
    empty.add("train", card, tables, subset="train")
    held = card_and_tables(100, cue=0.7, window=64, seed=5, parts=1, names=NAMES, dropout=0.15)[1]
    empty.add("held_out", card, held, subset="evaluation")
    proof = prove(empty.folder, tmp_path / "proof", steps=80, seeds=1, full=True, **SMALL)
    assert {pair.tags for pair in proof.pairs} == {(a, b) for a in NAMES[:2] for b in NAMES[2:]}
    assert [arm.arm for arm in proof.pairs[0].arms] == ["true", "shuffled", "held-out pair"]
    of_high, whole = proof.recombination.of_tags[0], proof.recombination
    assert whole.tags == ("high", "long") and whole.trained > 100 and 10 < whole.spans < 200
    assert of_high.above_control.low > 1 and whole.recombined
    assert of_high.true.value - of_high.held_out.value == pytest.approx(of_high.lost.value)
    said = (tmp_path / "proof" / "proof.md").read_text()
    assert (
        "## Two tags together" in said
        and "| true less shuffled |" in said
        and "## <high> and <long> never together in training" in said
    )
    assert proof.as_json()["recombination"]["recombined"] is whole.recombined
    again: list[str] = []
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "proof" / "runs").rglob("*.safetensors")}
    assert sum("joint-effects" in path.name for path in files) == 3
    prove(empty.folder, tmp_path / "proof", steps=80, seeds=1, full=True, tell=again.append, **SMALL)
    assert "all models are trained" in again
    assert files == {path: path.stat().st_mtime_ns for path in files}
