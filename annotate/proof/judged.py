"""What a judge says of the texts that models wrote under tags, beside what it says of the corpus (metrics 5 and 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotate.errors import ConfigError
from annotate.proof.gaps import contrasted
from annotate.proof.generation import (
    DoseResponse,
    corpus_difference,
    dose_response,
    expected_maximum,
    judged_difference,
)
from annotate.proof.intervals import Float64, Int64, Interval
from annotate.proof.judges import Judge
from annotate.proof.texts import Writing
from annotate.proof.windows import NONE, Int32, Text

HIGHEST_OF = 25  # texts, as RealToxicityPrompts has it
GRADES = 3  # tags of a family that may be grades; of fewer, each order is a line


@dataclass(frozen=True, kw_only=True)
class JudgedTag:
    """What a judge says of the texts under one tag, less those under the others of its family, or under none.

    Attributes:
        name: of the tag.
        true: the difference of means, of the models with true tags.
        shuffled: of the control.
        difference: of both, in pairs of models and texts.
        corpus: of held-out spans, cut to the length of the texts.
        fidelity: `true` as a share of `corpus`; None where the judge does not tell the spans of the corpus apart. Texts
            are drawn from the likelier tokens alone (`texts.sample`), and the corpus is not: of an ideal model the
            share may be below or above 1, so it does not say how much was learned.
        highest: the expected score of the best of 25 texts; None if there are fewer texts.
        highest_shuffled: of the control.
    """

    name: str
    true: Interval
    shuffled: Interval
    difference: Interval
    corpus: Interval
    fidelity: float | None
    highest: float | None
    highest_shuffled: float | None


@dataclass(frozen=True, kw_only=True)
class JudgedFamily:
    """All tags of a family. `dose` and `dose_shuffled`: of three tags or more, taken as grades in their order."""

    tags: tuple[JudgedTag, ...]
    dose: DoseResponse | None
    dose_shuffled: DoseResponse | None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a judge says of all texts.

    Attributes:
        judge: what it is.
        texts: under each tag, of each model, that were judged.
        tokens: that were written of each text, at most.
        left_out: texts, and spans of the corpus, that could not be judged. With a text, those of its number are left
            out of all tags, arms and seeds.
        families: of tags.
    """

    judge: str
    texts: int
    tokens: int
    left_out: tuple[int, int]
    families: tuple[JudgedFamily, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Held-out spans that are judged beside texts.

    Attributes:
        tokens: int32 `[n, 1 + length]`, the first of each span; -1 fills the rest.
        states: int64 `[families, n]`, the tag of each.
        documents: int64 `[n]`.
    """

    tokens: Int32
    states: Int64
    documents: Int64

    @staticmethod
    def of(text: Text, spans: Int64, writing: Writing) -> HeldOut:
        """Cut whole spans of a text to the length of what is written.

        Args:
            text: held out.
            spans: their numbers; they are whole.
            writing: what is written.
        """
        inside = text.spans >= 0
        starts = np.full(len(text.of_spans), NONE, np.int64)
        at = np.flatnonzero(inside)[::-1]
        starts[text.spans[at]] = at  # the last that is written is the first token
        sizes = np.bincount(text.spans[inside], minlength=len(starts))
        place = np.arange(1 + writing.length)
        within = place < sizes[spans, None]
        tokens = text.tokens[np.where(within, starts[spans, None] + place, 0)]
        states = [text.of_spans.states(family)[spans] for family in writing.families]
        return HeldOut(
            tokens=np.where(within, tokens, np.int32(NONE)),
            states=np.stack(states),
            documents=text.of_spans.documents[spans],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """A judge's scores.

    Attributes:
        judge: what it is.
        names: the tags of each family.
        texts: by arm, of each family float64 `[models, none and tags, n, 1 + tags]`: under which tag a text was
            written, its number, and what the score is for, as `Judge.scores` says.
        spans: of the corpus, of each family float64 `[m, 1 + tags]`.
        states: int64 `[families, m]`, the tag of each span.
        documents: int64 `[m]`.
        tokens: that were written of each text, at most.
        left_out: as `Judged` has it.
    """

    judge: str
    names: tuple[tuple[str, ...], ...]
    texts: Mapping[str, tuple[Float64, ...]]
    spans: tuple[Float64, ...]
    states: Int64
    documents: Int64
    tokens: int
    left_out: tuple[int, int]


def score_texts(judge: Judge, texts: Mapping[str, Sequence[Int32]], corpus: HeldOut, writing: Writing) -> Scores:
    """Judge the texts of models and the spans of the corpus.

    Args:
        judge: which.
        texts: by arm, of each model: int32 `[tags and none, n, 1 + length]`, as `read_tokens` gives them.
        corpus: held-out spans.
        writing: how the texts were written.

    Raises:
        ConfigError: there is no number of a text, or no span, of which the judge could score all.
    """
    n = len(writing.firsts)
    stacked = {arm: np.stack(of_models) for arm, of_models in texts.items()}
    flat = [tokens.reshape(-1, tokens.shape[-1]) for tokens in stacked.values()]
    scores = judge.scores(np.concatenate([*flat, corpus.tokens]))
    known = np.asarray(np.isfinite(np.concatenate(scores, axis=1)).all(axis=1))
    of_texts, of_spans = known[: -len(corpus.tokens) or None], known[sum(map(len, flat)) :]
    whole = of_texts.reshape(-1, n).all(axis=0)
    if not whole.any() or not of_spans.any():
        what = "held-out span" if whole.any() else "number of which it can score the texts of all models and tags"
        raise ConfigError(
            f"the judge ({judge.name}) finds no {what}", hint="Give another judge, or --texts 0 and none."
        )
    ends = np.cumsum([len(part) for part in flat])
    by_arm: dict[str, tuple[Float64, ...]] = {}
    for arm, tokens, start, end in zip(stacked, stacked.values(), np.append(0, ends), ends, strict=False):
        found, before = [], 0
        for family, of_family in zip(writing.families, scores, strict=True):
            values = of_family[start:end].reshape(*tokens.shape[:2], n, -1)
            own = np.append(-1, np.arange(before, before + len(family.ids)))  # the texts without a tag are the last
            found.append(values[:, own][:, :, whole])
            before += len(family.ids)
        by_arm[arm] = tuple(found)
    return Scores(
        judge=judge.name,
        names=tuple(family.names for family in writing.families),
        texts=by_arm,
        spans=tuple(of_family[ends[-1] :][of_spans] for of_family in scores),
        states=corpus.states[:, of_spans],
        documents=corpus.documents[of_spans],
        tokens=writing.length,
        left_out=(int((~whole).sum()), int((~of_spans).sum())),
    )


def judged(scores: Scores) -> Judged:
    """What the scores say of the arms "true" and "shuffled", which have models of equal seeds in one place."""
    return Judged(
        judge=scores.judge,
        texts=scores.texts["true"][0].shape[2],
        tokens=scores.tokens,
        left_out=scores.left_out,
        families=tuple(
            _family(
                names,
                {arm: scores.texts[arm][k] for arm in ("true", "shuffled")},
                scores.spans[k],
                scores.states[k],
                scores.documents,
            )
            for k, names in enumerate(scores.names)
        ),
    )


def towards_corpus(scores: Scores, found: JudgedFamily, k: int, arm: str) -> Float64 | None:
    """The judged difference of each text of the first model of an arm, mean over the tags of a family: float64 `[n]`.

    Each tag counts in the direction of its difference in the corpus, if the judge tells it apart there, as it may not a
    tag in the middle of grades. None if it tells none apart.

    Args:
        scores: of texts and spans.
        found: what `judged` says of the family.
        k: the number of the family.
        arm: which.
    """
    values = scores.texts[arm][k][:1]
    signed = [
        np.sign(tag.corpus.value) * (_under(values, state) - _against(values, state))[0]
        for state, tag in enumerate(found.tags, start=1)
        if tag.fidelity is not None
    ]
    return np.asarray(np.mean(signed, axis=0)) if signed else None


def _family(
    names: Sequence[str], texts: Mapping[str, Float64], spans: Float64, states: Int64, documents: Int64
) -> JudgedFamily:
    """Of texts float64 `[seeds, none and tags, n, 1 + tags]` by arm, and spans float64 `[m, 1 + tags]`."""
    dose = {arm: _dose(values, spans, states) if len(names) >= GRADES else None for arm, values in texts.items()}
    return JudgedFamily(
        tags=tuple(_tag(name, k, texts, spans, states, documents) for k, name in enumerate(names, start=1)),
        dose=dose["true"],
        dose_shuffled=dose["shuffled"],
    )


def _tag(name: str, k: int, texts: Mapping[str, Float64], spans: Float64, states: Int64, documents: Int64) -> JudgedTag:
    under, against = ({arm: side(values, k) for arm, values in texts.items()} for side in (_under, _against))
    true, shuffled = (judged_difference(under[arm], against[arm]) for arm in ("true", "shuffled"))
    corpus = corpus_difference(spans[:, k], states, k, spans.shape[1], documents)
    told_apart = corpus.low > 0 or corpus.high < 0
    return JudgedTag(
        name=name,
        true=true,
        shuffled=shuffled,
        difference=judged_difference(under["true"] - against["true"], under["shuffled"] - against["shuffled"]),
        corpus=corpus,
        fidelity=true.value / corpus.value if told_apart else None,
        highest=_highest(under["true"]),
        highest_shuffled=_highest(under["shuffled"]),
    )


def _under(values: Float64, k: int) -> Float64:
    """The scores for a tag of the texts under it: float64 `[seeds, n]`."""
    return values[:, k, :, k]


def _against(values: Float64, k: int) -> Float64:
    """The scores for a tag of the texts under the others, their mean by number; of a tag without others, under none."""
    others = [state for state in contrasted(values.shape[1]) if state != k]
    return np.asarray(values[..., k][:, others].mean(axis=1))


def _highest(scores: Float64) -> float | None:
    """The mean over models."""
    if scores.shape[1] < HIGHEST_OF:
        return None
    return float(np.mean([expected_maximum(of_model, HIGHEST_OF) for of_model in scores]))


def _dose(values: Float64, spans: Float64, states: Int64) -> DoseResponse:
    """Along the grades: column 0 of the judge's scores."""
    graded = values[:, 1:, :, 0]
    grades = np.broadcast_to(np.arange(1, graded.shape[1] + 1)[:, None], graded.shape)
    tagged = states > 0
    return dose_response(grades.ravel(), graded.ravel(), states[tagged], spans[tagged, 0])
