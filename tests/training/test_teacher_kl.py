"""The loss against a teacher of whom the most probable tokens are known: against a plain sum, and where it is known."""

import math

import pytest
import torch

from annotate.errors import ConfigError
from annotate.training import teacher_kl

WINDOWS, WINDOW, VOCABULARY = 2, 5, 7


def case(k, seed=0, *, flat=True):
    """Logits, a batch, and the teacher's whole distributions."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(WINDOWS, WINDOW, VOCABULARY, generator=draw)
    teacher = torch.randn(WINDOWS, WINDOW, VOCABULARY, generator=draw).mul(2).log_softmax(-1)
    logprobs, tokens = teacher.topk(k, dim=-1)
    labels = torch.arange(WINDOWS * WINDOW).reshape(WINDOWS, WINDOW) % VOCABULARY
    labels[0, 2] = -100  # a tag
    tokens[1, 3], logprobs[1, 3] = -1, torch.nan  # an opening
    shape = (WINDOWS, -1) if flat else (WINDOWS, WINDOW, k)
    batch = {
        "labels": labels,
        "teacher_top_tokens": tokens.reshape(shape),
        "teacher_top_logprobs": logprobs.reshape(shape),
    }
    return logits, batch, teacher


COUNTED = [(w, i) for w in range(WINDOWS) for i in range(1, WINDOW) if (w, i) not in ((0, 2), (1, 3))]


@pytest.mark.parametrize("flat", [True, False])
def test_it_is_the_mean_of_the_divergence_with_all_other_tokens_as_one(flat):
    logits, batch, teacher = case(3, flat=flat)
    sums = []
    for w, i in COUNTED:
        p = teacher[w, i].exp().tolist()
        q = logits[w, i - 1].softmax(-1).tolist()
        top = sorted(range(VOCABULARY), key=lambda token: -p[token])[:3]
        pairs = [(p[token], q[token]) for token in top]
        pairs.append((1 - sum(a for a, _ in pairs), 1 - sum(b for _, b in pairs)))
        sums.append(sum(a * math.log(a / b) for a, b in pairs))
    assert float(teacher_kl(logits, batch)) == pytest.approx(sum(sums) / len(sums), rel=1e-5)


def test_of_the_whole_vocabulary_it_is_the_divergence_and_of_less_no_more():
    logits, batch, teacher = case(VOCABULARY)
    found = [float(teacher_kl(*case(k)[:2])) for k in (1, 3, VOCABULARY)]
    exact = [(teacher[w, i].exp() * (teacher[w, i] - logits[w, i - 1].log_softmax(-1))).sum() for w, i in COUNTED]
    assert found[2] == pytest.approx(float(torch.stack(exact).mean()), rel=1e-5)
    assert 0 < found[0] < found[1] < found[2]
    own = logits.clone().requires_grad_()
    teacher_kl(own, batch).backward()
    assert torch.isfinite(own.grad).all() and own.grad.abs().sum() > 0


@pytest.mark.parametrize("k", [2, VOCABULARY])
def test_a_model_that_is_the_teacher_has_nothing_to_learn(k):
    _, batch, teacher = case(k)
    own = torch.cat([teacher[:, 1:], teacher[:, :1]], 1).requires_grad_()
    loss = teacher_kl(own, batch)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and own.grad.abs().max() < 1e-6


def test_tokens_that_the_teacher_gives_nothing_do_not_count():
    """As ids beyond the tokenizer, in a padded vocabulary."""
    logits, batch, _ = case(VOCABULARY)
    tokens, logs = (batch[f"teacher_top_{name}"].reshape(WINDOWS, WINDOW, -1) for name in ("tokens", "logprobs"))
    logs[..., -1] = torch.where(logs[..., -1].isnan(), torch.nan, -torch.inf)
    logs[..., :-1] -= logs[..., :-1].logsumexp(-1, keepdim=True)
    logits.requires_grad_()
    loss = teacher_kl(logits, {**batch, "teacher_top_logprobs": logs})
    own = logits.detach()
    expected = [
        sum(
            math.exp(a) * (a - own[w, i - 1].log_softmax(-1)[t].item())
            for a, t in zip(logs[w, i, :-1].tolist(), tokens[w, i, :-1].tolist(), strict=True)
        )
        for w, i in COUNTED
    ]
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_descent_comes_to_the_teacher():
    logits, batch, _ = case(3)
    own = logits.clone().requires_grad_()
    steps = torch.optim.Adam([own], 0.1)
    for _ in range(300):
        steps.zero_grad()
        teacher_kl(own, batch).backward()
        steps.step()
    assert teacher_kl(own, batch).item() < 1e-3


def test_without_a_token_that_counts_it_is_0_and_can_be_differentiated():
    logits, batch, _ = case(3)
    own = logits.requires_grad_()
    loss = teacher_kl(own, {**batch, "labels": torch.full((WINDOWS, WINDOW), -100)})
    loss.backward()
    assert loss.item() == 0 and not own.grad.any()


def test_a_column_that_is_missing_and_a_token_of_another_vocabulary_are_refused():
    logits, batch, _ = case(3)
    with pytest.raises(ConfigError, match="'teacher_top_tokens'"):
        teacher_kl(logits, {"labels": batch["labels"]})
    with pytest.raises(ConfigError, match="none of the model's, which has 3"):
        teacher_kl(logits[..., :3], batch)
