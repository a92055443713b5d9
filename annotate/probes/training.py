"""Training of probes: from labelled spans to a file that a pipeline names, and a report of how good it is.

The labelled spans are cut in three by a hash of their text (or, for the test part, by a column): the *fitting* part
trains heads, the *validation* part fits the probability curve, the *test* part is only measured. What chooses the
penalty, `ReadSpans.choose` says. A linear head is then fitted again on all but the test part; a tail is not,
since that takes long. Reruns on one machine give equal bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from annotate.curves import fit_curve
from annotate.errors import ConfigError
from annotate.models.axes import check_axes
from annotate.models.base import expand
from annotate.probes.encoder import Encoder, probe_features, word_features
from annotate.probes.encoder_forward import EncoderForward
from annotate.probes.feature_choice import check_depth, default_features
from annotate.probes.file import EncoderHashes, Feature, Head, ProbeCard, save_probe
from annotate.probes.fitting import ReadSpans
from annotate.probes.labels import LabelledSpans, read_labels
from annotate.probes.linear_head import LinearHead
from annotate.probes.metrics import spearman
from annotate.probes.report import (
    Estimate,
    ProbeReport,
    SourceReport,
    characters,
    measure_calibration,
    measure_lengths,
    measure_source,
    most_wrong,
)
from annotate.probes.tail import train_tail
from annotate.probes.word_list import WordList, feature_names, hash_words, read_words
from annotate.storage.store import Directory

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

ANCHOR_LENGTH = 200
"""Characters of a training span that is picked as an anchor, at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Setting:
    """All that a fit depends on beside the rows it is given."""

    axis: str
    encoder: Encoder
    read: ReadSpans
    trunk_features: tuple[Feature, ...]
    words: WordList | None
    tail_layers: int
    seed: int
    device: str


def train_probe(
    data: str | Path | pa.Table,
    axis: str,
    *,
    out: str | Path,
    encoder: Encoder | None = None,
    text: str = "text",
    label: str = "label",
    source: str | None = None,
    split: str | None = None,
    weights: Mapping[str, float] | None = None,
    features: Sequence[Feature] | None = None,
    words: str | Path | Sequence[str | Path] = (),
    tail_layers: int = 0,
    anchors: tuple[str, str] | None = None,
    meaning: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> ProbeReport:
    """Train a probe on labelled spans and write its file.

        train_probe("labelled.parquet", "kindness", out="kindness.safetensors").sources[0].result

    Args:
        data: a Parquet file or an Arrow table with one labelled span a row.
        axis: name of what is measured.
        out: the probe's file, `.safetensors`, which may be at a URL; an existing one is replaced.
        encoder: what the probe reads; None: the embedded default.
        text: name of the column of texts.
        label: name of the column of labels: 0 and 1 (AUROC is reported), or any ratings (Spearman); higher is more.
        source: name of the column that says where a span is from. Sources may have labels of different kinds and
            scales; one direction is fitted to all of them.
        split: name of the column that says "train" or "test"; None: a fifth of the texts, by hash, is the test part.
        weights: by source, how many spans one of its spans counts as: 1 where it is not named; with 0 it is not trained
            on, only measured: all its spans, or with `split` those that it calls "test".
        features: hidden states that the head reads; None: means at half and at two thirds of the encoder's depth.
        words: CSV files of words to look for, as `read_words` reads them: the head reads their shares and severities
            beside the hidden states. They stay in the probe's file as hashes.
        tail_layers: number of layers for a tail that starts at the highest of the features; slow, see `train_tail`.
        anchors: a text that must score low, and one that must score high; None: clear cases among the training spans.
        meaning: what a high score means, in a sentence.
        seed: of the parts, the bootstrap and the tail.
        device: where to run the encoder.

    Returns:
        What was measured on the test part. With several sources, that of each is measured again by a probe that was
        trained on the others alone, with the penalty that all of them chose.

    Raises:
        InputError: the data can't be read.
        ConfigError: the labelled spans, the encoder or the settings won't do; the anchors score the wrong way round.
    """
    encoder = encoder or Encoder()
    check_axes((axis,), {axis: anchors} if anchors else {})
    folder, name = _check_out(out)
    spans = read_labels(data, text=text, label=label, source=source, split=split, seed=seed, weights=weights)
    trunk_features = tuple(features) if features is not None else default_features(encoder)
    check_depth(encoder, trunk_features)
    listed, left_out = _read_lists(encoder, [words] if isinstance(words, str | Path) else words)
    setting = _Setting(
        axis=axis,
        encoder=encoder,
        read=_read(encoder, spans, trunk_features, listed, device),
        trunk_features=trunk_features,
        words=listed,
        tail_layers=tail_layers,
        seed=seed,
        device=device,
    )
    chosen = setting.read.choose()
    head, validation, test = _fit_final(setting, chosen)
    yes, rows = spans.targets > 0.5, spans.validation
    curve = fit_curve(validation, yes[rows], _source_weights(spans.sources[rows]))
    sources = _measure(setting, chosen.penalty, test)
    card = dataclasses.replace(
        head.card,
        anchors=anchors or _pick_anchors(setting, chosen),
        meaning=meaning or f"more {axis}",
        calibration=curve,
        sources=[_as_json(report) for report in sources],
    )
    head = dataclasses.replace(head, card=card)
    _check_polarity(setting, head)
    save_probe(out, card, head.weight, head.bias, tail=head.tail, words=listed)
    rows, lengths = spans.test, characters(spans).astype(np.float64)
    known = rows & (spans.weights > 0)
    return ProbeReport(
        axis=axis,
        path=str(out),
        size=folder.size(name) or 0,
        features=card.features,
        penalty=chosen.penalty,
        sources=sources,
        calibration=measure_calibration(
            curve, test[known], yes[known], _source_weights(spans.sources[known]), len(validation)
        ),
        lengths=measure_lengths(spans, test, seed=seed),
        scores_with_length=spearman(test[rows], lengths[rows]),
        labels_with_length=spearman(spans.targets[rows], lengths[rows]),
        wrong=most_wrong(spans, test, curve),
        repeats=spans.repeats,
        unused=int(spans.unused.sum()),
        understood=spans.understood,
        contradictions=spans.contradictions,
        words=_word_weights(setting, head),
        words_left_out=left_out,
    )


def _check_out(out: str | Path) -> tuple[Directory, str]:
    """The folder and the name of the probe's file. Finds out before the work that it can't be written."""
    folder, name = Directory.of_file(out)
    if not name.endswith(".safetensors"):
        raise ConfigError(f"a probe's file must end in .safetensors, got {str(out)!r}")
    if folder.local is not None and not folder.local.is_dir():
        raise ConfigError(f"the directory {folder.url!r} for the probe does not exist")
    return folder, name


def _read_lists(encoder: Encoder, paths: Sequence[str | Path]) -> tuple[WordList | None, int]:
    """One list of the words of all files, and how many words were left out."""
    if not paths:
        return None, 0
    return hash_words(pl.concat([read_words(path) for path in paths]), encoder.reading().tokenizer)


def _word_weights(setting: _Setting, head: Head) -> dict[str, float]:
    """By feature of words, what one standard deviation more of it adds to the score."""
    if setting.words is None:
        return {}
    names = feature_names(setting.words.groups)
    spread = setting.read.features[setting.read.spans.train, -len(names) :].std(axis=0)
    return dict(zip(names, (head.weight[-len(names) :] * spread).tolist(), strict=True))


def _read(
    encoder: Encoder, spans: LabelledSpans, features: tuple[Feature, ...], words: WordList | None, device: str
) -> ReadSpans:
    if any(feature.tail for feature in features):
        raise ConfigError("features of the tail come with tail_layers, got one among the trunk's features")
    listed = (
        np.empty((len(spans.texts), 0), np.float32) if words is None else word_features(encoder, spans.texts, words)
    )
    pooled = probe_features(encoder, spans.texts, features, device=device)
    failed = np.flatnonzero(~np.isfinite(pooled).all(axis=1))
    if len(failed):
        raise ConfigError(
            f"the encoder {encoder.model!r} gave no finite features for {spans.texts[int(failed[0])][:80]!r}"
        )
    values = np.concatenate([pooled, listed], axis=1)
    return ReadSpans(spans=spans, features=values, blocks=len(features), words=listed.shape[1])


def _fit_final(setting: _Setting, chosen: LinearHead) -> tuple[Head, FloatVector, FloatVector]:
    """Fit the head that is written.

    Returns:
        The head; float64 scores of the validation part, by a head that has not seen it; float64 scores of all spans,
        NaN where they are not of the test part.
    """
    spans = setting.read.spans
    test = np.full(len(spans.texts), np.nan)
    if setting.tail_layers:
        head = _fit_tail(setting, chosen, spans.fitting)
        validation = _score(setting, head, _texts(spans, spans.validation))
        test[spans.test] = _score(setting, head, _texts(spans, spans.test))
        return head, validation, test
    linear = setting.read.fit(spans.train, [chosen.penalty])[0]
    test[spans.test] = linear.scores(setting.read.features[spans.test])
    weight, bias = linear.folded()
    head = Head(card=_card(setting, ()), weight=weight.astype(np.float32), bias=bias, words=setting.words)
    return head, chosen.scores(setting.read.features[spans.validation]), test


def _fit_tail(setting: _Setting, linear: LinearHead, rows: BoolVector) -> Head:
    spans = setting.read.spans
    tail = train_tail(
        setting.encoder,
        _texts(spans, rows),
        spans.targets[rows],
        spans.sources[rows],
        spans.weights[rows],
        setting.read.features[rows],
        linear,
        start=max(feature.layer for feature in setting.trunk_features),
        layers=setting.tail_layers,
        seed=setting.seed,
        device=setting.device,
    )
    weight, bias = tail.linear.folded()
    pooled, words = np.split(weight, [len(weight) - setting.read.words])
    return Head(
        card=_card(setting, tail.features),
        weight=np.concatenate([pooled, tail.weight, words]).astype(np.float32),
        bias=bias,
        tail=tail.layers,
        words=setting.words,
    )


def _card(setting: _Setting, tail: tuple[Feature, ...]) -> ProbeCard:
    """A card that lacks what only a fitted head can say."""
    encoder = setting.encoder
    return ProbeCard(
        axis=setting.axis,
        encoder=EncoderHashes(name=encoder.name, **encoder.files().hashes()),
        features=setting.trunk_features + tail,
        max_length=encoder.window(),
        prefix=encoder.prefix,
        anchors=("low", "high"),
        meaning="",
    )


def _score(setting: _Setting, head: Head, texts: Sequence[str]) -> FloatVector:
    """Score texts in the way that a pipeline does."""
    prepared = setting.encoder.prepare(pa.table({"text": pa.array(texts, pa.string())}))
    forward = EncoderForward(setting.encoder, [head], setting.device)
    values, failures = expand(prepared, forward(prepared, [0])[0])
    if failures:
        raise ConfigError(f"a span can't be scored: {next(iter(failures.values()))}")
    return values[:, 0].astype(np.float64)


def _measure(setting: _Setting, penalty: float, test: FloatVector) -> tuple[SourceReport, ...]:
    spans, reports = setting.read.spans, []
    for i, name in enumerate(spans.names):
        own = spans.sources == i
        reports.append(
            SourceReport(
                name=name,
                measure="spearman" if spans.rated[i] else "auroc",
                train=int((spans.train & own).sum()),
                test=int((spans.test & own).sum()),
                result=measure_source(spans, test, i, seed=setting.seed),
                held_out=_measure_without(setting, penalty, i),
            )
        )
    return tuple(reports)


def _measure_without(setting: _Setting, penalty: float, source: int) -> Estimate | None:
    """Train on the other sources alone, with the same penalty, and measure this one.

    To choose the penalty anew without the source would take about as long as the first choice, for each.
    """
    spans = setting.read.spans
    own = spans.sources == source
    rows = (spans.fitting if setting.tail_layers else spans.train) & ~own
    test = spans.test & own
    if len(spans.names) < 2 or not test.any() or not 0 < (spans.targets[rows] > 0.5).sum() < rows.sum():
        return None
    linear = setting.read.fit(rows, [penalty])[0]
    scores = np.full(len(spans.texts), np.nan)
    if setting.tail_layers:
        scores[test] = _score(setting, _fit_tail(setting, linear, rows), _texts(spans, test))
    else:
        scores[test] = linear.scores(setting.read.features[test])
    return measure_source(spans, scores, source, seed=setting.seed)


def _source_weights(sources: npt.NDArray[np.int64]) -> FloatVector:
    """What each span counts, so that each source counts the same: positive, with mean 1."""
    counts = np.bincount(sources)
    return len(sources) / (np.count_nonzero(counts) * counts[sources])


def _pick_anchors(setting: _Setting, linear: LinearHead) -> tuple[str, str]:
    """The short training spans that are lowest and highest, among those whose labels say so too."""
    spans = setting.read.spans
    short = np.fromiter((len(text) <= ANCHOR_LENGTH for text in spans.texts), np.bool_, len(spans.texts))
    scores = linear.scores(setting.read.features)
    picks = []
    for sign, wanted in ((1, spans.targets < 0.5), (-1, spans.targets > 0.5)):
        rows = np.flatnonzero(spans.train & wanted & short)
        if not len(rows):
            raise ConfigError(
                f"no training span of {ANCHOR_LENGTH} characters or less could be an anchor", hint="give anchors"
            )
        picks.append(spans.texts[rows[int(np.argmin(sign * scores[rows]))]])
    return picks[0], picks[1]


def _check_polarity(setting: _Setting, head: Head) -> None:
    low, high = head.card.anchors
    low_score, high_score = _score(setting, head, [low, high])
    if low_score >= high_score:
        raise ConfigError(
            f"the probe of {setting.axis!r} scores its anchors the wrong way round: {low!r} must score low and got "
            f"{low_score:.4g}, {high!r} must score high and got {high_score:.4g}",
            hint="higher labels must mean more of the axis; if they do, choose clearer anchors or add labelled spans",
        )


def _texts(spans: LabelledSpans, rows: BoolVector) -> list[str]:
    return [spans.texts[i] for i in np.flatnonzero(rows)]


def _as_json(report: SourceReport) -> dict[str, Any]:
    """A source's report for the card, rounded to four places."""
    data = dataclasses.asdict(report)
    for name in ("result", "held_out"):
        if data[name] is not None:
            data[name] = {key: round(value, 4) for key, value in data[name].items()}
    return data
