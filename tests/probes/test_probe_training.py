import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotate.curves import Platt
from annotate.errors import ConfigError, InputError
from annotate.probes import Feature, load_probe
from annotate.probes import tail as tail_module
from annotate.probes.encoder import probe_features
from annotate.probes.encoder_forward import load_trunk
from annotate.probes.feature_choice import default_features, parse_feature
from annotate.probes.labels import read_labels
from annotate.probes.training import train_probe
from annotate.scorers import Encoder, Probe, check_anchors

NICE, RUDE = ["nice", "good", "thank"], ["idiot", "bad"]
FILLER = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "is", "are"]


def made_up_texts(n=300, seed=0):
    """Distinct texts with a nice or a rude word in them, and whether it is a nice one."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    texts = []
    for label in labels:
        words = [*random.choice(FILLER, 6), random.choice(NICE if label else RUDE)]
        texts.append(" ".join(random.permutation(words)))
    return texts, labels.astype(np.float64)


@pytest.fixture
def encoder(tiny):
    return Encoder(tiny("bert-encoder"))


@pytest.fixture
def table():
    texts, labels = made_up_texts()
    return pa.table({"text": texts, "label": labels})


@pytest.fixture
def two_sources():
    """Labels of one source, and ratings of another, on a scale of its own."""
    texts, labels = made_up_texts(600)
    rated = np.arange(600) >= 300
    ratings = 7 + labels * 5 + np.random.default_rng(1).normal(size=600)
    return pa.table(
        {
            "text": texts,
            "label": np.where(rated, ratings, labels),
            "source": np.where(rated, "rated", "labelled"),
        }
    )


def read(data, **changes):
    return read_labels(data, **({"text": "text", "label": "label", "source": None, "split": None, "seed": 0} | changes))


def test_a_trained_probe_separates_texts_that_it_has_not_seen(encoder, table, tmp_path):
    report = train_probe(table, "niceness", encoder=encoder, out=tmp_path / "p.safetensors", meaning="kind words")
    (source,) = report.sources
    assert source.measure == "auroc"
    assert source.result.value > 0.95
    assert source.result.low <= source.result.value <= source.result.high
    assert source.train + source.test + report.repeats == 300
    assert source.held_out is None
    assert report.calibration.brier_after < 0.25
    assert report.size == (tmp_path / "p.safetensors").stat().st_size
    card = load_probe(tmp_path / "p.safetensors").card
    assert (card.axis, card.meaning, card.max_length) == ("niceness", "kind words", encoder.window())
    assert isinstance(card.calibration, Platt)
    assert card.sources[0]["result"]["value"] == pytest.approx(source.result.value, abs=1e-4)
    assert json.loads(json.dumps(report.to_json()))["sources"][0]["name"] == "all"


def test_a_pipeline_scores_with_the_trained_probe(encoder, table, tmp_path):
    train_probe(table, "niceness", encoder=encoder, out=tmp_path / "p.safetensors")
    probe = Probe(str(tmp_path / "p.safetensors")).resolved()
    forward = probe.backbone.load([probe], "cpu")
    check_anchors([probe], probe.backbone, forward)
    prepared = probe.backbone.prepare(pa.table({"text": ["you are nice", "you are idiot"]}))
    nice, rude = forward(prepared, [0])[0].values[:, 0]
    assert nice > rude


@pytest.mark.parametrize("tail_layers", [0, 1])
def test_training_twice_gives_equal_bytes(encoder, table, tmp_path, tail_layers):
    features = [Feature(layer=1), Feature(layer=1, pool="max")]
    for name in "ab":
        train_probe(
            table,
            "niceness",
            encoder=encoder,
            out=tmp_path / f"{name}.safetensors",
            features=features,
            tail_layers=tail_layers,
        )
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_the_order_of_rows_does_not_move_a_span_to_another_part(table):
    one = read(table)
    other = read(table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows))))
    for part in ("test", "validation"):
        texts = [{text for text, own in zip(s.texts, getattr(s, part), strict=True) if own} for s in (one, other)]
        assert texts[0] == texts[1]
        assert 20 < len(texts[0]) < 100
    assert not (one.test & one.validation).any()


def test_repeats_stay_on_one_side():
    texts, labels = made_up_texts(100)
    spans = read(pa.table({"text": texts + [f"  {t.upper()} " for t in texts], "label": np.tile(labels, 2)}))
    half = len(spans.texts) // 2
    assert spans.test[:half].tolist() == spans.test[half:].tolist()
    assert spans.validation[:half].tolist() == spans.validation[half:].tolist()


def test_training_spans_that_repeat_a_test_span_are_left_out():
    texts, labels = made_up_texts(100)
    split = ["train"] * 70 + ["test"] * 30
    texts[0] = texts[99].upper()
    spans = read(pa.table({"text": texts, "label": labels, "part": split}), split="part")
    expected = sum(text.lower() in set(texts[70:]) for text in texts[:70])
    assert spans.repeats == expected >= 1
    assert spans.test.sum() == 30


def test_ratings_become_ranks_within_their_source(two_sources):
    spans = read(two_sources, source="source")
    assert spans.names == ("labelled", "rated")
    assert spans.rated.tolist() == [False, True]
    labelled, rated = spans.sources == 0, spans.sources == 1
    assert set(spans.targets[labelled]) == {0.0, 1.0}
    assert spans.targets[rated].min() >= 0
    assert spans.targets[rated].max() <= 1
    train = rated & spans.train
    assert np.sort(spans.targets[train]) == pytest.approx((np.arange(train.sum()) + 0.5) / train.sum())
    assert (np.argsort(spans.targets[train]) == np.argsort(spans.labels[train])).all()


def test_all_of_a_source_that_is_only_measured_is_for_the_test_and_its_repeats_leave_training(two_sources):
    trained, measured = two_sources.slice(0, 300), two_sources.slice(300)
    again = trained.slice(0, 10).set_column(2, "source", pa.array(["rated"] * 10))
    both = pa.concat_tables([trained, measured, again])
    spans = read(both, source="source", weights={"rated": 0})
    rated = spans.sources == 1
    assert spans.test[rated].all() and rated.sum() == 310 and not spans.unused.any()
    assert not {*trained["text"].to_pylist()[:10]} & {
        text for text, train in zip(spans.texts, spans.train, strict=True) if train
    }
    assert np.sort(spans.targets[rated]) == pytest.approx((np.arange(310) + 0.5) / 310, abs=0.02)

    # A column of splits is followed, and what it keeps from both is counted.
    split = both.append_column("part", pa.array(np.where(np.arange(610) % 5, "train", "test")))
    spans = read(split, source="source", split="part", weights={"rated": 0})
    rated = spans.sources == 1
    assert (spans.test[rated].sum(), spans.unused.sum()) == (62, (rated & ~spans.test).sum())
    assert 240 < spans.unused.sum() <= 248 and not (spans.unused & (spans.train | spans.validation)).any()


def test_sources_are_measured_each_and_held_out_whole(encoder, two_sources, tmp_path):
    report = train_probe(two_sources, "niceness", encoder=encoder, out=tmp_path / "p.safetensors", source="source")
    labelled, rated = report.sources
    assert (labelled.measure, rated.measure) == ("auroc", "spearman")
    assert labelled.result.value > 0.95
    assert rated.result.value > 0.6
    # The same words say the same in both, so each can be learned from the other.
    assert labelled.held_out.value > 0.9
    assert rated.held_out.value > 0.5


def test_a_tail_is_trained_saved_and_read(encoder, table, tmp_path, monkeypatch):
    # A tiny model with random weights and 200 spans needs larger steps, and more of them.
    for name, value in {"LAYER_RATE": 3e-3, "HEAD_RATE": 3e-2, "EPOCHS": 15}.items():
        monkeypatch.setattr(tail_module, name, value)
    path = tmp_path / "p.safetensors"
    report = train_probe(table, "niceness", encoder=encoder, out=path, features=[Feature(layer=1)], tail_layers=1)
    assert report.features == (Feature(layer=1), Feature(layer=2, tail=True))
    assert report.sources[0].result.value > 0.9
    head = load_probe(path)
    assert sorted(head.tail) == [1]
    original = dict(load_trunk(encoder, "cpu").layers[1].named_parameters())
    moved = [
        name for name, values in head.tail[1].items() if np.abs(values - original[name].detach().numpy()).max() > 1e-2
    ]
    assert moved
    assert {str(values.dtype) for values in head.tail[1].values()} == {"float16"}
    probe = Probe(str(path)).resolved()
    check_anchors([probe], probe.backbone, probe.backbone.load([probe], "cpu"))


def test_too_long_a_tail(encoder, table, tmp_path):
    with pytest.raises(ConfigError, match="tail of 2 layers from layer 1"):
        train_probe(
            table,
            "niceness",
            encoder=encoder,
            out=tmp_path / "p.safetensors",
            features=[Feature(layer=1)],
            tail_layers=2,
        )


def test_default_features_are_of_middle_layers(encoder):
    assert default_features(encoder) == (Feature(layer=1),)


def test_features_as_the_command_line_spells_them():
    assert parse_feature("4") == Feature(layer=4)
    assert parse_feature("2:max") == Feature(layer=2, pool="max")
    for wrong in ("", "x", "4:median", "-1", "mean:4"):
        with pytest.raises(ConfigError, match="LAYER or LAYER:POOL"):
            parse_feature(wrong)


def test_given_anchors_are_kept_and_must_score_the_right_way_round(encoder, table, tmp_path):
    path = tmp_path / "p.safetensors"
    anchors = ("you are bad", "you are good")
    train_probe(table, "niceness", encoder=encoder, out=path, anchors=anchors)
    assert load_probe(path).card.anchors == anchors
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="wrong way round"):
        train_probe(table, "niceness", encoder=encoder, out=path, anchors=anchors[::-1])
    assert path.read_bytes() == before


def test_anchors_are_picked_among_clear_cases(encoder, table, tmp_path):
    train_probe(table, "niceness", encoder=encoder, out=tmp_path / "p.safetensors")
    low, high = load_probe(tmp_path / "p.safetensors").card.anchors
    assert any(word in low.split() for word in RUDE)
    assert any(word in high.split() for word in NICE)


def replaced(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def test_bad_labelled_spans(table, tmp_path):
    labels = table.column("label").to_pylist()
    texts = table.column("text").to_pylist()
    cases = [
        (table.rename_columns(["text", "stars"]), {}, r"no column 'label'; they have \['text', 'stars'\]"),
        (table, {"source": "from"}, "no column 'from'"),
        (replaced(table, "text", [None, *texts[1:]]), {}, "column 'text' .* 1 nulls, the first in row 0"),
        (replaced(table, "label", [*labels[:-1], None]), {}, "column 'label' .* 1 nulls, the first in row 299"),
        (replaced(table, "label", [float("nan"), *labels[1:]]), {}, "finite numbers, got nan in row 0"),
        (replaced(table, "label", ["good"] * 300), {}, "must hold 0 and 1, or ratings"),
        (replaced(table, "text", range(300)), {}, "column 'text' must hold text"),
        (replaced(table, "label", [1.0] * 300), {}, r"all labels of source 'all' are \[1.0\]"),
        (table.slice(0, 49), {}, "50 labelled spans or more, got 49"),
        (table.append_column("part", pa.array(["dev"] * 300)), {"split": "part"}, "'train' or 'test', got 'dev'"),
        (table.append_column("part", pa.array(["train"] * 300)), {"split": "part"}, "the test part has 0 spans"),
        (replaced(table, "label", [1.0, *[0.0] * 299]), {}, "it needs both kinds"),
    ]
    for data, settings, message in cases:
        with pytest.raises(ConfigError, match=message):
            read(data, **settings)
    pq.write_table(table, tmp_path / "labelled.parquet")
    assert len(read(tmp_path / "labelled.parquet").texts) == 300
    (tmp_path / "broken.parquet").write_text("no parquet")
    for name in ("broken.parquet", "missing.parquet"):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)


def test_bad_settings(encoder, table, tmp_path):
    for settings, message in [
        ({"axis": "not an axis"}, "an axis name must be"),
        ({"out": tmp_path / "p.bin"}, "must end in .safetensors"),
        ({"out": tmp_path / "missing" / "p.safetensors"}, "does not exist"),
        ({"features": [Feature(layer=2, tail=True)]}, "come with tail_layers"),
        ({"anchors": ("same", "same")}, "must be"),
    ]:
        with pytest.raises(ConfigError, match=message):
            train_probe(table, **({"axis": "a", "out": tmp_path / "p.safetensors", "encoder": encoder} | settings))


def test_integer_and_bool_labels_are_fine(table):
    labels = np.array(table.column("label")).astype(np.int8)
    one, other = (read(replaced(table, "label", values)) for values in (labels, labels == 1))
    assert dataclasses.asdict(one)["targets"].tolist() == other.targets.tolist()


def labelled(*values, n=300):
    """Texts with labels that go round these values."""
    texts, _ = made_up_texts(n)
    return pa.table({"text": texts, "label": np.resize(np.array(values, np.float64), n)})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 1, -1), "100 labels of column 'label' are -1, the first in row 2; the others are 0, 1: -1 often stands"),
        ((0, 1, 1, -100), "75 labels of column 'label' are -100, the first in row 3"),
        ((-1, 0, 1, 2, 3, 4, 5), "43 labels of column 'label' are -1, the first in row 0; the others are 0 to 5"),
        ((-100, -2, -1, 0, 1, 2), "50 labels of column 'label' are -100"),
        ((-1, 1), "150 labels of column 'label' are -1"),
        ((-1, 0.25, 0.75), "100 labels of column 'label' are -1"),
        ((1, 1, 1), "all labels of source 'all' are"),
    ],
)
def test_what_often_stands_for_no_label_is_not_taken_for_one(values, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read(labelled(*values))
    if "often stands" in said or "are -1" in said:
        assert "leave these rows out" in caught.value.hint


def test_marks_are_looked_for_in_each_source():
    both = pa.concat_tables([labelled(0, 1), labelled(-2, -1, 0, 1, 2)])
    both = both.append_column("source", pa.array(["a"] * 300 + ["b"] * 300))
    assert read(both, source="source").rated.tolist() == [False, True]
    marked = pa.concat_tables([labelled(0, 1), labelled(0, 1, -1)]).append_column("source", both["source"])
    with pytest.raises(ConfigError, match="first in row 302; the others of source 'b' are 0, 1"):
        read(marked, source="source")


@pytest.mark.parametrize(
    ("values", "understood"),
    [
        ((0, 1), "0 and 1 (150 and 150 spans)"),
        ((0, 1, 2), "ratings, learned and measured by rank (3 different ones: 0, 1, 2)"),
        ((-2, -1, 1, 2), "ratings, learned and measured by rank (4 different ones: -2, -1, 1, 2)"),
        ((0, 0.1, 0.2, 0.5, 0.9, 1), "ratings, learned and measured by rank (6 different ones: 0 to 1)"),
    ],
)
def test_what_labels_were_taken_for_is_said(values, understood):
    distinct = labelled(*values)
    distinct = distinct.set_column(0, "text", pa.array([f"{i} text" for i in range(300)]))
    assert read(distinct).understood == (f"labels of all: {understood}",)


def test_texts_with_labels_of_both_kinds_are_counted():
    table = labelled(0, 1).set_column(0, "text", pa.array([f"{i} Text" for i in range(300)]))
    again = pa.table({"text": ["0  TEXT", "1 text", "2 text"], "label": [1.0, 1.0, 1.0]})
    assert read(table).contradictions == 0
    assert read(pa.concat_tables([table, again])).contradictions == 2


def test_labels_that_are_texts_are_not_guessed():
    table = labelled(0, 1)
    with pytest.raises(ConfigError, match="must hold 0 and 1, or ratings, got String"):
        read(table.set_column(1, "label", table["label"].cast(pa.string())))


def test_a_prefix_stands_before_each_text_in_training_and_in_a_pipeline(encoder, table, tmp_path):
    prefixed = dataclasses.replace(encoder, prefix="thank you , ")
    features = [Feature(layer=1)]
    texts = ["a good dog", "", "you are an idiot"]
    found = probe_features(prefixed, texts, features)
    expected = probe_features(encoder, [f"thank you , {text}" for text in texts], features)
    np.testing.assert_array_equal(found, expected)
    assert not np.allclose(found, probe_features(encoder, texts, features))

    train_probe(table, "niceness", encoder=prefixed, out=tmp_path / "p.safetensors")
    probe = Probe(str(tmp_path / "p.safetensors"))
    assert probe.backbone.prefix == "thank you , " == probe.resolved().backbone.prefix
    assert prefixed.identity() == {**encoder.identity(), "prefix": "thank you , "}
    with pytest.raises(ConfigError, match=r"was trained on texts after 'thank you , ', got prefix=''"):
        Probe(str(tmp_path / "p.safetensors"), encoder=encoder).resolved()


def test_the_report_tells_of_length_and_of_the_spans_on_which_the_probe_is_most_wrong(encoder, table, tmp_path):
    texts, labels = table["text"].to_pylist(), table["label"].to_pylist()
    report = train_probe(table, "niceness", encoder=encoder, out=tmp_path / "p.safetensors")
    assert sum(third.test for third in report.lengths) == report.sources[0].test
    longest = [third.longest for third in report.lengths]
    assert longest == sorted(longest) and all(third.result.value > 0.9 for third in report.lengths)
    assert -1 <= report.scores_with_length <= 1
    no, yes = report.wrong[:5], report.wrong[5:]
    assert [span.label for span in report.wrong] == [0] * 5 + [1] * 5
    assert all(labels[texts.index(span.text)] == span.label for span in report.wrong)
    assert [span.probability for span in no] == sorted((span.probability for span in no), reverse=True)
    assert [span.probability for span in yes] == sorted(span.probability for span in yes)

    # Labels that are lengths: the probe has nothing else to learn, and the report says so of both.
    texts = [" ".join(["good"] * (1 + i % 10)) + f" {i}" for i in range(200)]
    by_length = pa.table({"text": texts, "label": [float(i % 10 > 4) for i in range(200)]})
    report = train_probe(by_length, "niceness", encoder=encoder, out=tmp_path / "l.safetensors")
    assert report.scores_with_length > 0.5 < report.labels_with_length
    assert report.lengths[0].result is None  # all of them are a no


def test_layers_that_the_encoder_lacks_and_a_file_that_is_not_there_are_named(encoder, table, tmp_path):
    out = tmp_path / "p.safetensors"
    with pytest.raises(ConfigError, match=r"a feature of layer 12 was asked for, but the encoder .* has 2 layers"):
        train_probe(table, "niceness", encoder=encoder, out=out, features=[Feature(layer=12)])
    with pytest.raises(InputError, match=r"the labelled spans .*none\.parquet are not there"):
        train_probe(str(tmp_path / "none.parquet"), "niceness", encoder=encoder, out=out)
