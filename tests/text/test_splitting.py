import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from annotate.errors import ConfigError, InputError
from annotate.text.pages import pages
from annotate.text.splitting import KORBAK_SPLITTER, SPANS, Splitter

PIECES = [
    *" \t\n\r\x00\x0b\x0c.!?,:;-*#=~()[]\"'`_1",
    "\r\n", "\n\n", "\n    ", "...",
    "…", "Dr.", "e.g.", "U.S.", "The", "ab", "Word", "x" * 30, "1. ", "- ", "===", "\n>>> ",
    "é", "ß", "。", "！", "」", "「", "？", "、", "と", "漢字",
    "؟", "۔", "।", "॥", "नी", "e\u0301", "\u0301",
    "\u200d", "\u2028", "\u2029", "\u3000",
    "\u00a0", "😀", "👨\u200d👩\u200d👧", "👍🏽", "🇩🇪", "\ufe0f", "\U000e0067", "\ufeff", "\uffff", "\U0010ffff",
]  # fmt: skip
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=60))
SPLITTERS = [
    Splitter(),
    KORBAK_SPLITTER,
    Splitter(min_chars=0),
    Splitter(min_chars=4, max_chars=16),
    Splitter(min_chars=4, max_chars=17, blanks="previous"),
    Splitter(by="line"),
    Splitter(by="line", blanks="previous", max_chars=16),
    Splitter(by="paragraph", min_chars=5),
    Splitter(by="paragraph", blanks="previous"),
    Splitter(by="document"),
]


def rows(splitter, texts):
    table = splitter.split(pa.array(texts, pa.string()))
    assert table.schema == SPANS
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def split(text, **settings):
    spans = rows(Splitter(**({"min_chars": 0} | settings)), [text])
    return [text[start:end] for _, start, end, _, _ in spans]


def words(text, **settings):
    return [" ".join(span.split()) for span in split(text, **settings)]


def check_tiling(texts, spans):
    per_document = {i: [s for s in spans if s[0] == i] for i in range(len(texts))}
    assert spans == [s for i in per_document for s in per_document[i]]
    for i, text in enumerate(texts):
        own = per_document[i]
        if not text:
            assert own == []
            continue
        assert own[0][1] == own[0][3] == 0
        assert own[-1][2] == len(text)
        assert own[-1][4] == len(text.encode())
        for before, after in pairwise(own):
            assert (before[2], before[4]) == (after[1], after[3])
        for _, start, end, byte_start, byte_end in own:
            assert start < end
            assert text.encode()[byte_start:byte_end].decode() == text[start:end]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=repr)
@given(texts=st.lists(st.none() | TEXTS, max_size=6))
@settings(deadline=None)
def test_spans_tile_and_offsets_agree(splitter, texts):
    check_tiling(texts, rows(splitter, texts))


@pytest.mark.parametrize("splitter", SPLITTERS, ids=repr)
@given(texts=st.lists(st.none() | TEXTS, max_size=6))
@settings(deadline=None)
def test_a_document_is_split_as_if_alone(splitter, texts):
    alone = [(i, *span[1:]) for i, text in enumerate(texts) for span in rows(splitter, [text])]
    assert rows(splitter, texts) == alone


@given(
    text=TEXTS,
    longest=st.integers(16, 40),
    blanks=st.sampled_from(["following", "previous"]),
    by=st.sampled_from(["sentence", "line"]),
)
@settings(deadline=None)
def test_no_span_is_longer_than_max_chars(text, longest, blanks, by):
    assert all(len(s) <= longest for s in split(text, by=by, min_chars=0, max_chars=longest, blanks=blanks))


BLANKS = " \t\n\v\f\r\u2028\u2029\u3000"


@given(text=TEXTS, shortest=st.integers(1, 30), by=st.sampled_from(["sentence", "line", "paragraph"]))
@settings(deadline=None)
def test_no_span_of_a_longer_document_is_shorter_than_min_chars(text, shortest, by):
    spans = split(text, by=by, min_chars=shortest, max_chars=100_000)
    assert len(spans) <= 1 or all(len(s.strip(BLANKS)) >= shortest for s in spans)


@given(text=TEXTS)
@settings(deadline=None)
def test_a_blank_between_two_spans_belongs_to_the_following_one_or_the_previous(text):
    following, previous = split(text, max_chars=100_000), split(text, max_chars=100_000, blanks="previous")
    assert not any(s[-1] in BLANKS for s in following[:-1])
    assert not any(s[0] in BLANKS for s in previous[1:])


@given(text=TEXTS)
@settings(deadline=None)
def test_crlf_and_joined_emoji_are_not_torn(text):
    for piece in split(text, max_chars=64)[1:]:
        assert not piece.startswith(("\u200d", "\u0301", "\ufe0f"))
    pieces = split(text, max_chars=64, blanks="previous")
    assert not any(a.endswith("\r") and b.startswith("\n") for a, b in pairwise(pieces))


@pytest.mark.parametrize(
    "text",
    [
        "He met Dr. Smith and Mrs. Jones, e.g. in Paris, i.e. not here.",
        "See Fig. 3, Eq. (4), No. 5 and pp. 12.",
        "It was written by J. K. Rowling.",
        "The U.S. Army was there at 5 p.m. yesterday, etc. and so on.",
        "Pi is 3.14, the version is 1.2.3, and 1,000.50 is a price.",
        "Read http://example.org/a.b?c=d.html or write to some.one@example.org, please.",
        "Run setup.py, then os.path.join and ./tool.sh on .NET, or a file. .bashrc too.",
        '"Really?" he said.',
        '"Go away!" she cried (and left).',
        "Well... maybe… not.",
        "This line is\nwrapped hard\nand goes on.",
        "This line is\r\nwrapped hard.",
        "1. First of all, breathe.",
        "    A first line that is indented\nand goes on.",
        "We use approx. five of them and misc. others.",
        "Is a != b or a ? b : c in there.",
    ],
)
def test_one_sentence_stays_one(text):
    assert split(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two here! Three? Four.", ["One here.", "Two here!", "Three?", "Four."]),
        ("He lives in the U.S. The end.", ["He lives in the U.S.", "The end."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("It was 1999. Nobody knew.", ["It was 1999.", "Nobody knew."]),
        ("It costs 3.14. So what?", ["It costs 3.14.", "So what?"]),
        ("Use os.path.join. It works.", ["Use os.path.join.", "It works."]),
        ('He said "Go." Then (he left.) She stayed.', ['He said "Go."', "Then (he left.)", "She stayed."]),
        ("“Fine.” ‘Good.’ «Bien.» Ok.", ["“Fine.”", "‘Good.’", "«Bien.»", "Ok."]),
        ("**Bold.** (Aside.) Next.", ["**Bold.**", "(Aside.)", "Next."]),
        ("Wait... What? Oh… No.", ["Wait...", "What?", "Oh…", "No."]),
        ("What?! No!!! Yes.", ["What?!", "No!!!", "Yes."]),
        ("i went home. then i slept. wow! nice", ["i went home.", "then i slept.", "wow!", "nice"]),
        ("Open `name'. `mode' is (a string). it is.", ["Open `name'.", "`mode' is (a string).", "it is."]),
        ("Than you or I. Nobody else.", ["Than you or I.", "Nobody else."]),
        ("你好。我很好！真的吗？！是。", ["你好。", "我很好！", "真的吗？！", "是。"]),
        ("「はい。」と言った。次。", ["「はい。」と言った。", "次。"]),
        ("他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
        ("هل هذا صحيح؟ نعم۔ لا", ["هل هذا صحيح؟", "نعم۔", "لا"]),
        ("नमस्ते। मैं ठीक हूँ॥ हाँ", ["नमस्ते।", "मैं ठीक हूँ॥", "हाँ"]),
        ("Great! 😀 Fine. 👨\u200d👩\u200d👧 too.", ["Great!", "😀 Fine.", "👨\u200d👩\u200d👧 too."]),
        ("Élan vital. École. été.", ["Élan vital.", "École.", "été."]),
        ("No stop here\n\nNew block", ["No stop here", "New block"]),
        ("No stop here\r\n\r\nNew block", ["No stop here", "New block"]),
        ("Title\n=====\nText goes\non.", ["Title =====", "Text goes on."]),
        ("# Title\nText goes\non.\n## Other\nText", ["# Title", "Text goes on.", "## Other", "Text"]),
        (
            "Things:\n- one\n- two\n  goes on\n* three\n• four",
            ["Things:", "- one", "- two goes on", "* three", "• four"],
        ),
        ("1. One\n2. Two. More\n10) Ten\n(a) A\nb) B", ["1. One", "2. Two.", "More", "10) Ten", "(a) A", "b) B"]),
        ("Args:\n    x: a thing\n        wrapped\n    y: more\nReturns:\n    z", None),
        ("Text\n:param x: a\n:type x: b\n.. note:: c\n>>> f()\n1", None),
        ("a\u2029b", ["a", "b"]),
    ],
)
def test_sentences(text, expected):
    if expected is None:  # every line but the wrapped one begins a sentence
        expected = [" ".join(s.split()) for s in text.replace("\n        ", " ").replace(")\n1", ") 1").split("\n")]
    assert words(text) == expected


def test_other_units():
    text = " a b\n c.  D\n\n\ne "
    assert split(text, by="line") == [" a b", "\n c.  D", "\n\n\ne "]
    assert split(text, by="line", blanks="previous") == [" a b\n ", "c.  D\n\n\n", "e "]
    assert split(text, by="paragraph") == [" a b\n c.  D", "\n\n\ne "]
    assert rows(Splitter(by="document"), [text, None, "", "é"]) == [(0, 0, 16, 0, 16), (3, 0, 1, 0, 2)]


def test_korbak_joins_back_and_keeps_blanks_behind():
    table = KORBAK_SPLITTER.split(pa.array(["One.  Two.\n\nThree. "]))
    assert table["byte_end"].to_pylist() == [6, 12, 19]


def test_short_fragments_join_a_neighbour():
    text = "Notes\n\nThis is a long sentence. Yes.\n\nAnother long sentence. No"
    assert words(text, min_chars=6) == ["Notes This is a long sentence. Yes.", "Another long sentence. No"]
    assert words("A. Bb. Cc. Dd. Ee.", by="sentence", min_chars=5) == ["A. Bb.", "Cc. Dd. Ee."]
    assert words("A.", min_chars=5) == ["A."]
    assert words("- Fixed it. Ok!\n- Some other", min_chars=6) == ["- Fixed it. Ok!", "- Some other"]


def test_long_sentences_are_cut_at_blanks_else_between_characters():
    spans = split("word " * 40, max_chars=20)
    assert all(len(s) <= 20 and s.split() == ["word"] * len(s.split()) for s in spans)
    emoji = split("👨\u200d👩\u200d👧" * 20, max_chars=24)
    assert all(not s.startswith("\u200d") and not s.endswith("\u200d") for s in emoji)
    assert max(map(len, split("漢" * 5000, max_chars=1000))) <= 1000


def test_one_large_document_without_blanks():
    size = 3_000_000
    table = Splitter().split(pa.array(["x", "é" * size, "y"]))
    starts, ends = table["start"].to_numpy(), table["end"].to_numpy()
    assert (ends - starts).max() <= 1000
    assert (ends - starts).sum() == size + 2
    assert table["byte_end"].to_numpy()[-2] == 2 * size


@pytest.mark.parametrize("splitter", [s for s in SPLITTERS if s.limits[0] == 0], ids=repr)
@given(texts=st.lists(st.none() | TEXTS, max_size=3))
@settings(deadline=None)
def test_pieces_of_long_documents_do_not_change_spans(splitter, texts):
    expected = rows(splitter, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("annotate.text.pieces.PIECE_BYTES", 3)
        assert rows(splitter, texts) == expected


def test_pieces_tile_when_short_fragments_join():
    texts = ["One.\n\nTwo.\r\n\r\nThree 漢。\n\nFour." * 5, None, "Five.\n\n" * 20 + "Six"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("annotate.text.pieces.PIECE_BYTES", 16)
        for splitter in (Splitter(), Splitter(blanks="previous")):
            check_tiling(texts, rows(splitter, texts))


def test_pages_do_not_change_spans(monkeypatch):
    texts = pa.array(["One here. Two here.", None, "", "Three 漢字。四。 " * 50, "x" * 3000] * 20)
    expected = Splitter().split(texts)
    monkeypatch.setattr("annotate.text.splitting.pages", lambda documents: pages(documents, 100))
    assert Splitter().split(texts).equals(expected)


def test_every_arrow_form_gives_the_same_spans():
    texts = ["zero.", "One. Two.", None, "Drei ß. Vier.", ""]
    expected = rows(Splitter(min_chars=0), texts[1:])
    forms = [
        pa.array(texts)[1:],
        pa.array(texts, pa.large_string())[1:],
        pa.chunked_array([texts[1:2], texts[2:2], texts[2:]], pa.string()),
    ]
    for form in forms:
        table = Splitter(min_chars=0).split(form)
        assert list(zip(*(column.to_pylist() for column in table.columns), strict=True)) == expected
    assert Splitter().split(pa.array([], pa.string())).num_rows == 0
    assert Splitter().split(pa.chunked_array([], pa.string())).num_rows == 0
    for by in ("sentence", "document"):
        with pytest.raises(InputError, match="not int64"):
            Splitter(by=by).split(pa.array([1]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"by": "word"},
        {"blanks": "none"},
        {"tokens": 0},
        {"by": "tokens"},
        {"tokenizer": "x"},
        {"by": "document", "min_chars": 1},
        {"min_chars": -1},
        {"max_chars": 15},
        {"min_chars": 10, "max_chars": 39},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ConfigError) as caught:
        Splitter(**wrong)
    assert str(next(iter(wrong.values()))) in str(caught.value)


def test_identity_is_what_can_change_a_span():
    assert Splitter().identity() == Splitter(min_chars=12, max_chars=1000, tokens=7).identity()
    different = [Splitter(), KORBAK_SPLITTER, Splitter(max_chars=500), Splitter(by="line"), Splitter(by="paragraph")]
    assert len({json.dumps(s.identity()) for s in different}) == len(different)
    assert Splitter(by="document").identity() == Splitter(by="document", blanks="previous").identity()


CORPUS = ["the quick brown fox jumps over the lazy dog. it's a nice day, isn't it?"] * 20


@pytest.fixture(scope="module", params=["bytes", "bytes_trimmed", "words"])
def tokenizer_path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    if request.param == "words":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=["[UNK]"], show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=request.param == "bytes_trimmed")
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(path))
    return str(path)


@given(
    texts=st.lists(st.none() | TEXTS, max_size=4),
    tokens=st.integers(1, 7),
    blanks=st.sampled_from(["following", "previous"]),
)
@settings(deadline=None)
def test_token_windows_tile_and_are_independent(tokenizer_path, texts, tokens, blanks):
    splitter = Splitter(by="tokens", tokenizer=tokenizer_path, tokens=tokens, blanks=blanks)
    spans = rows(splitter, texts)
    check_tiling(texts, spans)
    assert spans == [(i, *span[1:]) for i, text in enumerate(texts) for span in rows(splitter, [text])]


@pytest.mark.parametrize("blanks", ["following", "previous"])
def test_token_windows_hold_exactly_that_many_tokens(tokenizer_path, blanks):
    text = "the quick brown fox,  jumps over\nthe lazy dog. " * 30 + "end"
    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.no_truncation()
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    spans = rows(Splitter(by="tokens", tokenizer=tokenizer_path, tokens=5, blanks=blanks), [text])
    cuts = [span[1] for span in spans[1:]]
    first = range(5, len(offsets), 5)
    assert len(cuts) == len(first)
    for cut, token in zip(cuts, first, strict=True):
        (_, before), (start, end) = offsets[token - 1], offsets[token]
        if blanks == "following":
            assert before <= cut <= start
            assert not text[cut:start].strip()
            assert cut == before or not text[cut - 1].isspace()
        else:
            assert start <= cut <= end
            assert not text[start:cut].strip()
            assert not text[cut].isspace() or not text[start:end].strip()


def test_tokenizer_is_named_by_content(tokenizer_path):
    directory = str(Path(tokenizer_path).parent)
    by_file = Splitter(by="tokens", tokenizer=tokenizer_path)
    assert by_file.identity() == Splitter(by="tokens", tokenizer=directory).identity()
    assert by_file.identity() != Splitter(by="tokens", tokenizer=tokenizer_path, tokens=9).identity()
    text = pa.array(["the quick brown fox"])
    assert by_file.split(text).equals(Splitter(by="tokens", tokenizer=directory).split(text))


def test_bad_tokenizers_are_named(tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    for name, reason in (("missing.json", "cannot be read"), ("bad.json", "not a tokenizer.json")):
        with pytest.raises(ConfigError, match=reason) as caught:
            Splitter(by="tokens", tokenizer=str(tmp_path / name)).split(pa.array(["x"]))
        assert name in str(caught.value)
