"""Prompts under tags, for a model that was trained on token shards."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, get_args

import torch

from annotate.errors import ConfigError
from annotate.inference.guidance import Guidance
from annotate.inference.steering import TagsAgain
from annotate.inference.tagged import Trained

Later = Literal["again", "free", "none"]


def prompt(
    tokenizer: Any,
    folder: str | PathLike[str],
    text: str | Sequence[str] = "",
    tags: str | Sequence[str] = (),
    *,
    later: Later = "again",
    against: str | Sequence[str] = (),
    guidance: float = 1.0,
    model: Any = None,
) -> dict[str, Any]:
    """Make the arguments of `model.generate` that continue texts under tags.

        given = prompt(tokenizer, folder, "Once", "nice")
        model.generate(**given, max_new_tokens=50)

    Each call of `generate` needs a prompt of its own.

    Args:
        tokenizer: the one that lies beside the shards.
        folder: what `annotate.tags_folder` gives.
        text: the text to continue; or several, which are padded on the left.
        tags: the tags that the text is to be written under: names of tags or aliases; one string is one name.
        later: what stands before spans after the first, for tags that stand before every span in the shards. "again":
            the same tags, before each span of the prompt and of what is written. "free": the tags before each span of
            the prompt; in what is written, the tags that the model chooses. "none": nothing. The model then goes on as
            after tagged text that is followed by untagged text.
        against: the tags of the other prompt, from which guidance moves away. Empty: the untagged text.
        guidance: 1: none. Above, log-probabilities are `other + guidance * (own - other)`, where `other` is under the
            other prompt (Sanchez et al. 2023, arXiv 2306.17806; with tags, Fan et al. 2025, arXiv 2505.16570). Those of
            tags stay as they are.
        model: the model that generates. Guidance needs it.

    Returns:
        `input_ids` and `attention_mask`, int64 `[n, length]`, on the device of the model if it is given; and
        `logits_processor`. Beams and several returned sequences work, with guidance too.

    Raises:
        ConfigError: a tag is not known, or never stands before text, as with the layouts "suffix" and "repeat"; the
            tokenizer has other ids for the tags; there is nothing to start from; guidance has no model; `later` is
            "free" where tags were no targets; or it is not "none" where tags stand at windows of tokens.
        StorageError: there is no `tags.json`.
    """
    trained = Trained.read(tokenizer, folder)
    if later not in get_args(Later):
        raise ConfigError(f'later must be "again", "free" or "none", got {later!r}')
    if later == "free" and trained.loss != "train":
        raise ConfigError(
            f'later="free" needs a model that writes tags; these shards have loss "{trained.loss}"',
            hint='Use later="again", or shards with loss="train".',
        )
    texts = [text] if isinstance(text, str) else list(text)
    names = trained.named(tags)
    ids, mask = _padded(trained, texts, names, later)
    processors: list[Any] = []
    if guidance != 1.0:
        if model is None:
            raise ConfigError("guidance needs the model", hint="Give prompt(..., model=model).")
        other = trained.named(against)
        processors.append(
            Guidance(
                model,
                *_padded(trained, texts, other, later),
                scale=guidance,
                width=ids.shape[1],
                vocabulary=trained.vocabulary,
                again=([], []) if later == "none" else trained.again(other),
            )
        )
    if later != "free":
        processors.append(
            TagsAgain(
                tokenizer,
                banned=trained.vocabulary.ids,
                between=trained.between,
                again=trained.again(names) if later == "again" else ([], []),
                end=trained.end_id,
                splitter=trained.splitter,
                padding=(ids.shape[1] - mask.sum(dim=1)).tolist(),
                width=ids.shape[1],
            )
        )
    device = None if model is None else model.device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "logits_processor": processors}


def _padded(
    trained: Trained, texts: Sequence[str], names: Sequence[str], later: Later
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids of the texts under tags, and their mask: int64 `[n_texts, length]` each, padded on the left."""
    tagged, _ = trained.encode(texts, names, every_span=later != "none")
    begin = [] if trained.begin_id is None else [trained.begin_id]
    rows = [
        [*begin, *tagged.ids[start:stop].tolist()]
        for start, stop in zip(tagged.documents[:-1], tagged.documents[1:], strict=True)
    ]
    if not rows or not all(rows):
        raise ConfigError("there is neither a text, nor a tag, nor a token for the begin of a document to start from")
    width = max(map(len, rows))
    ids = [[trained.pad_id] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)
