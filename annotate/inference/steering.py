"""Which tags stand before the spans that a model writes: a logits processor for `model.generate`.

In the shards, a sentence without a tag before it is a sentence whose tag does not hold. So after one tag and two
sentences a model would write as it does without tags. That is why, where the model would begin a new span, the tags in
force are made to stand first, as they did in training.
"""

from __future__ import annotations

import functools
import itertools
import string
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from annotate.inference.tagged import filler
from annotate.text.splitting import Splitter
from annotate.tokens import vocabulary_size
from annotate.tokens.tokenizer import backend_of

READ = 128  # the last tokens of a text, which tell whether a span begins
BLANKS = ("", " ", "\n", "\n\n")
KINDS = {"Lu": "A", "Lt": "A", "Ll": "a", "L": "一", "N": "1", "Ps": "«", "Pi": "«", "Pe": "»", "Pf": "»"}
OTHER = "•"
CLASSES = tuple(itertools.product(BLANKS, dict.fromkeys((*KINDS.values(), OTHER, *string.punctuation))))
"""What may follow a text: blanks, and a first character. ASCII punctuation is itself; others stand for their kind."""
NO_CLASS = len(CLASSES)


class TagsAgain:
    """Puts the tags in force before each new span, and lets no other tag be written.

    Before each token it asks the splitter of the shards which tokens would begin a span. Their probability, and that of
    all tags that stand between spans, goes to the first of the tags in force. The other tags follow, and then a token
    that begins a span. So the model chooses whether a span ends, and writes the next one under the tags. After closing
    tags the document may end, as it does in the shards.

    What has to come next follows from the tokens alone, so beams and returned sequences may be reordered.

    Where the shards were made with `segments=True`, blanks that begin a span and are tokens of their own stand after
    its tags. In what is written they stand before the tags: that a span begins is not known before its first word.

    Args:
        tokenizer: the one that lies beside the shards.
        banned: the ids of all tags.
        between: the ids of all tags that may stand between two spans.
        again: the ids that stand between two spans under the tags in force: those of closing tags, and those of tags.
            Empty: the tags at the start stay in force.
        end: the id of the token that ends a document, or None.
        splitter: the splitter of the shards.
        padding: tokens of padding before each prompt.
        width: tokens of a prompt, padding counted.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        banned: Sequence[int],
        between: Sequence[int],
        again: tuple[Sequence[int], Sequence[int]],
        end: int | None,
        splitter: Splitter | None,
        padding: Sequence[int],
        width: int,
    ) -> None:
        self.backend = backend_of(tokenizer)
        self.banned, self.between, self.splitter = list(banned), list(between), splitter
        closing, opening = again
        self.again, self.closing, self.end = [*closing, *opening], len(closing), end
        self.padding, self.width = list(padding), width
        self.classes = token_classes(tokenizer, vocabulary_size(tokenizer)) if self.again else None
        self.present = [] if self.classes is None else sorted(set(self.classes.tolist()))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Change the scores, float `[n, n_tokens]`, of what may follow `input_ids`, int64 `[n, length]`."""
        banned = torch.tensor(self.banned, dtype=torch.long, device=scores.device)
        moved = scores.index_fill(1, banned, -torch.inf)
        if self.classes is None or self.splitter is None:
            return moved
        rows = input_ids.tolist()
        of_token = torch.full((scores.shape[1],), NO_CLASS)
        of_token[: len(self.classes)] = self.classes[: scores.shape[1]]
        begins = torch.from_numpy(span_begins(self.splitter, self._texts(rows), self.present))
        between = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        between[self.between] = True
        for i, row in enumerate(rows):
            written = self._written(row)
            begin = begins[i][of_token].to(scores.device)
            if written == len(self.again):
                moved[i] = torch.log_softmax(moved[i].masked_fill(~begin, -torch.inf), 0)
            elif written:
                moved[i] = self._next(scores[i], written)
            elif begin.any():
                moved[i] = moved[i].masked_fill(begin, -torch.inf)
                moved[i, self.again[0]] = torch.logsumexp(scores[i][begin | between], 0)
        return moved

    def _next(self, scores: torch.Tensor, written: int) -> torch.Tensor:
        """Scores, `[n_tokens]`, that allow the next tag alone; after closing tags, also the end of the document."""
        moved = torch.full_like(scores, -torch.inf)
        moved[self.again[written]] = 0.0
        if written == self.closing and self.end is not None:
            logs = torch.log_softmax(scores, 0)
            moved[self.end] = logs[self.end]
            moved[self.again[written]] = torch.log1p(-logs[self.end].exp())
        return moved

    def _written(self, row: list[int]) -> int:
        """How many tags stand at the end of what was written so far."""
        tags = set(self.banned)
        return sum(1 for _ in itertools.takewhile(tags.__contains__, reversed(row[self.width :])))

    def _texts(self, rows: list[list[int]]) -> list[str]:
        """The last tokens of each row as text, without tags."""
        tags, each = set(self.banned), len(rows) // len(self.padding)
        ids = [
            [token for token in row[max(self.padding[i // each], len(row) - READ) :] if token not in tags]
            for i, row in enumerate(rows)
        ]
        texts: list[str] = self.backend.decode_batch(ids, skip_special_tokens=True)
        return texts


def span_begins(
    splitter: Splitter, texts: Sequence[str], classes: Sequence[int] = range(NO_CLASS)
) -> npt.NDArray[np.bool_]:
    """Whether a span begins with what follows a text, by class of what follows: bool `[n_texts, n_classes + 1]`.

    Tokens of the last class are blank or have no text: they begin no span. Nor does anything where a text has no word
    yet: the tags of the prompt stand there.

    Args:
        splitter: the splitter of the shards.
        texts: what was written so far.
        classes: those to look at. For the others the result is false.
    """
    classes = [number for number in classes if number != NO_CLASS]
    befores = [text + CLASSES[number][0] for text in texts for number in classes]
    firsts = [CLASSES[number][1] for number in classes] * len(texts)
    probes = [before + first + filler(splitter) for before, first in zip(befores, firsts, strict=True)]
    spans = splitter.split(pa.array(probes, pa.large_string()))
    probe, start = spans["document"].to_numpy(), spans["start"].to_numpy()
    words = np.repeat([len(text.rstrip()) for text in texts], len(classes))
    until = np.array([*map(len, befores)], np.int64)  # what begins behind the first character is another span
    begun = np.bincount(probe[(start >= words[probe]) & (start <= until[probe])], minlength=len(probes)) > 0
    begins = np.zeros((len(texts), NO_CLASS + 1), bool)
    begins[:, classes] = (begun & (words > 0)).reshape(len(texts), len(classes))
    return begins


@functools.lru_cache(maxsize=4)
def token_classes(tokenizer: Any, size: int) -> torch.Tensor:
    """The class of each token, by the text that it adds: int64 `[size]`, an index in `CLASSES`, or `NO_CLASS`."""
    backend = backend_of(tokenizer)
    before = backend.encode("a.", add_special_tokens=False).ids[-1:]  # alone, some decoders drop a token's blank
    alone = backend.decode(before, skip_special_tokens=True)
    texts = backend.decode_batch([[*before, i] for i in range(size)], skip_special_tokens=True)
    return torch.tensor([_class(text.removeprefix(alone)) for text in texts])


def _class(text: str) -> int:
    words = text.lstrip()
    if not words:
        return NO_CLASS
    lines = text[: len(text) - len(words)].count("\n")
    blank = "\n" * min(lines, 2) or " " * (len(words) < len(text))
    if words[0] in string.punctuation:
        return CLASSES.index((blank, words[0]))
    category = unicodedata.category(words[0])
    return CLASSES.index((blank, KINDS.get(category) or KINDS.get(category[0], OTHER)))
