"""Distillation on token shards: how far a model is from the teacher that wrote the completions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from annotate.errors import ConfigError
from annotate.exports.huggingface import IGNORED

TEACHER_COLUMNS = ("teacher_top_tokens", "teacher_top_logprobs")
ROUNDING = 1e-6
"""A probability of all others that is no larger may be what rounding left of 1, in float32."""
LEAST = -1e4
"""Of log-probabilities, where they are multiplied; e to it is 0."""


def teacher_kl(logits: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The mean of KL(teacher || model) over the tokens for which the shards have the teacher's probabilities, in nats.

    Of the teacher, the `k` most probable tokens are known. All others are taken together, as one, for teacher and model
    alike: so this is at most the divergence over the whole vocabulary, and equal to it where `k` is all of it. It has a
    gradient.

        columns = ("input_ids", "labels", "position_ids", "teacher_top_tokens", "teacher_top_logprobs")
        for batch in ShardDataset("exported-hf", batch_size=8, columns=columns).loader():
            loss = teacher_kl(model(batch["input_ids"], position_ids=batch["position_ids"]).logits, batch)

    Args:
        logits: of the model, `[windows, window, vocabulary]`; not shifted: those at a token are of the next one.
        batch: `labels`, int64 `[windows, window]`, -100 for a token that does not count; `teacher_top_tokens` (int64)
            and `teacher_top_logprobs` (float), `[windows, window * k]` or `[windows, window, k]`, -1 and NaN where the
            shards have none.

    Returns:
        A number, float32; 0 if no token counts.

    Raises:
        ConfigError: the batch lacks a column, or the model has no row for one of the tokens.
    """
    if missing := [name for name in ("labels", *TEACHER_COLUMNS) if name not in batch]:
        raise ConfigError(
            f"the batch has no column {missing[0]!r}",
            hint="Write the shards with TokenShards(..., teacher=True), and name the column in "
            "ShardDataset(columns=...).",
        )
    tokens, logs = (batch[name].reshape(*batch["labels"].shape, -1)[:, 1:] for name in TEACHER_COLUMNS)
    counted = (batch["labels"][:, 1:] != IGNORED) & (tokens[..., 0] >= 0)
    tokens, logs = tokens[counted].to(logits.device), logs[counted].to(logits.device).float()
    own = logits[:, :-1][counted.to(logits.device)].float()
    if not len(tokens):
        return logits.sum() * 0.0
    if (most := int(tokens.max())) >= own.shape[-1]:
        raise ConfigError(f"the teacher's token {most} is none of the model's, which has {own.shape[-1]:,}")
    whole = own.logsumexp(-1, keepdim=True)
    among = own.gather(-1, tokens) - whole
    others = own.scatter(-1, tokens, -torch.inf).logsumexp(-1, keepdim=True) - whole
    rest = (1 - logs.exp().sum(-1, keepdim=True)).clamp(min=0)
    # Where the teacher leaves nothing to the others, what the model leaves to them does not count: 0 log 0 is 0.
    of_rest = torch.where(rest > ROUNDING, rest * (rest.clamp(min=ROUNDING).log() - others), 0.0)
    # So do tokens that the teacher gives nothing: those of a padded vocabulary that are none.
    of_top = torch.where(logs > -torch.inf, logs.exp() * (logs.clamp(min=LEAST) - among), 0.0)
    return (of_top.sum(-1) + of_rest[:, 0]).mean()
