"""Directions in a model where it is known what a tag does."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import additive
import numpy as np
import pytest
import tagged_model
import torch

from annotate.directions import load_direction, progress, steered
from annotate.directions import subject as subject_module
from annotate.directions.divergence import divergences, span_log_likelihoods
from annotate.directions.log_odds import log_odds
from annotate.directions.measures import Additivity
from annotate.directions.readings import Parts, Readings
from annotate.directions.report import Curves, TagReport, file_name, steering_picture
from annotate.directions.rows import Reader, fitted
from annotate.directions.spans import TaggedSpans
from annotate.directions.states import span_states
from annotate.directions.study import Condition, recombined, studied
from annotate.directions.subject import Subject
from annotate.errors import ConfigError
from annotate.inference.tagged import Trained
from annotate.probes.file import EncoderHashes
from annotate.proof.intervals import NOTHING

WORDS = {"nice": ["Nice", "others", "words", "and"], "true": ["It", "may", "be", "12"], "": ["One", "two", "three"]}
HASHES = EncoderHashes(name="made up", weights="a", tokenizer="b", config="c")


def made_up(documents: int, seed: int = 0) -> TaggedSpans:
    """Documents of four to six sentences, each of the words of one tag, or of none."""
    generator = np.random.default_rng(seed)
    spans, tags = [], []
    for _ in range(documents):
        kinds = generator.choice(list(WORDS), int(generator.integers(4, 7))).tolist()
        spans.append([" ".join(generator.choice(WORDS[kind], 5)).capitalize() + ". " for kind in kinds])
        tags.append([[kind] if kind else [] for kind in kinds])
    return TaggedSpans(spans=spans, tags=tags)


def silent(line: str) -> None: ...


def study(subject: Subject, texts: TaggedSpans, against: tuple[str, ...] = ()) -> Condition:
    return studied(Readings.of(subject, Parts.of(texts), against, silent), "nice", silent)


def whole(subject: Subject, texts: TaggedSpans) -> Readings:
    """The readings of texts that are all found, chosen and measured on."""
    return Readings.of(subject, Parts(finding=texts, choosing=texts, measuring=texts), (), silent)


def projected(subject: Subject, texts: list[str], vectors: np.ndarray, layer: int) -> np.ndarray:
    return subject.states_alone(texts, silent, "")[layer - 1].astype(np.float64) @ vectors[layer - 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    tagged_model.write_files(folder)
    return folder


@pytest.fixture(scope="module")
def reader(files: Path) -> Reader:
    return Reader.of_shards(Trained.read(tagged_model.tokenizer_of(files), str(files)))


@pytest.fixture(scope="module")
def vectors() -> torch.Tensor:
    return torch.randn(2, additive.WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def subject(files: Path, reader: Reader, vectors: torch.Tensor) -> Subject:
    known = reader.trained.vocabulary
    ids = [known.id_of(name, "open") for name in ("nice", "true")]
    model = additive.Additive(128, ids, [known.id_of("true", "close")], vectors)
    return Subject(
        model=model,
        hashes=HASHES,
        reader=reader,
        tokenizer=tagged_model.tokenizer_of(files).backend_tokenizer,
        max_length=256,
        layers=(1, 2),
        weights=(0.5, 1.0, 2.0),
        seed=0,
    )


def test_what_a_tag_adds_is_found_and_steers_like_the_tag(subject: Subject, vectors: torch.Tensor) -> None:
    """In the layer that adds, the direction is what is added; with it, the model is the one under the tag."""
    parts = Parts.of(made_up(40))
    readings = Readings.of(subject, parts, (), silent)
    nice, true = (studied(readings, name, silent) for name in ("nice", "true"))
    first, second = nice.report.layers
    assert np.allclose(nice.directions["tags"].vectors[0], 0, atol=1e-6)
    assert np.allclose(nice.directions["tags"].vectors[1], vectors[0], atol=1e-5)
    assert np.allclose(nice.directions["tags"].vectors[2], vectors[0], atol=1e-5)
    assert second.cosine_to_embeddings == pytest.approx(1, abs=1e-5)
    assert nice.report.best == 2
    assert second.weight == 1.0 and second.equivalence.value == pytest.approx(1, abs=1e-4)
    assert first.equivalence.value == pytest.approx(0, abs=1e-6)  # a direction of zeros
    assert second.equivalence_random < 0.8  # the best of five, in 16 dimensions
    assert second.norm == pytest.approx(float(vectors[0].norm()), rel=1e-4)
    both = recombined(readings, nice, true, silent)
    assert both.equivalence.value == pytest.approx(1, abs=1e-4)  # though nothing was chosen on texts under both tags
    assert max(alone.value for alone in both.alone) < 0.9


def test_what_each_weight_gives_is_drawn(subject: Subject) -> None:
    report = study(subject, made_up(40)).report
    curves = report.layers[1].curves
    assert curves.tags[1] == pytest.approx(1, abs=1e-4)  # all of the direction, which is what the tag adds
    assert curves.tags[0] == pytest.approx(0.7, abs=0.25) and curves.tags[2] < 0.5  # half, and twice as much
    assert len(curves.random) == 5 and max(each[1] for each in curves.random) < 0.8
    root = ET.fromstring(steering_picture(report, 2, curves, subject.weights))
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Steering towards <nice> in layer 2", "of tags", "of texts", "random", "0", "0.5", "1", "2"} <= texts
    assert len([*root.iter("{http://www.w3.org/2000/svg}circle")]) == 3 * 4  # no addition, and three weights


@pytest.mark.parametrize("order", [1, -1])
def test_a_picture_leaves_out_what_could_not_be_measured(order: int) -> None:
    """Whichever of the random directions it was."""
    random = ((0.1, math.nan), (0.3, 0.2), (math.nan, math.nan))
    curves = Curves(tags=(0.5, 0.6), texts=(0.4, 0.5), random=random[::order])
    tag = TagReport(
        tag="nice",
        against=(),
        spans=(9, 9),
        layers=(),
        best=1,
        auroc_alone=NOTHING,
        additivity=Additivity(a=0.0, b=0.0, c=0.0, r2=0.0, interaction=0.0),
    )
    said = steering_picture(tag, 1, curves, (1.0, 2.0))
    assert "nan" not in said and "lowest to highest of 3 random directions, of 1 at least" in said
    known = Curves(tags=curves.tags, texts=curves.texts, random=((0.1, 0.2), (0.3, 0.2)))
    whole = steering_picture(tag, 1, known, (1.0, 2.0))
    shapes = [re.findall(r'<polygon points="([^"]*)"', each) for each in (said, whole)]
    assert shapes[0] == shapes[1]  # the same band as of the values that there are


def test_what_depends_on_no_tag_is_read_once(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(
        subject_module, "span_states", lambda *given, **more: (read.append(1), span_states(*given, **more))[1]
    )
    readings = Readings.of(subject, Parts.of(made_up(40)), (), silent)
    read.clear()
    for name in ("nice", "true"):
        studied(readings, name, silent)
    assert len(read) == 2  # the spans under each tag, and no other
    assert readings.opposite is readings.finding


def test_what_takes_a_while_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = 0.0, []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    quick = progress.Progress(told.append, "quick")
    slow = progress.Progress(told.append, "slow")
    for now in range(1, 31):
        if now < 3:
            quick.at(now, 2)
        slow.at(now, 30)
    assert told[0] == "slow: 2 of 30 done, about 28 s left"
    assert [line.split()[1] for line in told] == ["2", "12", "22"]


def test_texts_tell_where_words_do(subject: Subject) -> None:
    """The words of a tag are its own, so that untagged spans are told apart; labels that say nothing tell nothing."""
    texts = made_up(60)
    report = study(subject, texts).report
    assert report.layers[0].auroc_texts.value > 0.95
    generator = np.random.default_rng(5)
    shuffled = [[["nice"] if generator.random() < 0.4 else [] for _ in tags] for tags in texts.tags]
    drawn = TaggedSpans(spans=texts.spans, tags=shuffled)
    report = study(subject, drawn).report
    assert report.layers[0].auroc_texts.low < 0.55 and report.layers[0].auroc_texts.value < 0.75


def test_an_opposite_tag_is_set_against(subject: Subject, vectors: torch.Tensor) -> None:
    found = study(subject, made_up(40), against=("true",))
    assert np.allclose(found.directions["tags"].vectors[1], vectors[0] - vectors[1], atol=1e-5)
    assert found.report.layers[1].equivalence.value == pytest.approx(1, abs=1e-4)
    assert found.report.spans[1] < found.report.spans[0] * 3  # only spans that have the opposite tag


def test_a_model_that_has_not_seen_the_tags_has_directions_of_texts(subject: Subject) -> None:
    plain = Reader(trained=None, encoder=subject.reader.encoder, begin_id=0)
    other = Subject(
        model=subject.model,
        hashes=HASHES,
        reader=plain,
        tokenizer=subject.tokenizer,
        max_length=256,
        layers=(1,),
        weights=(1.0,),
        seed=0,
    )
    found = study(other, made_up(40))
    assert list(found.directions) == ["texts"] and found.report.layers[0].equivalence is None
    # Adding the direction of spans with the tag makes them likelier, in a model whose head is not tied: either way.
    odds = found.report.additivity
    assert odds.b != 0 and np.isfinite(odds.b) and odds.b_random > 0
    assert np.isnan(odds.a)  # no span is ever under the tag


def test_log_odds_are_not_those_of_length(subject: Subject) -> None:
    """Words of both kinds are alike, but spans with the tag are four times as long: a direction tells nothing."""
    generator = np.random.default_rng(2)
    words = [word for some in WORDS.values() for word in some]
    tags = [[["nice"] if generator.random() < 0.5 else [] for _ in range(5)] for _ in range(60)]
    spans = [[" ".join(generator.choice(words, 12 if t else 3)).capitalize() + ". " for t in each] for each in tags]
    texts = TaggedSpans(spans=spans, tags=tags)
    vectors = np.random.default_rng(3).standard_normal((3, additive.WIDTH)).astype(np.float32)
    odds = log_odds(whole(subject, texts), ("nice",), vectors, 2, silent)
    assert abs(odds.b) < 2 * odds.b_random and abs(odds.b) < 1  # sums over tokens gave 30 to 130


def test_numbers_that_are_none_are_no_divergence_of_zero(subject: Subject) -> None:
    texts = made_up(3)
    plain = subject.reader.untagged(texts)
    nothing = {1: torch.full((additive.WIDTH,), torch.nan)}
    found, _ = divergences(subject.model, plain, plain, [nothing], banned=subject.banned)
    assert np.isnan(found).all()


def test_tags_of_whole_documents_have_no_number_of_spans(subject: Subject) -> None:
    texts = made_up(40)
    vectors = np.random.default_rng(3).standard_normal((3, additive.WIDTH)).astype(np.float32)
    assert np.isnan(log_odds(whole(subject, texts), ("wiki",), vectors, 2, silent).a)


def test_states_are_the_means_over_the_tokens_of_spans(subject: Subject) -> None:
    texts = made_up(5)
    rows = subject.reader.under(texts, ("nice",))
    found = span_states(subject.model, rows, texts.table.num_rows, batch_size=3)
    for ids, spans in zip(rows.ids, rows.spans, strict=True):
        hidden = subject.model.embedding(torch.from_numpy(ids)).detach().numpy()
        for span in set(spans.tolist()) - {-1}:
            assert np.allclose(found[0, span], hidden[spans == span].mean(0), atol=1e-5)


def test_tags_stand_where_they_are_chosen(reader: Reader) -> None:
    texts = TaggedSpans(spans=[["One two. ", "The end. ", "One. "]], tags=[[[], [], []]])
    nice, true, close = (
        reader.trained.vocabulary.id_of(*tag) for tag in (("nice", "open"), ("true", "open"), ("true", "close"))
    )
    plain = reader.untagged(texts)
    rows = reader.under(texts, ("nice", "true"), chosen=np.array([False, True, False]))
    ids, spans = rows.ids[0], rows.spans[0]
    assert ids[spans >= 0].tolist() == plain.ids[0].tolist()
    at = np.flatnonzero(np.isin(ids, [nice, true, close]))
    assert ids[at].tolist() == [nice, true, close]
    assert spans[at[0] - 1] == 0 and spans[at[1] + 1] == 1 and spans[at[2] - 1] == 1 and spans[at[2] + 1] == 2
    every = reader.under(texts, ("nice",))
    assert (every.ids[0] == nice).sum() == 3


def test_texts_are_cut_where_a_span_ends(reader: Reader) -> None:
    texts = TaggedSpans(spans=[["One two. "] * 30, ["word " * 400], ["The end. "]], tags=[[[]] * 30, [[]], [[]]])
    kept = fitted(texts, reader, ["nice"], 64)
    assert [len(spans) for spans in kept.spans][1:] == [1] and 2 < len(kept.spans[0]) < 30
    assert max(map(len, reader.under(kept, ["nice"]).ids)) <= 64
    with pytest.raises(ConfigError, match="no text has a first span of at most 9 tokens"):
        fitted(texts, reader, ["nice"], 9)


def test_divergence_is_that_of_the_next_tokens(subject: Subject) -> None:
    texts = made_up(3)
    target, plain = subject.reader.under(texts, ("nice",)), subject.reader.untagged(texts)
    none, tokens = divergences(subject.model, plain, plain, [{}], banned=subject.banned)
    assert np.allclose(none, 0, atol=1e-6)
    found, tokens = divergences(subject.model, target, plain, [{}], banned=subject.banned)
    for i in range(3):
        logs = []
        for rows in (target, plain):
            logits = subject.model(torch.from_numpy(rows.ids[i])[None]).logits[0].detach().double()
            logits[:, subject.banned] = -torch.inf
            before = [k - 1 for k in np.flatnonzero(rows.spans[i] >= 0) if k]
            logs.append(torch.log_softmax(logits[before], -1))
        n = min(map(len, logs))
        p, q = (each[len(each) - n :] for each in logs)
        kept = [k for k in range(128) if k not in subject.banned]
        assert found[0, i] == pytest.approx(float((p.exp() * (p - q))[:, kept].sum()), rel=1e-4)
        assert tokens[i] == n == (plain.spans[i] >= 0).sum() - 1  # nothing stands before the first token


def test_log_likelihoods_of_spans_are_means_over_their_tokens(subject: Subject) -> None:
    texts = made_up(4)
    rows = subject.reader.under(texts, ("nice",))
    found = span_log_likelihoods(subject.model, rows, texts.table.num_rows, {}, banned=subject.banned, batch_size=3)
    expected, number = np.zeros(len(found)), np.zeros(len(found))
    for ids, spans in zip(rows.ids, rows.spans, strict=True):
        logits = subject.model(torch.from_numpy(ids)[None]).logits[0].detach().double()
        logits[:, subject.banned] = -torch.inf
        logs = torch.log_softmax(logits, -1)
        for k in range(1, len(ids)):
            if spans[k] >= 0:
                expected[spans[k]] += float(logs[k - 1, ids[k]])
                number[spans[k]] += 1
    assert np.allclose(found, expected / number, rtol=1e-4)


def test_steering_ends_with_its_block_and_names_what_does_not_fit(subject: Subject) -> None:
    model, ids = subject.model, torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    with pytest.raises(RuntimeError, match="out"), steered(model, {1: torch.ones(additive.WIDTH)}):
        assert not torch.allclose(model(ids).logits, before)
        raise RuntimeError("out")
    assert torch.equal(model(ids).logits, before)
    with pytest.raises(ConfigError, match="no layer 4; the model has 3"), steered(model, {4: torch.ones(16)}):
        pass
    with (
        pytest.raises(ConfigError, match=r"shape \(3,\); hidden states have \[16\]"),
        steered(model, {1: torch.ones(3)}),
    ):
        pass


def test_files_of_directions_are_checked(subject: Subject, tmp_path: Path) -> None:
    found = study(subject, made_up(20)).directions["tags"]
    found.save(tmp_path / "nice.safetensors")
    read = load_direction(tmp_path / "nice.safetensors")
    assert read.card == found.card and np.array_equal(read.vectors, found.vectors)
    assert torch.equal(read.at(2, 0.5)[2], 0.5 * torch.from_numpy(found.vectors[1]))
    with pytest.raises(ConfigError, match="no layer 9"):
        read.at(9)
    with pytest.raises(ConfigError, match="does not exist"):
        load_direction(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ConfigError, match="no readable safetensors file"):
        load_direction(tmp_path / "text.safetensors")
    found.save_probe(tmp_path / "probe.safetensors", layer=2, axis="nice", anchors=("a", "b"), max_length=256)
    with pytest.raises(ConfigError, match="no direction"):
        load_direction(tmp_path / "probe.safetensors")


def test_too_few_texts_or_spans_are_refused(subject: Subject) -> None:
    with pytest.raises(ConfigError, match="five or more are needed"):
        Parts.of(made_up(4))
    texts = made_up(10)
    none = TaggedSpans(spans=texts.spans, tags=[[["true"] for _ in tags] for tags in texts.tags])
    with pytest.raises(ConfigError, match="0 spans have the tag"):
        study(subject, none)


def test_a_probe_reads_spans_alone_and_its_anchors_are_found_so(subject: Subject) -> None:
    found = study(subject, made_up(60))
    spans = [" ".join(words[:3]) for words in WORDS.values()]
    alone = projected(subject, [*spans, ""], found.directions["texts"].vectors, 1)
    ids = [torch.tensor(subject.tokenizer.encode(span, add_special_tokens=False).ids) for span in spans]
    states = [subject.model.embedding(each).mean(0).detach().double().numpy() for each in ids]
    assert np.allclose(alone[:3], np.array(states) @ found.directions["texts"].vectors[0], atol=1e-4)
    assert np.isnan(alone[3])
    low, high = found.anchors
    best = found.report.best
    of_anchors = projected(subject, [low, high], found.directions["tags"].vectors, best)
    assert of_anchors[0] < of_anchors[1]
    assert 0 <= found.report.auroc_alone.low <= found.report.auroc_alone.high <= 1


def test_names_of_tags_are_no_paths(tmp_path: Path) -> None:
    assert file_name("../x", ".texts") == "___x.texts.safetensors"
    assert file_name("nice-texts", "") != file_name("nice", ".texts")
