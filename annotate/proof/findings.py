"""All that the models of a proof say, together."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from annotate.errors import ConfigError
from annotate.proof.arms import IN_PART, NO_TAGS, SHUFFLED, TRUE, shuffled
from annotate.proof.axes import Specificity, specificity
from annotate.proof.gaps import contrasted, likelihood_ratios, swap_gaps
from annotate.proof.intervals import Bool, Float64, Int64, Interval, mean_interval
from annotate.proof.judged import HeldOut, Judged, Scores, judged, score_texts, towards_corpus
from annotate.proof.judges import BagOfWords, Judge
from annotate.proof.likelihoods import Columns
from annotate.proof.material import Material
from annotate.proof.measures import Cost, Measured, OfFamily, measure_cost, measure_family
from annotate.proof.pairs import OfPair, Recombination, measure_pairs, measure_recombination
from annotate.proof.persistence import FIRST, THEN, OfPersistence, Persistence, gap_left, judged_left
from annotate.proof.runs import Run, Work, diverged
from annotate.proof.unigram import Unigram
from annotate.proof.verdicts import Gate, Verdict, gates, remarks, verdict, written_remarks
from annotate.proof.windows import Spans, Text

COMPLETE = 0.5
"""Where more of the spans of tagged documents have a tag of a family, a span without one has lost it by chance."""
ALL = 0.999
"""Where even more have one, models have not seen such spans."""


@dataclass(frozen=True, kw_only=True)
class OfArm:
    """An arm with tags in a part of training: its swap gap at the last checkpoint, nats a span, by family."""

    arm: str
    gaps: tuple[Interval, ...]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a proof found.

    Attributes:
        about: sizes, settings and hardware, by name.
        remarks: what was cut, left out, trusted, or looks wrong.
        families: the measures of each family of tags.
        steps: of the checkpoints.
        curves: by arm, the held-out loss at each checkpoint, nats a token, mean over seeds: under true tags, and
            without tags for models that never saw any.
        specificity: what each tag tells of each, if there are several families; tags in the order of the families.
        pairs: how the effects of two tags of two families compose, for each pair that a measured span has.
        recombination: what became of the pair that an arm never saw together, if there is such an arm.
        cost: to untagged text.
        in_part: the arms with tags in a part of training.
        judged: what a judge says of texts that were written under tags; None if none were written, or
            none could be judged, which `remarks` says.
        persistence: what is left of the tags after more training without; None if there was none.
        verdicts: on each tag.
        gates: what was to be shown, and whether it was.
    """

    about: Mapping[str, Any]
    remarks: tuple[str, ...]
    families: tuple[OfFamily, ...]
    steps: tuple[int, ...]
    curves: Mapping[str, Sequence[float]]
    specificity: Specificity | None
    pairs: tuple[OfPair, ...]
    recombination: Recombination | None
    cost: Cost
    in_part: tuple[OfArm, ...]
    judged: Judged | None
    persistence: Persistence | None
    verdicts: tuple[Verdict, ...]
    gates: tuple[Gate, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready; what could not be measured is null."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def findings(
    work: Work, runs: Sequence[Run], *, seconds: float, judge: Judge | None = None, later: Work | None = None
) -> Proof:
    """Measure runs that are done.

    Args:
        work: what they share.
        runs: those with true and shuffled tags have equal seeds; one at least has no tags.
        seconds: that were spent on them in this process, to be told.
        judge: of the texts that were written. None: a bag of words.
        later: the training that went on without tags, which is done; None if there was none.

    Raises:
        ConfigError: a model's likelihoods are no numbers: its training diverged.
    """
    material, columns = work.material, Columns(families=work.material.families)
    found = {run: work.read(run) for run in runs}
    kept = _measured_spans(material.measured)
    _check_finite({run.name: values[:, kept] for run, values in found.items()}, work.recipe.measured)
    by_arm = {
        arm: np.stack([found[run][:, kept] for run in runs if run.arm.name == arm], axis=1)
        for arm in dict.fromkeys(run.arm.name for run in runs)
    }
    spans = material.measured.of_spans
    documents, tokens = spans.documents[kept], _tokens_of_spans(material.measured)[kept]
    families = tuple(
        _family(k, material, by_arm, np.array(work.recipe.measured), kept) for k in range(len(material.families))
    )
    plain = {name: values[-1, :, :, columns.plain] for name, values in by_arm.items()}
    scores, unjudged = None, []
    if work.texts:
        try:
            scores = _scores(work, runs, judge or BagOfWords.of(material), kept, later)
        except ConfigError as error:  # what was measured without a judge is reported all the same
            unjudged.append(
                f"no texts were judged: {error.message}. With another judge the same command trains nothing again"
            )
    written = None if scores is None else judged(scores)
    return Proof(
        about=_about(work, runs, spans=len(kept), documents=len(np.unique(documents)), seconds=seconds),
        remarks=(
            *material.remarks,
            *(said for family in families for said in remarks(family)),
            *unjudged,
            *(written_remarks(written) if written is not None else ()),
        ),
        families=families,
        steps=work.recipe.measured,
        curves={name: _curve(name, values, columns, material, kept) for name, values in by_arm.items()},
        specificity=_specificity(material, by_arm[TRUE.name][-1], kept),
        pairs=_pairs(work, runs, kept),
        recombination=_recombination(runs, material, by_arm, columns, kept),
        cost=measure_cost(plain[TRUE.name], plain[NO_TAGS.name], documents, tokens),
        in_part=tuple(
            _in_part(arm.name, by_arm[arm.name], columns, spans, kept) for arm in IN_PART if arm.name in by_arm
        ),
        judged=written,
        persistence=None if later is None else _persistence(work, later, kept, scores, written),
        verdicts=tuple(verdict(tag, family) for family in families for tag in family.of_tags),
        gates=tuple(gate for family in families for gate in gates(family)),
    )


def _family(k: int, material: Material, by_arm: Mapping[str, Float64], steps: Int64, kept: Int64) -> OfFamily:
    spans, family = material.measured.of_spans, material.families[k]
    others = Spans(documents=spans.documents, numbers=spans.numbers, tags=shuffled(spans, seed=0))
    where = Columns(families=material.families).of(k)
    return measure_family(
        family,
        Measured(
            documents=spans.documents[kept],
            tokens=_tokens_of_spans(material.measured)[kept],
            states=spans.states(family)[kept],
            random=others.states(family)[kept],
        ),
        steps,
        {name: by_arm[name][..., where] for name in (TRUE.name, SHUFFLED.name)},
        _bag_of_words(material, k)[kept],
        left_out=_left_out(material, k),
    )


def _scores(work: Work, runs: Sequence[Run], judge: Judge, kept: Int64, later: Work | None) -> Scores:
    """What a judge says of the texts of all writers."""
    texts = {arm.name: [work.read_texts(run) for run in runs if run.arm.name == arm.name] for arm in (TRUE, SHUFFLED)}
    if later is not None:
        texts[THEN.arm.name] = [later.read_texts(THEN)]
    writing = work.writing()
    return score_texts(judge, texts, HeldOut.of(work.material.measured, kept, writing), writing)


def _persistence(work: Work, later: Work, kept: Int64, scores: Scores | None, written: Judged | None) -> Persistence:
    material, columns = work.material, Columns(families=work.material.families)
    before, after = work.read(FIRST)[-1:, kept], later.read(THEN)[-1:, kept]
    _check_finite({THEN.name: after}, later.recipe.measured)
    found = []
    for k, family in enumerate(material.families):
        where, spans = columns.of(k), material.measured.of_spans
        gap = gap_left(before[0][:, where], after[0][:, where], spans.states(family)[kept], spans.documents[kept])
        texts = None
        if scores is not None and written is not None:
            own, then = (towards_corpus(scores, written.families[k], k, run.arm.name) for run in (FIRST, THEN))
            texts = None if own is None or then is None else judged_left(own, then)
        found.append(OfPersistence(tags=family.names, gap=gap, judged=texts))
    return Persistence(steps=later.recipe.steps, learning_rate=later.recipe.learning_rate, families=tuple(found))


def _specificity(material: Material, values: Float64, kept: Int64) -> Specificity | None:
    """Of all tags, on the spans that count in each family: values float64 `[seeds, n, columns]`."""
    families, columns = material.families, Columns(families=material.families)
    if len(families) < 2:
        return None
    states = [material.measured.of_spans.states(family)[kept] for family in families]
    tags = [(k, state) for k, family in enumerate(families) for state in range(1, len(family.ids) + 1)]
    counted = np.all(
        [np.isin(of, contrasted(len(one.ids) + 1)) for of, one in zip(states, families, strict=True)], axis=0
    )
    mean = values.mean(axis=0)[counted]
    ratios = np.stack([likelihood_ratios(mean[:, columns.of(k)], state) for k, state in tags], axis=1)
    return specificity(ratios, np.stack([states[k][counted] == state for k, state in tags], axis=1))


def _pairs(work: Work, runs: Sequence[Run], kept: Int64) -> tuple[OfPair, ...]:
    joined = [run for run in runs if work.joined(run)]
    effects = {
        arm: np.stack([work.read_joint(run)[kept] for run in joined if run.arm.name == arm])
        for arm in dict.fromkeys(run.arm.name for run in joined)
    }
    return measure_pairs(work.material.families, work.material.measured.of_spans, kept, effects)


def _recombination(
    runs: Sequence[Run], material: Material, by_arm: Mapping[str, Float64], columns: Columns, kept: Int64
) -> Recombination | None:
    for arm in dict.fromkeys(run.arm for run in runs):
        if arm.apart is not None:
            last = {name: values[-1] for name, values in by_arm.items()}
            trained, measured = material.text.of_spans, material.measured.of_spans
            return measure_recombination(arm.apart, arm.name, trained, measured, kept, last, columns)
    return None


def _in_part(name: str, values: Float64, columns: Columns, spans: Spans, kept: Int64) -> OfArm:
    gaps = []
    for k, family in enumerate(columns.families):
        states = spans.states(family)[kept]
        of_seeds = np.stack([swap_gaps(each, states) for each in values[-1][..., columns.of(k)]])
        gaps.append(mean_interval(of_seeds, spans.documents[kept]))
    return OfArm(arm=name, gaps=tuple(gaps))


def _counted(text: Text) -> Bool:
    """The tokens that are measured: those of spans, but for the first of a segment, which nothing predicts."""
    counted = text.spans >= 0
    counted[text.segments[:-1]] = False
    return counted


def _tokens_of_spans(text: Text) -> Int64:
    return np.bincount(text.spans[_counted(text)], minlength=len(text.of_spans))


def _measured_spans(text: Text) -> Int64:
    """The spans that have log-likelihoods: those that are whole and have a token that counts."""
    whole = text.whole_spans()
    return whole[_tokens_of_spans(text)[whole] > 0]


def _check_finite(likelihoods: Mapping[str, Float64], steps: Sequence[int]) -> None:
    """Check log-likelihoods by run: float64 `[checkpoints, n, columns]`."""
    for name, values in likelihoods.items():
        if broken := [step for step, of_step in zip(steps, values, strict=True) if not np.isfinite(of_step).all()]:
            raise diverged(f"the log-likelihoods of {name}", broken[0])


def _bag_of_words(material: Material, k: int) -> Float64:
    """Log-likelihoods of measured spans by the unigram model of the training text: float64 `[n_spans, states]`."""
    measured = material.measured
    model = Unigram.of_text(material.text, material.families[k], material.vocabulary)
    counted = _counted(measured)
    return model.likelihoods(measured.tokens[counted].astype(np.int64), measured.spans[counted], len(measured.of_spans))


def _left_out(material: Material, k: int) -> bool:
    """Whether models know spans that lost their tag of a family by chance. Else the gain over none means nothing."""
    family, spans = material.families[k], material.text.of_spans
    if len(family.ids) < 2:
        return False
    tagged = spans.states(family) > 0
    inside = np.isin(spans.documents, spans.documents[tagged])
    return bool(COMPLETE < tagged[inside].mean() < ALL) if inside.any() else False


def _curve(name: str, values: Float64, columns: Columns, material: Material, kept: Int64) -> list[float]:
    spans, tokens = material.measured.of_spans, _tokens_of_spans(material.measured)[kept].sum()
    column = np.full(len(kept), columns.plain)
    if name != NO_TAGS.name:
        column = columns.of(0).start + spans.states(material.families[0])[kept]
    own = values[:, :, np.arange(len(kept)), column]
    return [float(each) for each in -own.mean(axis=1).sum(axis=1) / tokens]


def _about(work: Work, runs: Sequence[Run], *, spans: int, documents: int, seconds: float) -> dict[str, Any]:
    text, recipe = work.material.text, work.recipe
    return {
        "parameters": sum(weight.numel() for weight in work.model(0).parameters()),
        "vocabulary": work.material.vocabulary,
        "windows of the shards": text.n_windows,
        "tokens of text in them": len(text.tokens),
        "epochs": recipe.steps * recipe.batch / text.n_windows,
        **asdict(recipe),
        "loss policy": work.material.loss,
        "models": [run.name for run in runs],
        "measured spans": spans,
        "measured documents": documents,
        "device": work.device,
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "seconds of this call": round(seconds),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return _without_nan(value.tolist())
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
