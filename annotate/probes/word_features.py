"""What a head reads of listed words: counted in token ids, so that the model's process needs no text.

A *word* begins at a token that does not continue the one before, and ends where the next begins; a punctuation mark is
one too. A listed entry is found where its tokens stand from the beginning of a word to the end of one: an entry never
matches inside a longer word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers.models import WordLevel, WordPiece

from annotate.errors import ConfigError
from annotate.models.base import FloatArray
from annotate.models.encode import IntArray, unknown_id
from annotate.models.reading import SentTokenizer
from annotate.probes.word_list import BEGINNING, YOU, Keys, WordList, hash_step

NEAR = 3
"""A listed word is near "you" if at most this many words are from one to the other."""

CONTINUES, BEGINS, SPECIAL = range(3)
"""What a token is: a part of the word before, the beginning of a word, or no word: a special token."""


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Where listed words were found.

    Attributes:
        row: int64 `[m]`, the input.
        word: int64 `[m]`, the number of the word at which it begins, counted through all inputs.
        entry: int64 `[m]`, the position in the list.
    """

    row: npt.NDArray[np.int64]
    word: npt.NDArray[np.int64]
    entry: npt.NDArray[np.int64]


class WordFinder:
    """Looks for the words of a list in token ids."""

    def __init__(self, words: WordList, tokenizer: SentTokenizer) -> None:
        """Learn from the tokenizer which of its tokens begin a word.

        Raises:
            ConfigError: the tokenizer is of a kind whose tokens don't say it.
        """
        self.words = words
        self.kinds = token_kinds(tokenizer)
        first = hash_step(np.zeros(len(self.kinds), np.uint64), np.arange(len(self.kinds)))
        self.first = _positions(words, first)

    def features(self, ids: IntArray, lengths: IntArray) -> FloatArray:
        """Count the listed words of some inputs; each row depends on its own input alone.

        Args:
            ids: int32, the token ids of all inputs, one after the other.
            lengths: int32 `[n]`, tokens of each input.

        Returns:
            float32 `[n, n_groups + 3]`: by group, the share of the words at which a listed one begins; the greatest
            severity of a listed word; the same of those near "you"; log(1 + words). 0 where there is none.
        """
        n, groups = len(lengths), len(self.words.groups)
        kinds = self.kinds[ids]
        begins = kinds == BEGINS
        row = np.repeat(np.arange(n), lengths)
        word = np.cumsum(begins) - 1
        counts = np.bincount(row[begins], minlength=n)
        # An input ends as a word does, whatever the next one begins with.
        ends = np.concatenate([(kinds[1:] != CONTINUES) | (row[1:] != row[:-1]), np.ones(min(1, len(ids)), np.bool_)])
        found = self._find(ids, np.flatnonzero(begins), ends, row, word)
        group, severity = self.words.group[found.entry], self.words.severity[found.entry]
        features = np.zeros((n, groups + 3), np.float64)
        shares = np.bincount(found.row * groups + group, minlength=n * groups).reshape(n, groups)
        features[:, :groups] = shares / np.maximum(counts, 1)[:, None]
        np.maximum.at(features[:, groups], found.row, severity)
        near = self._near_you(found)
        np.maximum.at(features[:, groups + 1], found.row[near], severity[near])
        features[:, groups + 2] = np.log1p(counts)
        return features.astype(np.float32)

    def _find(
        self,
        ids: IntArray,
        begins: npt.NDArray[np.int64],
        ends: npt.NDArray[np.bool_],
        row: npt.NDArray[np.int64],
        word: npt.NDArray[np.int64],
    ) -> Matches:
        """The longest entry at each word that one begins at."""
        place = self.first[ids[begins]]
        begin, place = begins[place >= 0], place[place >= 0]
        entry = np.full(len(ids), -1)
        last = begin
        while len(begin):
            hit = ends[last] & (self.words.group[place] != BEGINNING)
            entry[begin[hit]] = place[hit]
            going = last + 1 < len(ids)
            going[going] &= row[last[going] + 1] == row[last[going]]
            begin, place, last = begin[going], place[going], last[going] + 1
            place = _positions(self.words, hash_step(self.words.keys[place], ids[last]))
            begin, place, last = begin[place >= 0], place[place >= 0], last[place >= 0]
        at = np.flatnonzero(entry >= 0)
        return Matches(row=row[at], word=word[at], entry=entry[at])

    def _near_you(self, found: Matches) -> npt.NDArray[np.bool_]:
        """Which matches of other groups are at most `NEAR` words from one of the group "you", in the same input."""
        if YOU not in self.words.groups:
            return np.zeros(len(found.row), np.bool_)
        you = self.words.group[found.entry] == self.words.groups.index(YOU)
        places = np.concatenate([[-1], np.flatnonzero(you), [-1]])
        after = np.searchsorted(places[1:-1], np.arange(len(you)))
        near = np.zeros(len(you), np.bool_)
        for place in (places[after], places[after + 1]):
            same = (place >= 0) & (found.row[place] == found.row)
            near |= same & (np.abs(found.word[place] - found.word) <= NEAR)
        return near & ~you


def _positions(words: WordList, keys: Keys) -> npt.NDArray[np.int64]:
    """Position of each key in the list, -1 where it is not there."""
    place = np.minimum(np.searchsorted(words.keys, keys), len(words.keys) - 1)
    return np.where(words.keys[place] == keys, place, -1)


def token_kinds(tokenizer: SentTokenizer) -> npt.NDArray[np.uint8]:
    """What each token of a tokenizer is: uint8 `[largest id + 1]` of `CONTINUES`, `BEGINS` and `SPECIAL`.

    Raises:
        ConfigError: the tokenizer is of a kind whose tokens don't say it.
    """
    parsed = tokenizer.parsed()
    model = parsed.model
    if not isinstance(model, WordPiece | WordLevel):
        raise ConfigError(
            f"word lists need a tokenizer whose tokens say where words begin, WordPiece or WordLevel; "
            f"the encoder's is of the kind {type(model).__name__}",
            hint="leave the list out, or take an encoder such as BERT, MiniLM, bge, gte, e5 or arctic-embed",
        )
    prefix = getattr(model, "continuing_subword_prefix", None)
    vocabulary = parsed.get_vocab(with_added_tokens=True)
    kinds = np.full(max(vocabulary.values()) + 1, BEGINS, np.uint8)
    if prefix:
        kinds[[i for token, i in vocabulary.items() if token.startswith(prefix) and token != prefix]] = CONTINUES
    unknown = unknown_id(parsed)
    special = parsed.get_added_tokens_decoder()
    kinds[[i for i, token in special.items() if token.special and i != unknown]] = SPECIAL
    return kinds
