"""Ids and offsets: those of the untagged document tokenized whole, whatever it spells and whatever the tokenizer."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_families import FAMILIES, TEXT, encoder, family, tagged
from token_reference import span_table, texts
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from annotate.errors import ConfigError, InputError
from annotate.tokens import TextTokenizer, spells
from annotate.tokens import encoding as encoding_module

BYTE_LEVEL = ("byte-level", "byte-level-nfc", "tiktoken")
SPELLINGS = ("<nice>", "</plain>", "<|endoftext|>", "<s>", "[CLS]", "[SEP]")


def library(tokenizer, text):
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(texts, max_size=4))
@pytest.mark.parametrize("name", FAMILIES)
def test_ids_are_those_of_the_tokenizer_without_tags(name, documents):
    documents = [text for text in documents if not any(token in text for token in SPELLINGS)]
    encoded = encoder(name).encode(pa.array(documents, pa.string()))
    expected = [library(family(name), text).ids for text in documents]
    assert encoded.ids.tolist() == [i for ids in expected for i in ids]
    assert np.diff(encoded.documents).tolist() == [len(ids) for ids in expected]


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(texts, min_size=1, max_size=4))
@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_tokens_tile_their_document(name, documents):
    encoded = encoder(name).encode(pa.array(documents))
    for row, text in enumerate(documents):
        own = slice(*encoded.documents[row : row + 2])
        starts, ends = encoded.starts[own], encoded.ends[own]
        if name == "byte-level-nfc" and encoded.tokenized_twice:
            continue
        assert starts.tolist() == [0, *ends[:-1]][: len(starts)]
        assert ends[-1:].tolist() == [len(text.encode())][: len(ends)]


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(texts, min_size=1, max_size=3))
@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_offsets_without_the_library_are_the_librarys(name, documents):
    """To the byte where a token is whole characters; else inside what the library says."""
    fast = encoder(name).encode(pa.array(documents))
    asked = asking(name).encode(pa.array(documents))
    assert fast.ids.tolist() == asked.ids.tolist()
    assert (fast.starts >= asked.starts).all()
    assert (fast.ends <= asked.ends).all()
    whole = np.array([_is_whole(documents, fast, i) for i in range(len(fast.ids))], bool)
    assert fast.starts[whole].tolist() == asked.starts[whole].tolist()
    assert fast.ends[whole].tolist() == asked.ends[whole].tolist()


@functools.cache
def asking(name):
    """An encoder that always asks the library."""
    made = TextTokenizer(family(name))
    made.__dict__["spelling"] = None
    return made


def _is_whole(documents, encoded, i):
    row = int(np.searchsorted(encoded.documents, i, side="right")) - 1
    try:
        documents[row].encode()[encoded.starts[i] : encoded.ends[i]].decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(deadline=None, max_examples=60)
@given(text=texts)
@pytest.mark.parametrize("name", FAMILIES)
def test_offsets_lie_in_the_document_between_characters(name, text):
    encoded = encoder(name).encode(pa.array([text]))
    size = len(text.encode())
    assert ((encoded.starts >= 0) & (encoded.starts <= encoded.ends) & (encoded.ends <= size)).all()
    if name not in BYTE_LEVEL:
        between = {len(text[:i].encode()) for i in range(len(text) + 1)}
        assert {*encoded.starts.tolist(), *encoded.ends.tolist()} <= between


def test_a_blank_counts_as_its_tokens_own_whatever_trim_offsets_says():
    for trim in (True, False):
        tokenizer = Tokenizer.from_str(family("byte-level-prefix").backend_tokenizer.to_str())
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=trim)
        encoded = TextTokenizer(tokenizer).encode(pa.array(["The dog"]))
        pieces = [tokenizer.id_to_token(i) for i in encoded.ids]
        blank = next(i for i, piece in enumerate(pieces) if i and piece.startswith("Ġ"))
        assert encoded.starts[blank] == 3


def test_a_document_that_is_not_in_its_normal_form_gets_the_librarys_offsets():
    plain, other = "Über die Brücke", "U\u0308ber die Bru\u0308cke"
    encoded = TextTokenizer(family("byte-level-nfc")).encode(pa.array([plain, other, plain]))
    assert encoded.tokenized_twice == 1
    one, two, three = (encoded.ids[slice(*encoded.documents[i : i + 2])].tolist() for i in range(3))
    assert one == two == three
    assert encoded.ends[encoded.documents[1:] - 1].tolist() == [len(t.encode()) for t in (plain, other, plain)]


@pytest.mark.parametrize("name", FAMILIES)
def test_no_text_gets_a_special_token(name):
    tokenizer = tagged(name)[0]
    backend = tokenizer.backend_tokenizer
    special = {i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    special -= {backend.token_to_id("<unk>"), backend.token_to_id("[UNK]")}
    spelled = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
    documents = [form.format(one) for one in spelled for form in ("{}", "a{}b", " {} ", "\n{}\n", "{0}{0}", "▁{}")]
    encoded = encoder(name).encode(pa.array([*documents, " ".join(spelled)]))
    assert not special & set(encoded.ids.tolist())
    assert set(library(tokenizer, " ".join(spelled)).ids) & special  # it is the encoder that keeps them out


@pytest.mark.parametrize("name", ["metaspace", "wordpiece-blanks", "ignore-merges", "word-level"])
def test_switching_special_tokens_off_would_not_be_enough(name):
    """Where the model itself has the token, only names that text can't have keep it out."""
    if name == "ignore-merges":
        letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        tokenizer = Tokenizer(models.BPE(vocab={**letters, "<nice>": 256}, merges=[], ignore_merges=True))
        split = pre_tokenizers.Split(" ", "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
        tokenizer.add_special_tokens(["<nice>"])
    elif name == "word-level":
        tokenizer = Tokenizer(models.WordLevel(vocab={"[UNK]": 0, "<nice>": 1, "day": 2}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens(["[UNK]", "<nice>"])
    else:
        tokenizer = Tokenizer.from_str(family(name).backend_tokenizer.to_str())
    forged = "<nice>" if name in ("ignore-merges", "word-level") else "<|endoftext|>"
    text = f"a {forged} day"
    naive = Tokenizer.from_str(tokenizer.to_str())
    naive.encode_special_tokens = True
    assert tokenizer.token_to_id(forged) in naive.encode(text, add_special_tokens=False).ids
    assert tokenizer.token_to_id(forged) not in TextTokenizer(tokenizer).encode(pa.array([text])).ids


def test_a_text_that_gets_through_all_the_same_is_an_error():
    """Words that are not cut at all, and a model that takes them whole: text that has the hidden name itself."""
    tokenizer = Tokenizer(models.WordLevel(vocab={"[UNK]": 0, "<nice>": 1}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "<nice>"])
    made = TextTokenizer(tokenizer)
    assert made.encode(pa.array(["<nice>", "day"])).ids.tolist() == [0, 0]
    hidden = next(token["content"] for token in made.twin.made["added_tokens"] if token["id"] == 1)
    with pytest.raises(InputError, match="row 2 gets a special token"):
        made.encode(pa.array(["day", "day", hidden]))


def test_added_tokens_that_are_not_special_are_found():
    tokenizer = family("wordpiece")
    encoded = TextTokenizer(tokenizer).encode(pa.array(["a snake_case name"]))
    assert tokenizer.convert_tokens_to_ids("snake_case") in encoded.ids


def test_the_tokenizer_stays_as_it_is():
    tokenizer = family("byte-level")
    before = tokenizer.backend_tokenizer.to_str()
    TextTokenizer(tokenizer).encode(pa.array(["a"]))
    assert tokenizer.backend_tokenizer.to_str() == before
    assert not tokenizer.backend_tokenizer.encode_special_tokens


@pytest.mark.parametrize("name", ["byte-level", "metaspace"])
def test_batches_chunks_slices_and_nulls_change_nothing(name, monkeypatch):
    documents = [*TEXT, None, "", "The end. " * 40, None]
    whole = encoder(name).encode(pa.array(documents, pa.large_string()))
    monkeypatch.setattr(encoding_module, "BATCH_BYTES", 100)
    halves = [pa.array(documents[:3]), pa.array(["x", *documents[3:]]).slice(1)]
    parts = encoder(name).encode(pa.chunked_array(halves))
    for field in ("ids", "documents", "starts", "ends"):
        assert getattr(whole, field).tolist() == getattr(parts, field).tolist()
        assert getattr(whole, field).dtype == getattr(parts, field).dtype
    lengths = np.diff(whole.documents)
    assert lengths[[7, 8, 10]].tolist() == [0, 0, 0]
    assert (lengths[[*range(7), 9]] > 0).all()


def test_no_documents():
    encoded = TextTokenizer(family("byte-level")).encode(pa.array([], pa.string()))
    assert (encoded.ids.tolist(), encoded.documents.tolist()) == ([], [0])


@settings(deadline=None, max_examples=60)
@given(text=texts, cuts=st.sets(st.integers(1, 200), max_size=5))
@pytest.mark.parametrize("name", ["byte-level", "metaspace", "wordpiece"])
def test_segments_are_tokenized_each_on_its_own(name, text, cuts):
    documents = [text, "", "The end."]
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)] if text else []
    pieces = [text[a:b] for a, b in pairwise(edges)]
    at = [len(text[:edge].encode()) for edge in edges]
    rows = [(0, a, b) for a, b in pairwise(at)]
    encoded = encoder(name).encode_segments(pa.array(documents), span_table([*rows, (2, 0, 8)]))
    assert encoded.by_segment
    alone = [encoder(name).encode(pa.array([piece])) for piece in [*pieces, "The end."]]
    assert encoded.ids.tolist() == [i for one in alone for i in one.ids]
    shift = [*at[: len(pieces)], 0]
    assert encoded.starts.tolist() == [s + by for one, by in zip(alone, shift, strict=True) for s in one.starts]
    assert encoded.documents[-1] - encoded.documents[-2] == len(alone[-1].ids)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0, 0, 3)], "byte 0 of row 0"),
        ([(0, 1, 8), (1, 0, 3)], "byte 1 of row 0"),
        ([(0, 0, 4), (0, 5, 8), (1, 0, 3)], "byte 5 of row 0"),
        ([(1, 0, 3), (0, 0, 8)], "byte 0 of row 0"),
        ([(0, 0, 8)], "row 1 has none"),
        ([(0, 0, 8), (1, 0, 3), (2, 0, 0)], "byte 0 of row 2"),
    ],
)
def test_segments_that_do_not_tile_are_refused(rows, said):
    with pytest.raises(InputError, match=said):
        TextTokenizer(family("byte-level")).encode_segments(pa.array(["The end.", "one"]), span_table(rows))


def test_spelled_tags_are_counted():
    documents = pa.array(["a <nice> day", None, "nice", "x</plain>", "<Nice>", "a.b"])
    assert spells(documents, ["<nice>", "</plain>"]).tolist() == [True, False, False, True, False, False]
    assert spells(documents, ["a.b", "a*b"]).tolist() == [False] * 5 + [True]
    assert not spells(documents, []).any()


def test_texts_must_be_text():
    with pytest.raises(InputError, match="must be string"):
        TextTokenizer(family("byte-level")).encode(pa.array([1]))


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="must be a fast one"):
        TextTokenizer(object())
