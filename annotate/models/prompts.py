"""A prompt and a span in one input: which of them is cut where both do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from annotate.errors import ConfigError
from annotate.models.encode import CHARACTERS_PER_TOKEN, Encoded, encode

Places = npt.NDArray[np.int64]

Parts = Callable[[int, Any], tuple[Places, Places]]
"""Takes a row's number and its `tokenizers.Encoding`; gives the places of the prompt's tokens and of the span's."""


def encode_pairs(
    tokenizer: Any, prompts: Sequence[str], texts: Sequence[str], max_length: int, name: str, *, types: bool
) -> Encoded:
    """Tokenize prompts and spans as pairs.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        prompts: the first parts.
        texts: the second parts.
        max_length: in tokens, special ones included.
        name: what to call the model in messages.
        types: whether the model wants to be told which part of a pair a token is in.

    Raises:
        ConfigError: the special tokens leave no room.
    """
    prompts, texts, cut_before, cut_after = shorten(prompts, texts, max_length)
    whole = encode(tokenizer, prompts, None, pairs=texts, types=types)

    def parts(row: int, encoding: Any) -> tuple[Places, Places]:
        del row
        sequence = np.array([-1 if part is None else part for part in encoding.sequence_ids])
        return np.flatnonzero(sequence == 0), np.flatnonzero(sequence == 1)

    pairs = list(zip(prompts, texts, strict=True))
    return fit(whole, tokenizer, pairs, parts, max_length, name, special=True).cut(cut_before, cut_after)


def shorten(
    prompts: Sequence[str], texts: Sequence[str], max_length: int
) -> tuple[list[str], list[str], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Cut what no window has room for: a prompt to its end, a span to its start. Also tells which were cut."""
    longest = CHARACTERS_PER_TOKEN * max_length
    before, after = (np.fromiter((len(s) > longest for s in some), np.bool_, len(some)) for some in (prompts, texts))
    return [prompt[-longest:] for prompt in prompts], [text[:longest] for text in texts], before, after


def fit(
    whole: Encoded,
    tokenizer: Any,
    inputs: Sequence[Any],
    parts: Parts,
    max_length: int,
    name: str,
    *,
    special: bool,
) -> Encoded:
    """Cut what is too long: a prompt at its start, a span at its end.

    The tokens around them are kept. Of the room that is left each gets half, and more where the other needs less. So no
    prompt pushes a span out, and no span a prompt.

    Args:
        whole: the inputs, not cut.
        tokenizer: what made them.
        inputs: what was encoded, as the tokenizer takes it.
        parts: finds prompt and span in an encoding.
        max_length: in tokens.
        name: what to call the model in messages.
        special: as `whole` was made.

    Raises:
        ConfigError: what is around prompt and span leaves no room.
    """
    keep = np.ones(len(whole.ids), np.bool_)
    ends = np.cumsum(whole.lengths, dtype=np.int64)
    lengths = whole.lengths.copy()
    prompt_cut, span_cut = (np.zeros(len(lengths), np.bool_) for _ in range(2))
    rows = np.flatnonzero(lengths > max_length).tolist()
    # Without its places a batch is encoded faster: only these rows are encoded once more.
    encodings = tokenizer.encode_batch([inputs[row] for row in rows], add_special_tokens=special)
    for row, encoding in zip(rows, encodings, strict=True):
        prompt, span = parts(row, encoding)
        around = int(lengths[row]) - len(prompt) - len(span)
        room = max_length - around
        if room < 1:
            raise ConfigError(
                f"model {name!r}: what stands round prompt and span takes {around} of max_length={max_length} tokens",
                hint="set a greater max_length",
            )
        of_span = min(len(span), max(room - len(prompt), room - room // 2))
        of_prompt = room - of_span
        dropped = np.concatenate([prompt[: len(prompt) - of_prompt], span[of_span:]])
        keep[ends[row] - lengths[row] + dropped] = False
        prompt_cut[row], span_cut[row] = of_prompt < len(prompt), of_span < len(span)
        lengths[row] = max_length
    return dataclasses.replace(
        whole,
        ids=whole.ids[keep],
        lengths=lengths,
        types=None if whole.types is None else whole.types[keep],
        truncated=span_cut,
        context_cut=prompt_cut,
    )
