"""The teacher's most probable tokens beside those of a text: which of its distributions belongs to which token.

A teacher writes a completion token by token. What it writes is text here, and is tokenized anew, opening and all; the
tokens of a text that was drawn are often not those that a tokenizer cuts it into ("the" may have come as "t", "he").
But at each place of the text where a token of the teacher begins, its distribution of the next token is known, whatever
token was drawn there. So a token has the teacher's distribution if it begins where one of the teacher's does. It is
that given the same text before it, which the teacher may have read in other tokens. If a window cuts the document, the
later pieces stand there without the text before them, which the teacher had read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotate.compiled import compiled, constant, text_buffers
from annotate.errors import InputError
from annotate.text.arrays import one_array
from annotate.tokens.encoding import TextTokenizer, TokenizedTexts, whole
from annotate.tokens.insertion import TaggedTokens
from annotate.tokens.kinds import END, TEXT

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TeacherTokens:
    """What a teacher wrote of `n` documents, and what it thought of at each of its `m` tokens.

    Attributes:
        tokens: int32 `[m]`, the completions end to end, each with the token that ended it.
        documents: int64 `[n + 1]`, the first of the tokens of each document, and `m`. A document may have none.
        begins: int64 `[n]`, the byte of each document at which its completion begins.
        top_tokens: int32 `[m, k]`, the most probable tokens in the place of each.
        top_logprobs: float32 `[m, k]`, their natural-log probabilities.
    """

    tokens: Int32
    documents: Int64
    begins: Int64
    top_tokens: Int32
    top_logprobs: npt.NDArray[np.float32]

    @staticmethod
    def of(
        tokens: pa.ListArray, top_tokens: pa.ListArray, top_logprobs: pa.ListArray, begins: Int64, k: int
    ) -> TeacherTokens:
        """From columns of lists `[n]`; null for a document without.

        Raises:
            InputError: the lists of a document do not have `k` values for each of its tokens.
        """
        sizes, most, logs = (_sizes(column) for column in (tokens, top_tokens, top_logprobs))
        if wrong := np.flatnonzero((most != k * sizes) | (logs != k * sizes)).tolist():
            raise InputError(
                f"document {wrong[0]} has {sizes[wrong[0]]:,} tokens of a teacher, {most[wrong[0]]:,} most probable "
                f"ones and {logs[wrong[0]]:,} log-probabilities: not {k} for each"
            )
        return TeacherTokens(
            tokens=tokens.flatten().to_numpy(),
            documents=np.append(0, np.cumsum(sizes)),
            begins=begins,
            top_tokens=top_tokens.flatten().to_numpy().reshape(-1, k),
            top_logprobs=top_logprobs.flatten().to_numpy().reshape(-1, k),
        )


@dataclass(frozen=True, kw_only=True)
class TeacherPlaces:
    """Which of the teacher's `m` tokens begins where a token of the shards does. Arrays have -1 for none.

    Attributes:
        of_text: int64 `[n_tokens]`, of the tokens of the text.
        of_ends: int64 `[n]`, of the token after each document.
        completions: how many tokens of the text are of a completion of the teacher's.
        ends: how many completions the teacher ended; 0 if no token stands after documents.
    """

    of_text: Int64
    of_ends: Int64
    completions: int
    ends: int

    @property
    def counts(self) -> dict[str, int]:
        """How many tokens of completions, and ends of completions, there are, and how many have no distribution."""
        return {
            "completion_tokens": self.completions,
            "completion_tokens_without_teacher": self.completions - int((self.of_text >= 0).sum()),
            "completion_ends": self.ends,
            "completion_ends_without_teacher": self.ends - int((self.of_ends >= 0).sum()),
        }

    def among(self, tagged: TaggedTokens) -> Int64:
        """The same for the tokens of the documents with their tags: int64 `[n_tagged]`."""
        found = np.full(len(tagged.ids), -1, np.int64)
        found[tagged.kinds == TEXT] = self.of_text
        ends = tagged.kinds == END
        if ends.any():
            found[ends] = self.of_ends[np.searchsorted(tagged.documents, np.flatnonzero(ends), side="right") - 1]
        return found


def teacher_places(
    teacher: TeacherTokens,
    encoded: TokenizedTexts,
    texts: pa.Array | pa.ChunkedArray,
    encoder: TextTokenizer,
    end_id: int | None,
) -> TeacherPlaces:
    """Find the tokens that begin where a token of the teacher does.

    Text and teacher are compared from the beginning of the completion to the first difference, and from its end to the
    last: by bytes for a byte-level tokenizer, else by tokens. Bytes differ where the teacher drew some that are no
    character: the text has U+FFFD in their place.

    Args:
        teacher: the completions, as tokens of the same vocabulary.
        encoded: the tokens of the documents.
        texts: the documents, string or large_string `[n]`.
        encoder: what these are tokenized with.
        end_id: the id of the token after a document, or None. It has the teacher's distribution if the teacher ended
            its completion with this very token.
    """
    places = np.full(len(encoded.ids), -1, np.int64)
    ends = np.full(len(encoded.documents) - 1, -1, np.int64)
    known = (teacher.tokens >= 0) & (teacher.tokens < len(encoder.twin.special))
    ids = np.where(known, teacher.tokens, 0)
    unwritten = ~known | _no_text(encoder)[ids]
    documents = constant(encoded.documents, np.int64)
    of_teacher = (constant(teacher.tokens, np.int32), constant(teacher.documents, np.int64))
    begins, end = constant(teacher.begins, np.int64), -1 if end_id is None else end_id
    starts = constant(encoded.starts, np.int64)
    if encoder.spelling is not None:
        spelling, (data, text_starts) = encoder.spelling, text_buffers(whole(texts))
        lengths = np.where(unwritten, 0, spelling.lengths[ids])
        _by_bytes(
            *of_teacher,
            begins,
            constant(lengths, np.int64),
            spelling.data,
            spelling.starts,
            data,
            text_starts,
            starts,
            documents,
            end,
            places,
            ends,
        )
    else:
        _by_order(
            *of_teacher,
            begins,
            constant(unwritten, np.bool_),
            constant(encoded.ids, np.int32),
            starts,
            constant(encoded.ends, np.int64),
            documents,
            end,
            places,
            ends,
        )
    sizes = np.diff(teacher.documents)
    own = np.repeat(sizes > 0, np.diff(encoded.documents))
    last = teacher.documents[1:][sizes > 0] - 1
    return TeacherPlaces(
        of_text=places,
        of_ends=ends,
        completions=int((own & (starts >= np.repeat(teacher.begins, np.diff(encoded.documents)))).sum()),
        ends=0 if end_id is None else int(unwritten[last].sum()),
    )


def _no_text(encoder: TextTokenizer) -> Bool:
    """The ids that a decoder leaves out, those of special tokens: bool `[vocabulary]`."""
    left_out = encoder.twin.special.copy()
    left_out[[token["id"] for token in encoder.twin.made["added_tokens"] if token["special"]]] = True
    return left_out


def _sizes(column: pa.ListArray) -> Int64:
    lengths = one_array(column).value_lengths().fill_null(0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)


@compiled
def _by_bytes(
    tokens: Int32,
    of_documents: Int64,
    begins: Int64,
    lengths: Int64,
    data: npt.NDArray[np.uint8],
    data_starts: Int64,
    text: npt.NDArray[np.uint8],
    text_starts: Int64,
    starts: Int64,
    documents: Int64,
    end_id: int,
    places: Int64,
    ends: Int64,
) -> None:
    """Go through the bytes of each completion, as long as the teacher's tokens spell them; then back from its end.

    Of tokens that begin at one place, as those do that are no text, the first is taken: it is given the text alone.
    """
    for document in range(len(documents) - 1):
        origin, size = text_starts[document], text_starts[document + 1] - text_starts[document]
        at, i, stop = begins[document], documents[document], documents[document + 1]
        last = of_documents[document + 1]
        ended = last > of_documents[document] and tokens[last - 1] == end_id
        apart = last  # the token that the text does not have
        for j in range(of_documents[document], last):
            while i < stop and starts[i] < at:
                i += 1
            if i < stop and starts[i] == at and places[i] < 0:
                places[i] = j
            elif i == stop and at == size:
                if ended:
                    ends[document] = j
                break
            if not _stands(text, origin + at, text_starts[document + 1], data, data_starts, tokens[j], lengths[j]):
                apart = j
                break
            at += lengths[j]
        back, k, first_of_end = size, stop, last
        for j in range(last - 1, apart, -1):
            begin = back - lengths[j]
            if begin <= at or not _stands(
                text, origin + begin, text_starts[document + 1], data, data_starts, tokens[j], lengths[j]
            ):
                break
            back = begin
            if back == size:
                first_of_end = j
                continue
            while k > i and starts[k - 1] >= back:
                k -= 1
            if k < stop and starts[k] == back:
                places[k] = j
            if ended:
                ends[document] = first_of_end


@compiled
def _stands(
    text: npt.NDArray[np.uint8],
    at: int,
    end: int,
    data: npt.NDArray[np.uint8],
    data_starts: Int64,
    token: int,
    length: int,
) -> bool:
    """Whether a token's bytes stand in the text at a byte; a token without text stands everywhere."""
    if length <= 0:
        return length == 0
    if at + length > end:
        return False
    first = data_starts[token]
    same = True
    for byte in range(length):
        same &= data[first + byte] == text[at + byte]
    return same


@compiled
def _by_order(
    tokens: Int32,
    of_documents: Int64,
    begins: Int64,
    unwritten: Bool,
    ids: Int32,
    starts: Int64,
    ends_of_tokens: Int64,
    documents: Int64,
    end_id: int,
    places: Int64,
    ends: Int64,
) -> None:
    """Compare tokens from both ends of each completion. Tokens that are no text begin where the next one does."""
    for document in range(len(documents) - 1):
        j, last = of_documents[document], of_documents[document + 1]
        i, stop = documents[document], documents[document + 1]
        ended = last > j and tokens[last - 1] == end_id
        same = True
        while i < stop and starts[i] < begins[document]:
            same = ends_of_tokens[i] <= begins[document]
            i += 1
        while same and i < stop and j < last:
            if places[i] < 0:
                places[i] = j  # also for the first that differs: it begins where all before it end
            if unwritten[j]:
                j += 1
            elif ids[i] == tokens[j]:
                i += 1
                j += 1
            else:
                same = False
        if same and i == stop and j < last and ended:
            ends[document] = j
        while last > j and unwritten[last - 1]:
            last -= 1
        first_of_end, matched = last, stop
        while last > j:
            if unwritten[last - 1]:
                last -= 1
                places[matched] = last
            elif matched > i and ids[matched - 1] == tokens[last - 1]:
                matched -= 1
                last -= 1
                places[matched] = last
            else:
                break
        if matched < stop and ended:
            ends[document] = first_of_end
