"""A token has the teacher's distribution if, and only if, one of the teacher's tokens begins where it does."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from annotate.errors import InputError
from annotate.tokens import TagVocabulary, TeacherTokens, TextTokenizer, insert, pack, teacher_places, token_table

PIECES = ["a", "b", "ab", "ba", "aba", "bb"]
END, PAD = len(PIECES) + 5, len(PIECES) + 6
SPECIAL = {END: "<end>", PAD: "<pad>"}


def encoder(*, byte_level: bool) -> TextTokenizer:
    """A BPE tokenizer of `PIECES`, and where it is byte-level of the bytes of `e` with an accent and of U+FFFD."""
    accent = ["\u00c3", "\u00a9", "\u00ef", "\u00bf", "\u00bd"] if byte_level else ["\u00e9", *"zyxw"]
    vocabulary = {piece: i for i, piece in enumerate([*PIECES, *accent])}
    merges = [("a", "b"), ("b", "a"), ("ab", "a"), ("b", "b")]
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    if byte_level:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL.values()])
    assert [made.token_to_id(name) for name in SPECIAL.values()] == [END, PAD]
    found = TextTokenizer(made)
    assert (found.spelling is not None) == byte_level
    return found


ENCODERS = {byte_level: encoder(byte_level=byte_level) for byte_level in (True, False)}
LENGTHS = {i: len(piece) for i, piece in enumerate(PIECES)}


def spelled(token: int) -> str:
    return PIECES[token] if token < len(PIECES) else ""


@st.composite
def documents(draw):
    """Openings, and the tokens that a teacher went on with: pieces, among them tokens that are no text, and an end."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        opening = draw(st.text("ab\u00e9", max_size=4))
        tokens = draw(st.lists(st.sampled_from([*range(len(PIECES)), PAD]), max_size=8))
        found.append((opening, [*tokens, *draw(st.sampled_from([[], [END], [PAD, END], [PAD]]))]))
    return found


def teacher_of(found) -> tuple[pa.Array, TeacherTokens]:
    """The texts; and as the teacher's most probable tokens of each token its number, and its number plus 1000."""
    texts = pa.array([opening + "".join(map(spelled, tokens)) for opening, tokens in found], pa.large_string())
    numbers = np.cumsum([0, *(len(tokens) for _, tokens in found)])
    top = [[v for i in range(a, b) for v in (i, i + 1000)] for a, b in itertools.pairwise(numbers.tolist())]
    teacher = TeacherTokens.of(
        pa.array([tokens for _, tokens in found], pa.list_(pa.int32())),
        pa.array(top, pa.list_(pa.int32())),
        pa.array([[-float(v) for v in row] for row in top], pa.list_(pa.float32())),
        np.array([len(opening.encode()) for opening, _ in found]),
        2,
    )
    return texts, teacher


def begins(found) -> list[dict[int, int]]:
    """The first of the teacher's tokens, by number, at each byte of each document at which one begins."""
    number, every = 0, []
    for opening, tokens in found:
        at, first = len(opening.encode()), {}
        for token in tokens:
            first.setdefault(at, number)
            at += len(spelled(token))
            number += 1
        every.append(first)
    return every


@settings(deadline=None, max_examples=300)
@given(found=documents(), byte_level=st.booleans())
@example(found=[("a", [1, 0, END])], byte_level=True)  # opening and completion share a token
@example(found=[("a", [1, 0, END])], byte_level=False)
@example(found=[("a", [1, 0, PAD, 0])], byte_level=False)  # a token that is no text, after a difference
@example(found=[("b", [0, 0, 1, 0, 0, END])], byte_level=False)  # cut in two places, otherwise in the middle
def test_distributions_are_where_tokens_begin(found, byte_level):
    texts, teacher = teacher_of(found)
    tokenizer = ENCODERS[byte_level]
    encoded = tokenizer.encode(texts)
    places = teacher_places(teacher, encoded, texts, tokenizer, END)
    expected = begins(found)
    missing = total = 0
    for i, (opening, tokens) in enumerate(found):
        own = slice(*encoded.documents[i : i + 2])
        for start, place in zip(encoded.starts[own].tolist(), places.of_text[own].tolist(), strict=True):
            right = expected[i].get(start, -1)
            assert place == right if byte_level else place in (right, -1)
            total += bool(tokens) and start >= len(opening.encode())
            missing += bool(tokens) and start >= len(opening.encode()) and place < 0
        ended = bool(tokens) and tokens[-1] == END
        right = expected[i][len(texts[i].as_py().encode())] if ended else -1
        assert places.of_ends[i] == right if byte_level else places.of_ends[i] in (right, -1)
        written = [token for token in tokens if token < len(PIECES)]
        alone = tokenizer.encode(pa.array([opening]))
        if encoded.ids[own].tolist() == [*alone.ids.tolist(), *written]:  # cut as the teacher wrote it: nothing is lost
            assert (places.of_text[own][len(alone.ids) :] >= 0).all()
            assert (places.of_ends[i] >= 0) == ended
    counts = places.counts
    assert (counts["completion_tokens"], counts["completion_tokens_without_teacher"]) == (total, missing)
    ends = [tokens for _, tokens in found if tokens and tokens[-1] in SPECIAL]
    assert counts["completion_ends"] == len(ends)
    assert counts["completion_ends_without_teacher"] == len(ends) - (places.of_ends >= 0).sum()


@settings(deadline=None, max_examples=100)
@given(found=documents(), window=st.integers(8, 20), way=st.sampled_from(["best-fit", "concatenate"]))
def test_they_are_beside_their_tokens_in_windows(found, window, way):
    texts, teacher = teacher_of(found)
    tokenizer = ENCODERS[True]
    encoded = tokenizer.encode(texts)
    vocabulary = TagVocabulary(names=("t",), open_ids=(90,), close_ids=(-1,))
    n = len(found)
    tags = pa.table({"row": np.arange(n), "byte_offset": np.zeros(n, int), "tag": ["t"] * n, "kind": ["open"] * n})
    tagged = insert(encoded, texts, tags, vocabulary, end_id=END)
    packed = pack(tagged, window, pad_id=99, way=way)
    places = teacher_places(teacher, encoded, texts, tokenizer, END)
    laid = packed.laid_out(places.among(tagged), -1)
    table = token_table(packed, np.zeros(packed.ids.shape, np.uint8), teacher=(teacher, laid))
    shape = (*packed.ids.shape, 2)
    top, logs = (
        np.array(table[f"teacher_top_{name}"].combine_chunks().flatten()).reshape(shape)
        for name in ("tokens", "logprobs")
    )
    there = top[..., 0] >= 0
    assert (top[there][:, 1] == top[there][:, 0] + 1000).all() and (logs[there] == -top[there]).all()
    assert (top[~there] == -1).all() and np.isnan(logs[~there]).all()
    assert not there[packed.ids == 90].any() and not there[packed.ids == 99].any()
    ends = places.of_ends[np.diff(encoded.documents) > 0]  # after an empty document no token stands
    assert sorted(top[there][:, 0]) == sorted(v for v in [*places.of_text, *ends] if v >= 0)
    ids = np.concatenate([encoded.ids, np.full(n, END)])
    of = dict(zip([*places.of_text.tolist(), *places.of_ends.tolist()], ids.tolist(), strict=True))
    assert all(of[number] == token for number, token in zip(top[there][:, 0], packed.ids[there], strict=True))
    ragged = token_table(packed, np.zeros(packed.ids.shape, np.uint8), teacher=(teacher, laid), padded=False)
    assert [len(row) for row in ragged["teacher_top_tokens"]] == [2 * len(row) for row in ragged["input_ids"]]


def test_bytes_that_the_text_lacks_end_what_is_known():
    """As where max_tokens cuts a character in two: its first bytes are no text."""
    texts, teacher = teacher_of([("a", [1, 6])])  # b, and the first byte of an accented e
    places = teacher_places(teacher, ENCODERS[True].encode(texts), texts, ENCODERS[True], END)
    assert texts.to_pylist() == ["ab"] and places.of_text.tolist() == [-1] and places.of_ends.tolist() == [-1]
    texts, teacher = teacher_of([("b", [1, 0, 0, 6])])
    places = teacher_places(teacher, ENCODERS[True].encode(texts), texts, ENCODERS[True], END)
    assert texts.to_pylist() == ["bbaa"] and places.of_text[-1] == 2


def test_bytes_that_are_no_character_lose_their_own_place_alone():
    """A byte that a teacher drew by itself is U+FFFD in the text: three bytes, and what follows is equal again."""
    tokens = [1, 0, 6, 2, 1, PAD, 0, END]
    _, teacher = teacher_of([("a", tokens)])
    texts = pa.array(["a" + "ba" + "\ufffd" + "abba"], pa.large_string())
    encoded = ENCODERS[True].encode(texts)
    places = teacher_places(teacher, encoded, texts, ENCODERS[True], END)
    assert encoded.starts.tolist() == [0, 3, 4, 5, 6, 8]  # aba, three bytes, ab, ba
    assert places.of_text.tolist() == [-1, 2, -1, -1, 3, 4] and places.of_ends.tolist() == [7]


def test_where_no_token_stands_after_documents_no_end_is_counted():
    texts, teacher = teacher_of([("a", [1, END])])
    counts = teacher_places(teacher, ENCODERS[True].encode(texts), texts, ENCODERS[True], None).counts
    assert counts["completion_ends"] == counts["completion_ends_without_teacher"] == 0


def test_lists_that_do_not_go_together_are_refused():
    lists = [pa.array([[1, 2]], pa.list_(pa.int32())), pa.array([[1, 2, 3]], pa.list_(pa.int32()))]
    with pytest.raises(InputError, match="2 tokens of a teacher, 3 most probable ones and 4 log-probabilities: not 2"):
        TeacherTokens.of(*lists, pa.array([[0.0] * 4], pa.list_(pa.float32())), np.zeros(1, int), 2)
