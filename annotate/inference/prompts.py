"""Prompts under tags, for a model that was trained on token shards."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, get_args

import torch

from annotate.errors import ConfigError
from annotate.inference.guidance import Guidance, Posterior, Term, as_terms
from annotate.inference.other_prompts import OtherPrompts
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
    guidance: Term | Sequence[Term] = (),
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
        guidance: what moves the log-probabilities at each token: a `Contrast` or a `Posterior`, or several. Those of
            tags stay as they are. Each prompt that a term needs is a row more for the model to read.
        model: the model that generates. Guidance needs it.

    Returns:
        `input_ids` and `attention_mask`, int64 `[n, length]`, on the device of the model if it is given; and
        `logits_processor`. Beams and several returned sequences work, with guidance too.

    Raises:
        ConfigError: a tag is not known, or never stands before text, as with the layouts "suffix" and "repeat"; the
            tokenizer has other ids for the tags, or the model no rows for them; there is nothing to start from;
            guidance has no model; `later` is "free" where tags were no targets; or it is not "none" where tags stand at
            windows of tokens.
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
    if hasattr(model, "get_input_embeddings"):
        trained.check_rows(model)
    texts = [text] if isinstance(text, str) else list(text)
    names = trained.named(tags)
    ids, mask = _padded(trained, texts, names, later)
    processors: list[Any] = []
    if terms := as_terms(guidance):
        if model is None:
            raise ConfigError("guidance needs the model", hint="Give prompt(..., model=model).")
        processors.append(_guidance(trained, texts, names, terms, later, width=ids.shape[1], model=model))
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


def _guidance(
    trained: Trained,
    texts: Sequence[str],
    own: tuple[str, ...],
    terms: Sequence[Term],
    later: Later,
    *,
    width: int,
    model: Any,
) -> Guidance:
    """A processor with the prompts that the terms need, each read once."""
    numbers: dict[tuple[str, ...], int] = {}
    places = []
    for term in terms:
        pair = [trained.named(tags) for tags in (term.tags, term.against)]
        if pair[0] == pair[1]:
            raise ConfigError(f"{term.tags!r} and {term.against!r} are the same tags, of which one is no contrast")
        # A posterior counts what was written under its prompts; of the own prompt only the next token is known.
        places.append([None if names == own and not isinstance(term, Posterior) else names for names in pair])
        for names in places[-1]:
            if names is not None:
                numbers.setdefault(names, len(numbers))
    ids, mask = zip(*(_padded(trained, texts, names, later) for names in numbers), strict=True)
    longest = max(each.shape[1] for each in ids)
    others = OtherPrompts(
        model,
        torch.stack([torch.nn.functional.pad(each, (longest - each.shape[1], 0)) for each in ids]),
        torch.stack([torch.nn.functional.pad(each, (longest - each.shape[1], 0)) for each in mask]),
        width=width,
        vocabulary=trained.vocabulary,
        again=[([], []) if later == "none" else trained.again(names) for names in numbers],
    )
    at = [tuple(None if names is None else numbers[names] for names in pair) for pair in places]
    return Guidance(terms, [(towards, away) for towards, away in at], others)


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
