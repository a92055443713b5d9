"""How likely spans are under tags: it tells whether a model has learned what the tags mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from annotate.errors import ConfigError
from annotate.inference.tagged import Trained


def log_likelihood(
    model: Any,
    tokenizer: Any,
    folder: str | PathLike[str],
    texts: Sequence[str],
    tags: str | Sequence[str] = (),
    *,
    batch_size: int = 8,
) -> pa.Table:
    """The log-likelihood of each span of some texts, all under the same tags. Tags stand as they do in the shards.

    Spans are those of the shards. Where these are documents, or windows of tokens, each text is one.

        nice = log_likelihood(model, tokenizer, folder, texts, "nice")
        plain = log_likelihood(model, tokenizer, folder, texts)
        gain = nice["log_likelihood"].to_numpy() - plain["log_likelihood"].to_numpy()  # large where a span is nice

    Args:
        model: a causal model of Transformers that has rows for the tags.
        tokenizer: the one that lies beside the shards.
        folder: what `annotate.tags_folder` gives.
        texts: documents, or beginnings of documents, not empty.
        tags: names of tags or aliases; one string is one name. Empty: the text is untagged.
        batch_size: texts in one forward pass.

    Returns:
        One row a span, in order. `document`: the number of the text. `byte_start`, `byte_end`: where the span is in it,
        in UTF-8. `tokens` (int64): how many tokens count. `log_likelihood` (float64): their sum, in nats. Tags never
        count, and where text stands, no probability goes to tags: a model that has learned to write tags expects some
        there, and text without them would seem unlikely. If the shards have no token for the begin of a document, the
        first token of a text does not count either: without tags, nothing stands before it. So sums under different
        tags are of the same tokens.

    Raises:
        ConfigError: a tag is not known, never stands before text, or stands at windows of tokens; the tokenizer has
            other ids for the tags; a text has no tokens, or more than the model has positions.
        StorageError: there is no `tags.json`.
    """
    trained = Trained.read(tokenizer, folder)
    tagged, spans = trained.encode(texts, trained.named(tags), every_span=True)
    begin = [] if trained.begin_id is None else [trained.begin_id]
    assert tagged.spans is not None, "spans were given"
    number, sums = np.zeros(spans.num_rows, np.int64), np.zeros(spans.num_rows)
    borders = list(zip(tagged.documents[:-1], tagged.documents[1:], strict=True))
    if empty := [i for i, (start, stop) in enumerate(borders) if (tagged.spans[start:stop] < 0).all()]:
        raise ConfigError(f"text {empty[0]} is empty, or the tokenizer drops all that it says")
    longest = max((int(stop - start) + len(begin) for start, stop in borders), default=0)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"a text has {longest:,} tokens with its tags; the model has {positions:,} positions",
            hint="Cut it, for example at paragraphs.",
        )
    for first in range(0, len(borders), batch_size):
        some = borders[first : first + batch_size]
        rows = [[*begin, *tagged.ids[start:stop].tolist()] for start, stop in some]
        for (start, stop), values in zip(some, _log_likelihoods(model, rows, trained.vocabulary.ids), strict=True):
            of_span, values = tagged.spans[start:stop], values[len(begin) :]
            counted = of_span >= 0
            if not begin:
                counted[np.argmax(counted)] = False
            np.add.at(number, of_span[counted], 1)
            np.add.at(sums, of_span[counted], values[counted])
    table = spans.select(["document", "byte_start", "byte_end"])
    return table.append_column("tokens", pa.array(number)).append_column("log_likelihood", pa.array(sums))


@torch.no_grad()
def _log_likelihoods(model: Any, rows: Sequence[Sequence[int]], tags: Collection[int]) -> list[npt.NDArray[np.float64]]:
    """The log-likelihood of each token, given those before it, and that it is no tag: float64 `[len(row)]` by row.

    The first is 0; those of tags themselves have no meaning.
    """
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits.to(ids.device)  # a model may be on several devices
    # A model that has not seen the tags may have no rows for them.
    there = [i for i in sorted(tags) if i < logits.shape[-1]]
    banned = torch.tensor(there, dtype=torch.long, device=logits.device)
    found = []
    for i, row in enumerate(rows):  # row by row: a softmax over the vocabulary is as large as the logits
        n = len(row) - 1
        lost = torch.nn.functional.cross_entropy(
            logits[i, :n].float().index_fill(1, banned, -torch.inf), ids[i, 1 : n + 1], reduction="none"
        )
        found.append(np.append(0.0, -lost.double().cpu().numpy()))
    return found
