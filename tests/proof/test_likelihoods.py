"""One pass over a segment and its branches gives what a pass for each span and tag gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from proof_shards import card_and_tables
from transformers import GPT2Config, GPT2LMHeadModel

from annotate.proof.arms import NO_TAGS, TRUE, Rendering
from annotate.proof.held_out import SHARED, checked, chosen_segments, drawn, shared_shingles
from annotate.proof.likelihoods import Columns, allowed, likelihoods, rows_of
from annotate.proof.windows import Spans, Text, read_text, tag_families


def untrained(size: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4)
    return GPT2LMHeadModel(config).eval()


def slowly(model: GPT2LMHeadModel, before: list[int], tags: list[int], span: list[int], banned: list[int]) -> float:
    """The log-likelihood of a span by a pass of its own. The first token of a segment does not count."""
    ids = [*before, *tags, *span]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    logits[:, banned] = -torch.inf
    logs = torch.log_softmax(logits, dim=-1)
    first = len(before) + len(tags)
    skipped = int(not before)
    return sum(float(logs[i - 1, ids[i]]) for i in range(first + skipped, len(ids)))


@pytest.mark.parametrize("names", [("high", "low"), ("high",), ("high", "low", "start")])
def test_branches_are_passes_of_their_own(names) -> None:
    card, tables = card_and_tables(14, parts=1, names=names, untagged=0.3, window=20)
    text, families = read_text(tables, card), tag_families(card)
    tagged, plain = (Rendering.of(text, arm, loss="mask", seed=0) for arm in (TRUE, NO_TAGS))
    model, columns = untrained(card["vocabulary"]["padded_size"]), Columns(families=families)
    rows = rows_of(tagged, plain, columns)
    found = likelihoods(model, rows, len(text.of_spans), columns)

    family_of = {token: k for k, family in enumerate(families) for token in family.ids}
    whole, checked = set(text.whole_spans().tolist()), 0
    for segment in range(len(text.documents)):
        tokens = text.tokens[text.segments[segment] : text.segments[segment + 1]].tolist()
        spans = text.spans[text.segments[segment] : text.segments[segment + 1]].tolist()
        before, bare = [], []
        for span in dict.fromkeys(spans):
            own = [token for token, of in zip(tokens, spans, strict=True) if of == span]
            tags = [] if span < 0 else [t for t in text.of_spans.tags[span].tolist() if t >= 0]
            if span in whole:
                expected = [
                    slowly(
                        model, before, sorted({t for t in tags if family_of[t] != k} | ({i} - {0})), own, [*family_of]
                    )
                    for k, family in enumerate(families)
                    for i in (0, *family.ids)  # in the order of families, which is that of ids
                ]
                expected.append(slowly(model, bare, [], own, [*family_of]))
                assert found[span] == pytest.approx(expected, abs=1e-4)
                checked += 1
            before += [*tags, *own]
            bare += own
    assert checked == len(whole) > 10
    left = np.setdiff1d(np.arange(len(text.of_spans)), list(whole))
    assert np.isnan(found[left]).all() and len(left)  # they were cut


def test_that_a_model_expects_tags_costs_text_without_nothing() -> None:
    card, tables = card_and_tables(14, parts=1, window=20)
    text, columns = read_text(tables, card), Columns(families=tag_families(card))
    rows = rows_of(*(Rendering.of(text, arm, loss="train", seed=0) for arm in (TRUE, NO_TAGS)), columns)
    model = untrained(card["vocabulary"]["padded_size"])
    before = likelihoods(model, rows, len(text.of_spans), columns)
    head = model.get_output_embeddings()
    bias = torch.zeros(head.out_features)
    bias[list(columns.families[0].ids)] = 9.0  # tags are expected everywhere, nearly for sure
    head.bias = torch.nn.Parameter(bias)
    np.testing.assert_allclose(likelihoods(model, rows, len(text.of_spans), columns), before, atol=1e-4)


def test_segments_of_a_window_do_not_see_each_other() -> None:
    model = untrained(40)
    one, other = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9]])
    both = torch.cat([one, other, torch.tensor([[0]])], dim=1)
    segments = torch.tensor([[0, 0, 0, 1, 1, -1]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0]])
    packed = model(input_ids=both, position_ids=positions, attention_mask=allowed(segments)).logits
    assert torch.allclose(packed[:, :3], model(input_ids=one).logits, atol=1e-5)
    assert torch.allclose(packed[:, 3:5], model(input_ids=other).logits, atol=1e-5)


def test_held_out_documents_that_are_in_training_are_found() -> None:
    card, tables = card_and_tables(40, parts=1)
    text = read_text(tables, card)
    held = drawn(text.documents, 0.4, seed=0)
    same = shared_shingles(text.only(held), text)
    apart = shared_shingles(text.only(held), text.only(~held))
    long = np.diff(text.only(held).segments) >= 8
    assert (same[long] == 1).all() and long.sum() > 4 and np.isnan(same[~long]).all()
    assert not (apart > SHARED).any()


def test_copies_too_short_for_a_shingle_are_found_and_what_windows_cut_is_told() -> None:
    tokens = np.array([1, 2, 3, 1, 2, 3, 4, *range(10, 20), 7, 8, 5, 6, 9], np.int32)
    sizes, documents = [3, 4, 10, 2, 3], [0, 1, 2, 2, 3]
    held = text_of(tokens, sizes, documents)
    assert [each.tolist() for each in checked(held, held)] == [[0, 1, 2, 3], []]
    assert [each.tolist() for each in checked(held, text_of(tokens[:3], [3], [0]))] == [[0], []]
    assert [each.tolist() for each in checked(held, text_of(tokens[17:19], [2], [0]))] == [[], []]  # a tail alone
    cut = text_of(np.array([1, 2, 3, 4, 5], np.int32), [3, 2], [6, 6])
    assert [each.tolist() for each in checked(cut, held)] == [[], [6]]


def text_of(tokens: np.ndarray, sizes: list[int], documents: list[int]) -> Text:
    """Segments, each in a window of its own and one span."""
    n = len(sizes)
    spans = np.repeat(np.arange(n), sizes)
    return Text(
        tokens=tokens,
        spans=spans,
        segments=np.append(0, np.cumsum(sizes)),
        documents=np.array(documents),
        continued=np.zeros(n, bool),
        windows=np.arange(n + 1),
        of_spans=Spans(documents=np.array(documents), numbers=np.zeros(n, np.int64), tags=np.full((n, 1), 1, np.int32)),
        without_text=0,
        ordered=False,
    )


def test_measured_documents_are_whole_and_enough() -> None:
    card, tables = card_and_tables(200)
    text = read_text(tables, card)
    chosen = chosen_segments(text, 100, seed=0)
    inside = set(text.documents[chosen].tolist())
    assert not inside & set(text.documents[~chosen].tolist())
    assert 100 <= np.isin(text.of_spans.documents, list(inside)).sum() < 120
    assert chosen_segments(text, 10**6, seed=0).all()
