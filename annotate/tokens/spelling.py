"""Byte-level BPE: where tokens are in their document, found from their ids alone.

Each id of such a tokenizer stands for fixed bytes, and the tokens of a document spell the document. So offsets are the
running sum of the lengths of tokens, without asking the library for them. That the tokens spell the document is
checked, byte for byte: it is not so where a normalizer has changed the text, or where a token swallows blanks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers.pre_tokenizers import ByteLevel

from annotate.compiled import compiled, constant
from annotate.unforgeable import Twin

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """The bytes of each id: id i is `data[starts[i] : starts[i] + lengths[i]]`.

    Attributes:
        data: uint8, the bytes of all ids, end to end.
        starts: int64 `[vocabulary]`.
        lengths: int64 `[vocabulary]`; -1 for an id that stands for no fixed bytes.
        whole: whether the tokens of a text always spell all of it: there is no normalizer, and no token swallows
            blanks.
    """

    data: npt.NDArray[np.uint8]
    starts: Int64
    lengths: Int64
    whole: bool

    @classmethod
    def of(cls, twin: Twin) -> Spelling | None:
        """The bytes of a byte-level tokenizer's ids; None for a tokenizer of another family.

        Also None where the tokenizer has a normalizer other than NFC, which leaves most text as it is, or puts a blank
        before each document.
        """
        normalizer = twin.made["normalizer"]
        if normalizer is not None and normalizer["type"] != "NFC":
            return None
        if not _cuts_bytes(twin.made["pre_tokenizer"]):
            return None
        spelled = _spellings(twin)
        lengths = np.array([-1 if word is None else len(word) for word in spelled], np.int64)
        ends = np.cumsum(np.maximum(lengths, 0))
        data = np.frombuffer(b"".join(word or b"" for word in spelled), np.uint8)
        return cls(
            data=constant(data, np.uint8),
            starts=constant(ends - np.maximum(lengths, 0), np.int64),
            lengths=constant(lengths, np.int64),
            whole=normalizer is None
            and not any(token["lstrip"] or token["rstrip"] for token in twin.made["added_tokens"]),
        )

    def shortened(self, ids: Int32, documents: Int64, text_starts: Int64) -> npt.NDArray[np.bool_]:
        """Which documents lack bytes in their tokens that no normalizer and no swallowed blank explains: bool `[n]`."""
        ends = np.append(0, np.cumsum(np.maximum(self.lengths[ids], 0)))[documents]
        return (np.diff(ends) < np.diff(text_starts)) & self.whole

    def offsets(
        self, ids: Int32, documents: Int64, text: npt.NDArray[np.uint8], text_starts: Int64
    ) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
        """Find where each token is in its document.

        Args:
            ids: int32 `[n_tokens]`.
            documents: int64 `[n_documents + 1]`, the first token of each document.
            text: uint8, the UTF-8 of all documents.
            text_starts: int64 `[n_documents + 1]`, the first byte of each document.

        Returns:
            The first byte of each token and one past its last, int64 `[n_tokens]` each. And bool `[n_documents]`,
            whether the tokens spell the document; where they don't, the offsets mean nothing.
        """
        starts, ends = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
        spelled = np.zeros(len(documents) - 1, np.bool_)
        _spell(
            constant(ids, np.int32),
            constant(documents, np.int64),
            self.data,
            self.starts,
            self.lengths,
            constant(text, np.uint8),
            constant(text_starts, np.int64),
            starts,
            ends,
            spelled,
        )
        return starts, ends, spelled


def _cuts_bytes(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Whether words are turned into bytes, and no blank is put before a document."""
    if pre_tokenizer is None:
        return False
    if pre_tokenizer["type"] == "Sequence":
        return any(_cuts_bytes(one) for one in pre_tokenizer["pretokenizers"])
    return pre_tokenizer["type"] == "ByteLevel" and not pre_tokenizer["add_prefix_space"]


def _spellings(twin: Twin) -> list[bytes | None]:
    """The bytes that each id stands for; None where it stands for none."""
    byte_of = _byte_of()
    spelled: list[bytes | None] = [None] * len(twin.special)
    for token, i in twin.tokenizer.get_vocab(with_added_tokens=False).items():
        try:
            spelled[i] = token.translate(byte_of).encode("latin-1")
        except UnicodeEncodeError:  # not of the alphabet: a special token, or a token that is never used
            spelled[i] = None
    for added in twin.made["added_tokens"]:
        spelled[added["id"]] = None if added["special"] else added["content"].encode()
    return spelled


def _byte_of() -> dict[int, int]:
    """The byte of each letter of the alphabet: printable bytes stand for themselves, the others are U+0100 and on."""
    letters = sorted(map(ord, ByteLevel.alphabet()))
    shown = [letter for letter in letters if letter < 0x100]
    others = sorted(set(range(0x100)) - set(shown))
    # A byte that is not a letter itself must not be taken for one.
    table = dict.fromkeys(others, 0x10FFFF)
    return table | dict(zip(letters, [*shown, *others], strict=True))


@compiled
def _spell(
    ids: Int32,
    documents: Int64,
    data: npt.NDArray[np.uint8],
    token_starts: Int64,
    lengths: Int64,
    text: npt.NDArray[np.uint8],
    text_starts: Int64,
    starts: Int64,
    ends: Int64,
    spelled: npt.NDArray[np.bool_],
) -> None:
    for document in range(len(documents) - 1):
        begin, stop = text_starts[document], text_starts[document + 1]
        at, right = begin, True
        for i in range(documents[document], documents[document + 1]):
            token = ids[i]
            length = lengths[token]
            if length < 0 or at + length > stop:
                right = False
                break
            first = token_starts[token]
            for k in range(length):
                right &= data[first + k] == text[at + k]
            starts[i] = at - begin
            at += length
            ends[i] = at - begin
        spelled[document] = right and at == stop
