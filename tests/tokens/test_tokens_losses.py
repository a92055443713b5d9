"""What a tokenizer loses of a text is counted, by document; what it takes away of all texts is found by example."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_families import TEXT, encoder
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from annotate.compiled import text_buffers
from annotate.tokens import TextTokenizer, taken_away
from annotate.tokens.losses import dropped_characters

BLANKS = "\t\n\x0b\x0c\r\x1c\x1f \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"


@functools.cache
def without_unknown(*, normalized: bool = False) -> TextTokenizer:
    """BPE of the characters of some English, with no token for what it does not have: the library drops that."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    if normalized:
        made.normalizer = normalizers.NFC()
    made.train_from_iterator(TEXT[:2], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    return TextTokenizer(made)


def lacking_bytes() -> TextTokenizer:
    """A byte-level BPE that has only the bytes that it was trained on, as without an initial alphabet."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator([TEXT[0], "\U0001f600"], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    return TextTokenizer(made)


def known() -> set[str]:
    return set("".join(TEXT[:2])) - {" "}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.sampled_from([*"Theabc .,", *"世界Пüé\U0001f642", *BLANKS, "\u0301"])), max_size=4))
def test_characters_without_a_token_are_counted(texts: list[str]) -> None:
    encoded = without_unknown().encode(pa.array(texts, pa.large_string()))
    assert encoded.dropped.tolist() == [sum(c not in known() and c not in BLANKS for c in text) for text in texts]
    assert not encoded.unknown.any()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.text(st.sampled_from([*"a\x00\u200b\ufeff世é\U0001f642", *BLANKS]))))
def test_blanks_are_what_python_has_for_blanks(texts: list[str]) -> None:
    array = pa.array(texts, pa.large_string())
    none = np.zeros(0, np.int64)
    dropped = dropped_characters(none, none, np.zeros(len(texts) + 1, np.int64), *text_buffers(array), composed=False)
    assert dropped.tolist() == [sum(not c.isspace() for c in text) for text in texts]


def test_a_text_that_is_dropped_whole() -> None:
    encoded = without_unknown().encode(pa.array(["世界经济史", "", "the dog", None]))
    assert encoded.dropped.tolist() == [5, 0, 0, 0]


@pytest.mark.parametrize("name", ["metaspace", "wordpiece"])
def test_tokens_that_stand_for_the_unknown_are_counted(name: str) -> None:
    texts = pa.array(["the dog", "the \U0001f9ff dog \U0001f9ff", *TEXT])
    made = encoder(name)
    encoded = made.encode(texts)
    number = made.twin.unknown
    expected = [sum(i == number for i in ids) for ids in np.split(encoded.ids, encoded.documents[1:-1])]
    assert number is not None
    assert encoded.unknown.tolist() == expected
    assert encoded.unknown[:2].tolist() == [0, 2]
    assert encoded.unknown.sum() >= 2


@pytest.mark.parametrize("name", ["byte-level", "tiktoken", "byte-level-prefix", "llama"])
def test_with_a_byte_for_each_byte_nothing_is_lost(name: str) -> None:
    encoded = encoder(name).encode(pa.array([*TEXT, "a\x00b\u200b\ufffd \U0001d54f e\u0301"]))
    assert not encoded.dropped.any()
    assert not encoded.unknown.any()


def test_bytes_that_the_vocabulary_lacks_are_a_loss_though_the_rest_of_the_character_is_there() -> None:
    encoded = lacking_bytes().encode(pa.array(["The dog \U0001f600", "dog \U0001f601", "\u4e16 dog"]))
    assert encoded.dropped.tolist() == [0, 1, 1]


def test_marks_that_a_normalizer_puts_into_their_letter_are_no_loss() -> None:
    texts = pa.array(["cafe\u0301 ka\u0301", "\u1112\u1161\u11ab", "か\u3099"])
    assert not encoder("byte-level-nfc").encode(texts).dropped.any()
    assert without_unknown().encode(texts).dropped.tolist() == [2, 3, 2]
    assert without_unknown(normalized=True).encode(texts).dropped.tolist() == [2, 1, 1]  # as composed letters


def test_losses_of_segments_are_those_of_their_document() -> None:
    texts = pa.array(["世界 the 世", "the dog", "Привет"])
    size = [len(text.encode()) for text in texts.to_pylist()]
    segments = pa.table({"row": [0, 0, 1, 2], "byte_start": [0, 7, 0, 0], "byte_end": [7, size[0], size[1], size[2]]})
    assert without_unknown().encode_segments(texts, segments).dropped.tolist() == [3, 0, 6]


@pytest.mark.parametrize(
    ("name", "away"),
    [
        ("byte-level", set()),
        ("byte-level-nfc", {"composed and decomposed letters"}),
        ("metaspace", {"compatibility forms such as \ufb01 and fi"}),
        ("llama", set()),
        ("wordpiece", {"case", "accents", "composed and decomposed letters", "the number of blanks", "line breaks"}),
    ],
)
def test_what_is_taken_away_of_every_text(name: str, away: set[str]) -> None:
    assert set(taken_away(encoder(name))) == away


def test_what_is_unknown_or_dropped_is_not_called_equal() -> None:
    """It drops accents and line breaks' neighbours alike: that is counted, and no rule of it."""
    assert "accents" not in taken_away(without_unknown())
