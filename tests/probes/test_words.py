import dataclasses

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encoder import make_card
from test_probe_file import spoil
from tiny_models import TEXTS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from annotate.errors import ConfigError, InputError
from annotate.models.base import expand
from annotate.models.reading import SentTokenizer
from annotate.probes import Feature, encoder_forward, load_probe, probe_features, save_probe
from annotate.probes import tail as tail_module
from annotate.probes.encoder import word_features
from annotate.probes.labels import read_labels
from annotate.probes.training import train_probe
from annotate.probes.word_features import NEAR, WordFinder
from annotate.probes.word_list import BEGINNING, feature_names, hash_words, read_words
from annotate.scorers import Encoder, Probe

PIECES = ["[UNK]", "[SEP]", "you", "ass", "##ass", "##in", "piece", "of", "cake", "please", "the", "@", "!", "u"]
ENTRY = ["ass", "piece", "of", "cake", "the", "you", "please"]
LIST = {
    "text": ["ass", "piece of cake", "piece", "please", "@ss", "the ass"],
    "group": ["bad", "fine", "bad", "polite", "bad", "bad"],
    "severity": [2.0, 0.5, 1.0, 0.0, 3.0, 2.5],
}


def make_frame(**columns):
    return pl.DataFrame(columns, schema={"text": pl.String, "group": pl.String, "severity": pl.Float32})


def make_word_piece():
    vocabulary = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[SEP]", "[UNK]"])
    return SentTokenizer.of(tokenizer, "a tokenizer")


@pytest.fixture(scope="module")
def tokenizer():
    return make_word_piece()


@pytest.fixture(scope="module")
def words(tokenizer):
    return hash_words(make_frame(**LIST), tokenizer)


def count(words, tokenizer, texts):
    """Features by name, of texts."""
    rows = [tokenizer.parsed().encode(text).ids for text in texts]
    ids = np.array([token for row in rows for token in row], np.int32)
    found = WordFinder(words, tokenizer).features(ids, np.array([len(row) for row in rows], np.int32))
    return [dict(zip(feature_names(words.groups), row.tolist(), strict=True)) for row in found]


def test_listed_words_are_found_whole(words, tokenizer):
    listed, left_out = words
    texts = ["the ass", "assass", "assassin", "ASS !", "piece of", "piece of cake", "you of the the ass", "", "! ! ! !"]
    found = count(listed, tokenizer, texts)
    assert left_out == 1, "the tokenizer has no piece 'ss'"
    assert (listed.groups, listed.entries) == (("bad", "fine", "polite", "you"), 5 + 2)
    assert [row["share of 'bad'"] for row in found] == [1.0, 0, 0, 0.5, 0.5, 0, pytest.approx(0.4), 0, 0]
    assert [row["greatest severity"] for row in found] == [2.5, 0, 0, 2, 1, 0.5, 2.5, 0, 0]
    assert found[5]["share of 'fine'"] == pytest.approx(1 / 3), "the longest entry at a word counts"
    assert [row["length"] for row in found] == pytest.approx(np.log1p([2, 1, 1, 2, 2, 3, 5, 0, 4]))


def test_a_listed_word_near_you_counts_once_more(words, tokenizer):
    near = 'greatest severity near "you"'
    texts = [f"ass {'! ' * n} you" for n in range(NEAR + 1)] + ["u piece ! ! ! ass", "you", "you please"]
    found = count(words[0], tokenizer, [*texts, "ass", "you"])
    assert [row[near] for row in found] == [2, 2, 2, 0, 1, 0, 0, 0, 0], "not across the border of two inputs either"


def naive(words, tokenizer, rows):
    """The same features, token by token."""
    pieces = {i: piece for piece, i in tokenizer.parsed().get_vocab().items()}
    by_key = {int(key): i for i, key in enumerate(words.keys)}
    finder_keys = []
    for row in rows:
        begins = [i for i, token in enumerate(row) if token != 1 and not pieces[token].startswith("##")]
        found = {}
        for number, start in enumerate(begins):
            for stop in range(start + 1, len(row) + 1):
                if stop < len(row) and pieces[row[stop]].startswith("##"):
                    continue
                key = key_of(row[start:stop])
                if key in by_key and words.group[by_key[key]] != BEGINNING:
                    found[number] = by_key[key]
        you = [n for n, i in found.items() if words.groups[words.group[i]] == "you"]
        bad = {n: i for n, i in found.items() if words.groups[words.group[i]] != "you"}
        shares = [
            sum(words.group[i] == g for i in found.values()) / max(1, len(begins)) for g in range(len(words.groups))
        ]
        near = [words.severity[i] for n, i in bad.items() if any(abs(n - y) <= NEAR for y in you)]
        most = max((words.severity[i] for i in found.values()), default=0)
        finder_keys.append([*shares, most, max(near, default=0), np.log1p(len(begins))])
    return np.array(finder_keys, np.float32)


def key_of(ids):
    """The hash as the file format has it, in Python's integers."""
    key = 0
    for token in ids:
        key = (key + token + 1) * 0x9E3779B97F4A7C15 % 2**64
        key ^= key >> 29
    return key


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, len(PIECES) - 1), max_size=12), min_size=1, max_size=6),
    st.lists(st.lists(st.sampled_from(ENTRY), min_size=1, max_size=3), min_size=1),
)
def test_features_are_those_of_a_search_token_by_token_and_know_no_neighbours(rows, entries):
    tokenizer = make_word_piece()
    texts = [" ".join(entry) for entry in entries]
    frame = make_frame(
        text=texts, group=[f"g{i % 3}" for i in range(len(texts))], severity=[i / 4 for i in range(len(texts))]
    )
    words, _ = hash_words(frame, tokenizer)
    finder = WordFinder(words, tokenizer)
    ids = np.array([token for row in rows for token in row], np.int32)
    found = finder.features(ids, np.array([len(row) for row in rows], np.int32))
    np.testing.assert_array_equal(found, naive(words, tokenizer, rows))
    alone = [finder.features(np.array(row, np.int32), np.array([len(row)], np.int32))[0] for row in rows]
    np.testing.assert_array_equal(found, alone)


def test_of_entries_with_equal_tokens_the_most_severe_stays(tokenizer):
    frame = make_frame(text=["ass", "Ass", "ASS"], group=["a", "b", "c"], severity=[1.0, 3.0, 2.0])
    words, left_out = hash_words(frame, tokenizer)
    (entry,) = np.flatnonzero(words.severity > 0)
    assert (words.groups[words.group[entry]], words.severity[entry], left_out) == ("b", 3.0, 0)
    own = make_frame(text=["piece", "the"], group=["bad", "you"], severity=[1.0, 0.0])
    assert hash_words(own, tokenizer)[0].entries == 2, "a list that has the group brings its own words for it"


def test_words_that_the_tokenizer_does_not_know_are_refused_where_none_is_left(tokenizer):
    with pytest.raises(ConfigError, match="knows none of the words"):
        hash_words(make_frame(text=["xyz", "q"], group=["a", "you"], severity=[1.0, 1.0]), tokenizer)


def test_tokenizers_that_do_not_say_where_words_begin_are_refused_by_kind(words):
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    with pytest.raises(ConfigError, match="WordPiece or WordLevel; the encoder's is of the kind BPE"):
        WordFinder(words[0], SentTokenizer.of(tokenizer, "a tokenizer"))


def test_a_list_is_read_from_csv(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("note,text,severity,group\nx, bad word ,2,rude\n,please,0,polite\n")
    frame = read_words(path)
    assert frame.rows() == [("bad word", "rude", 2.0), ("please", "polite", 0.0)]
    path.write_text("text\nnull\n007\n")
    assert read_words(str(path)).rows() == [("null", "listed", 1.0), ("007", "listed", 1.0)]
    for content, message in [
        ("word\na\n", r"no column 'text'; it has \['word'\]"),
        ("text,severity\na,1\nb,much\n", "'much' in column 'severity', line 3"),
        ("text,severity\na,-1\n", "'-1' in column 'severity', line 2"),
        ("text,severity\na,nan\n", "'nan' in column 'severity', line 2"),
        ("text,group\na,\n", "has nothing in column 'group', line 2"),
        ("text,group\n ,b\n", "'' in column 'text', line 2"),
        ("text,group\n", "has no words, only a header"),
    ]:
        path.write_text(content)
        with pytest.raises(ConfigError, match=message) as caught:
            read_words(path)
        assert str(path) in str(caught.value)
    for broken, fault in [
        (b"text\n\xff\xfe\n", "line 2 is not UTF-8, the byte ff is in it"),
        (b'text,group\na,b\n"idiot,insult\nfoo,b\n', "line 3 has a quote that is not closed"),
        (b'text,group\n"a\nb",c\n"a"b,c\n', "line 4 has a quote that is not closed, or text behind a closed one"),
        (b"text,group\na,b\nc,d,e\n", "line 3 has 3 fields, and the header 2"),
        (b"", "it is empty"),
    ]:
        path.write_bytes(broken)
        with pytest.raises(InputError, match=rf"words\.csv can't be read as CSV: {fault}") as found:
            read_words(path)
        assert "ignore_errors" not in str(found.value) and "truncate_ragged_lines" not in str(found.value)
    (tmp_path / "words[1].csv").write_text("text\na\n")
    assert len(read_words(tmp_path / "words[1].csv")) == 1, "a name is no pattern"
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        read_words(tmp_path)
    with pytest.raises(InputError, match=r"none\.csv is not there"):
        read_words(tmp_path / "none.csv")


@pytest.fixture
def encoder(tiny):
    return Encoder(tiny("bert-encoder"))


@pytest.fixture
def listed(encoder):
    frame = make_frame(text=["idiot", "nice dog", "bad"], group=["rude", "kind", "rude"], severity=[3.0, 0.5, 1.0])
    return hash_words(frame, encoder.reading().tokenizer)[0]


@pytest.fixture
def path(encoder, listed, tmp_path):
    path = tmp_path / "niceness.safetensors"
    card = make_card(encoder, [Feature(layer=1)])
    weight = np.random.default_rng(0).normal(size=32 + len(feature_names(listed.groups)))
    save_probe(path, card, weight, 0.25, words=listed)
    return path


def test_a_list_comes_back_as_it_was_saved_and_no_word_of_it_can_be_read(path, listed):
    head = load_probe(path)
    for name in ("keys", "group", "severity"):
        np.testing.assert_array_equal(getattr(head.words, name), getattr(listed, name))
    assert head.width == 32
    assert (head.card.words.groups, head.card.words.digest) == (("kind", "rude", "you"), listed.digest())
    assert b"idiot" not in path.read_bytes() and b"nice dog" not in path.read_bytes()


def test_a_head_adds_what_it_reads_of_words_to_its_score(path, encoder, listed):
    head = load_probe(path)
    texts = [*TEXTS, "you are idiot", "the nice dog sat", "bad , bad you", "bad"]
    beside = word_features(encoder, texts, listed)
    assert len(np.unique(beside[:, :-1], axis=0)) > 3
    features = np.concatenate([probe_features(encoder, texts, [Feature(layer=1)]), beside], axis=1)
    probe = Probe(str(path), encoder=encoder)
    prepared = encoder.prepare(pa.table({"text": texts}))
    (scores,) = encoder.load([probe], "cpu")(prepared, [0])
    np.testing.assert_allclose(expand(prepared, scores)[0][:, 0], features @ head.weight + head.bias, atol=1e-5)


def test_a_head_without_a_list_scores_the_same_beside_one_with_a_list(path, encoder, tmp_path):
    other = tmp_path / "tone.safetensors"
    save_probe(other, make_card(encoder, [Feature(layer=1)], "tone"), np.arange(32.0), 0.0)
    with_list, without = (Probe(str(file), encoder=encoder) for file in (path, other))
    prepared = encoder.prepare(pa.table({"text": TEXTS}))
    (alone,) = encoder.load([without], "cpu")(prepared, [0])
    beside = encoder.load([with_list, without], "cpu")(prepared, [0, 1])[1]
    assert alone.values.tobytes() == beside.values.tobytes()


def test_a_list_is_looked_for_batch_by_batch_while_the_encoder_runs_and_once_for_all_heads_that_have_it(
    path, encoder, listed, tmp_path, monkeypatch
):
    other, bare = tmp_path / "tone.safetensors", tmp_path / "correctness.safetensors"
    card = make_card(encoder, [Feature(layer=1)], "tone")
    save_probe(other, card, np.linspace(-1, 1, 32 + len(feature_names(listed.groups))), 0.0, words=listed)
    save_probe(bare, make_card(encoder, [Feature(layer=1)], "correctness"), np.arange(32.0), 0.0)
    small = dataclasses.replace(encoder, batch_tokens=16)
    probes = [Probe(str(file), encoder=small) for file in (path, other, bare)]
    forward = small.load(probes, "cpu")
    prepared = small.prepare(pa.table({"text": [*TEXTS, "you are idiot", "bad dog"]}))
    alone = [forward(prepared, [i])[0].values.tobytes() for i in range(3)]
    done = []

    def note(module, name):
        called = getattr(module, name)

        def noted(*args):
            done.append(name)
            return called(*args)

        monkeypatch.setattr(module, name, noted)

    note(encoder_forward, "pool_batch")
    note(WordFinder, "features")
    assert [scores.values.tobytes() for scores in forward(prepared, range(3))] == alone
    assert done == ["pool_batch", "features"] * (len(prepared.arrays["bounds"]) - 1) and len(done) > 4
    done.clear()
    forward(prepared, [2])
    assert set(done) == {"pool_batch"}, "a head without a list pays nothing for one"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop": ["words.keys"]}, r"'words.keys' is missing"),
        ({"words.severity": np.zeros(3, np.float32)}, r"words.severity must be \[5\] as words.keys is"),
        ({"words.severity": np.zeros(5, np.float64)}, "words.severity must be float32, got float64"),
        ({"words.severity": np.full(5, -1, np.float32)}, "words.severity must be finite, and 0 or more"),
        ({"words.severity": np.zeros(5, np.float32)}, "not the one that its card names, or is damaged"),
        ({"words.keys": np.zeros(5, np.uint64)}, "words.keys must rise"),
        ({"words.keys": np.zeros((5, 1), np.uint64)}, r"words.keys must be \[n\]"),
        ({"words.group": np.full(5, 9, np.uint8)}, "positions in 3 groups, or 255"),
        ({"card": {"words": {"groups": ["a", "a", "b"], "digest": ""}}}, "different names"),
        ({"card": {"words": {"groups": "a"}}}, r"wrong at 'words\."),
        ({"card": {"words": None}}, "unknown tensor 'words.group'|weight must be"),
    ],
)
def test_a_wrong_list_is_refused_by_name(path, changes, message):
    spoil(path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_probe(path)
    assert str(path) in str(caught.value)


@pytest.fixture
def labelled():
    """Spans whose label is whether a listed word is in them, beside a source that says the opposite."""
    draws = np.random.default_rng(0)
    rude = np.arange(400) % 2
    texts = [
        " ".join(draws.permutation([*draws.choice(["the", "cat", "dog", "sat", "mat"], 6), ["nice", "idiot"][bad]]))
        for bad in rude
    ]
    source = np.where(np.arange(400) < 200, "true", "wrong")
    return pa.table({"text": texts, "label": np.where(source == "true", 1.0 - rude, rude), "source": source})


@pytest.mark.parametrize("tail_layers", [0, 1])
def test_a_probe_is_trained_with_a_list_and_scores_as_it_was_measured(encoder, labelled, tmp_path, tail_layers):
    csv = tmp_path / "words.csv"
    csv.write_text("text,group,severity\nidiot,rude,3\nunheard,rude,1\n")
    one_source = labelled.slice(0, 200)
    reports = [
        train_probe(
            one_source,
            "niceness",
            encoder=encoder,
            out=tmp_path / f"{name}.safetensors",
            features=[Feature(layer=0)],
            words=words,
            tail_layers=tail_layers,
        )
        for name, words in {"a": csv, "b": [csv]}.items()
    ]
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    report = reports[0]
    assert report.sources[0].result.value > 0.95
    assert report.words_left_out == 1
    assert report.words["share of 'rude'"] < 0
    head = load_probe(tmp_path / "a.safetensors")
    assert bool(head.tail) == bool(tail_layers)
    assert head.weight[-5] < 0, "the weights of words come last, also where there is a tail"
    # What a standard deviation adds is said of the head that was written, not of the linear one that a tail began with.
    spans = read_labels(one_source, text="text", label="label", source=None, split=None, seed=0)
    spread = word_features(encoder, spans.texts, head.words)[spans.train].std(axis=0)
    assert [*report.words.values()] == pytest.approx(head.weight[-5:] * spread)


def test_weights_say_what_a_source_counts_and_0_only_measures_it(encoder, labelled, tmp_path):
    settings = {"encoder": encoder, "source": "source", "features": [Feature(layer=0)]}
    report = train_probe(labelled, "niceness", out=tmp_path / "a.safetensors", weights={"wrong": 0}, **settings)
    true, wrong = report.sources
    assert (wrong.train, true.result.value > 0.9, wrong.result.value < 0.1) == (0, True, True)
    assert (wrong.test, report.unused) == (200, 0), "all spans of a source that is only measured are"
    assert wrong.held_out == wrong.result
    train_probe(labelled.slice(0, 200), "niceness", out=tmp_path / "b.safetensors", **settings)
    a, b = (load_probe(tmp_path / f"{name}.safetensors") for name in "ab")
    np.testing.assert_allclose(a.weight, b.weight, rtol=1e-3, atol=1e-4)
    heavy = train_probe(labelled, "niceness", out=tmp_path / "c.safetensors", weights={"wrong": 9}, **settings)
    assert heavy.sources[1].result.value > 0.9
    for weights, message in [
        ({"none": 1.0}, r"source 'none', but the sources are \['true', 'wrong'\]"),
        ({"true": -1.0}, "from 0 on, got -1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            train_probe(labelled, "niceness", out=tmp_path / "d.safetensors", weights=weights, **settings)


def test_weights_reach_the_tail_too(encoder, labelled, tmp_path, monkeypatch):
    for name, value in {"LAYER_RATE": 3e-3, "HEAD_RATE": 3e-2, "EPOCHS": 8}.items():
        monkeypatch.setattr(tail_module, name, value)
    settings = {"encoder": encoder, "source": "source", "features": [Feature(layer=1)], "tail_layers": 1}
    results = []
    for name, weight in {"a": 9.0, "b": 1 / 9}.items():
        report = train_probe(
            labelled, "niceness", out=tmp_path / f"{name}.safetensors", weights={"wrong": weight}, **settings
        )
        results.append([source.result.value for source in report.sources])
    (true, wrong), (true_again, wrong_again) = results
    assert wrong > 0.8 > 0.2 > true and true_again > 0.8 > 0.2 > wrong_again
