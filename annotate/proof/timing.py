"""How long the runs of a proof will take here: some steps, some rows and some texts are timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from annotate.proof.arms import TRUE
from annotate.proof.judged import HeldOut
from annotate.proof.judges import ByScorer
from annotate.proof.likelihoods import Columns, likelihoods
from annotate.proof.runs import Run, Work
from annotate.proof.texts import write_texts
from annotate.proof.training import as_in_a_process, train_step

TIMED_STEPS = 4
TIMED_TEXTS = 64


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a step, a checkpoint and the texts of a model take here, in seconds, in a process that has the machine."""

    step: float
    checkpoint: float
    texts: float

    def whole(self, work: Work, runs: Sequence[Run], jobs: int) -> float:
        """Seconds that the runs will take: the longest queue of runs, if each process is as fast as one alone."""
        queues = [0.0] * jobs
        for run in runs:
            queues[queues.index(min(queues))] += self._of(work, run)
        return max(queues)

    def _of(self, work: Work, run: Run) -> float:
        if work.done(run):
            return 0.0
        steps = 0 if work.trained(run) else work.recipe.steps
        left = sum(not work.result(run, step).exists() for step in work.recipe.measured)
        left += work.joined(run) and not work.joint_result(run).exists()  # takes about as long as a checkpoint
        written = not work.writes(run) or work.texts_file(run).exists()
        return steps * self.step + left * self.checkpoint + (0 if written else self.texts)


def timed(work: Work) -> Timing:
    """Time some steps of the arm with true tags, the measuring of a checkpoint on every eighth row, and some texts."""
    with as_in_a_process(work.device):
        return _timed(work)


def _timed(work: Work) -> Timing:
    run = Run(arm=TRUE, seed=0)
    model, rendering = work.model(0), work.rendering(run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    train_step(model, optimizer, rendering, work.recipe, 0, seed=0)
    started = time.monotonic()
    for step in range(TIMED_STEPS):
        train_step(model, optimizer, rendering, work.recipe, step, seed=0)
    step_seconds = (time.monotonic() - started) / TIMED_STEPS
    rows = work.rows()
    some = rows[::8]
    columns = Columns(families=work.material.families)
    started = time.monotonic()
    likelihoods(model, some, len(work.material.measured.of_spans), columns)
    checkpoint_seconds = (time.monotonic() - started) * len(rows) / max(1, len(some))
    return Timing(step=step_seconds, checkpoint=checkpoint_seconds, texts=_texts_seconds(work))


def judging(judge: ByScorer, work: Work, runs: Sequence[Run]) -> tuple[int, float]:
    """How many texts and held-out spans a judge will score, and how many seconds it takes, by some held-out spans.

    Args:
        judge: which.
        work: what the runs share.
        runs: whose last models write texts, if they are writers.

    Raises:
        ConfigError: the judge's anchors are the wrong way round, or it can score none of these spans.
    """
    material, writing = work.material, work.writing()
    spans = material.measured.whole_spans()
    written = sum(work.writes(run) for run in runs) * sum(1 for _ in writing.tags()) * work.texts
    some = HeldOut.of(material.measured, spans[:TIMED_TEXTS], writing).tokens
    n = written + len(spans)
    return n, judge.seconds(some, n)


def _texts_seconds(work: Work) -> float:
    """What the texts of a model take, by some of them."""
    if not work.texts:
        return 0.0
    model = work.model(0)  # the one that was timed may have been thrown far off
    few = min(work.texts, TIMED_TEXTS)
    started = time.monotonic()
    write_texts(model, replace(work, texts=few).writing(), seed=0)
    return (time.monotonic() - started) * work.texts / few
