"""The training runs of a proof: an arm and a seed each, in folders of their own, in as many processes as asked for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights

from annotate.proof.arms import IN_PART, NO_TAGS, TRUE, Arm, Rendering
from annotate.proof.companions import write_companions
from annotate.proof.intervals import Float64
from annotate.proof.joint_effects import joint_effects, rows_of_pairs
from annotate.proof.likelihoods import Columns, Row, likelihoods, rows_of
from annotate.proof.material import Material
from annotate.proof.training import Progress, Recipe, new_model, train, train_step, write_whole

TOLD_EVERY = 10.0  # seconds
WEIGHTS = "model.safetensors"
LOOKED_EVERY = 1.0  # seconds
TIMED_STEPS = 4
MEASURING = 2  # raise it if the code measures otherwise: then checkpoints are measured again, and not trained again

JOINING = 1  # the same for what tags do together


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model: an arm, and the seed of its first weights, of the order of windows and of what the arm draws."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        """Of its folder: letters, digits and hyphens."""
        words = self.arm.name.replace("%", "percent").split()
        return "-".join([*words, str(self.seed)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """All that runs share.

    Attributes:
        material: the text.
        recipe: of the training.
        folder: where runs have their folders.
        device: "cpu" or "cuda".
        arms: all arms of the proof, which decide how many positions a model has.
    """

    material: Material
    recipe: Recipe
    folder: Path
    device: str
    arms: tuple[Arm, ...]

    def rendering(self, run: Run) -> Rendering:
        """The windows of a run."""
        return Rendering.of(self.material.text, run.arm, loss=self.material.loss, seed=run.seed)

    def model(self, seed: int) -> Any:
        """The model that runs of a seed start from: the same in all arms."""
        widest = max(self.rendering(Run(arm=arm, seed=seed)).width for arm in self.arms)
        measured = Rendering.of(self.material.measured, TRUE, loss=self.material.loss, seed=0)
        positions = max(widest, measured.width) + len(self.material.families)
        return new_model(self.recipe, self.material.vocabulary, positions, seed=seed).to(self.device)

    def rows(self) -> list[Row]:
        """What is measured at each checkpoint, of all arms alike: held-out text with its true tags."""
        tagged, plain = (
            Rendering.of(self.material.measured, arm, loss=self.material.loss, seed=0) for arm in (TRUE, NO_TAGS)
        )
        return rows_of(tagged, plain, Columns(families=self.material.families))

    def result(self, run: Run, step: int) -> Path:
        """The file with the log-likelihoods of a checkpoint, as this version of the code measures them."""
        return self.folder / run.name / f"likelihoods-v{MEASURING}-{step:07}.safetensors"

    def model_folder(self, run: Run, step: int) -> Path:
        """The folder with the model of a checkpoint."""
        return self.folder / run.name / f"model-{step:07}"

    def trained(self, run: Run) -> bool:
        """Whether the model of its last checkpoint is there."""
        return (self.model_folder(run, self.recipe.steps) / WEIGHTS).exists()

    def joint_result(self, run: Run) -> Path:
        """The file with what tags of two families do together, at the last checkpoint."""
        return self.folder / run.name / f"joint-effects-v{JOINING}-{self.recipe.steps:07}.safetensors"

    def joined(self, run: Run) -> bool:
        """Whether a run is asked what tags of two families do together: it has seen such tags all along."""
        return len(self.material.families) > 1 and run.arm not in (NO_TAGS, *IN_PART)

    def done(self, run: Run) -> bool:
        """Whether all of its checkpoints were measured."""
        if self.joined(run) and not self.joint_result(run).exists():
            return False
        return all(self.result(run, step).exists() for step in self.recipe.measured)

    def read(self, run: Run) -> Float64:
        """The log-likelihoods of all checkpoints: float64 `[checkpoints, n_spans, columns]`."""
        return np.stack([load_file(self.result(run, step))["likelihoods"] for step in self.recipe.measured])

    def read_joint(self, run: Run) -> Float64:
        """What `joint_effects` gave: float64 `[n_spans, pairs of families, 2, 3]`."""
        found: Float64 = load_file(self.joint_result(run))["effects"]
        return found


def do(work: Work, run: Run, tell: Callable[[Run, Progress], None]) -> None:
    """Train and measure one run, from where it was left. Checkpoints that were measured by other code are again."""
    if work.done(run):
        return
    rows, columns = work.rows(), Columns(families=work.material.families)
    folder = work.folder / run.name
    for unfinished in folder.glob("**/.*.safetensors.*"):
        unfinished.unlink()  # of a process that was killed: this one has the folder to itself

    def measure(step: int, model: Any) -> None:
        found = likelihoods(model, rows, len(work.material.measured.of_spans), columns)
        write_whole(work.result(run, step), {"likelihoods": torch.from_numpy(found)}, {"step": str(step)})

    def checkpoint(step: int, model: Any) -> None:
        save_model(model, work.model_folder(run, step), work.material.companions)
        measure(step, model)

    for step in work.recipe.measured:
        if (work.model_folder(run, step) / WEIGHTS).exists() and not work.result(run, step).exists():
            measure(step, _saved_model(work, run, step))
    train(
        work.model(run.seed),
        work.rendering(run),
        work.recipe,
        folder,
        seed=run.seed,
        checkpoint=checkpoint,
        tell=lambda progress: tell(run, progress),
    )
    if work.joined(run) and not work.joint_result(run).exists():
        _join(work, run)


def _join(work: Work, run: Run) -> None:
    """Measure what tags of two families do together, in the model of the last checkpoint."""
    text, families = work.material.measured, work.material.families
    rows = rows_of_pairs(Rendering.of(text, TRUE, loss=work.material.loss, seed=0), families)
    found = joint_effects(_saved_model(work, run, work.recipe.steps), rows, text, families)
    write_whole(work.joint_result(run), {"effects": torch.from_numpy(found)}, {"step": str(work.recipe.steps)})


def save_model(model: Any, folder: Path, companions: Mapping[str, bytes]) -> None:
    """Save a model so that Transformers' `from_pretrained` reads it. Its weights are written last, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_companions(folder, companions)
    model.config.architectures = [type(model).__name__]
    model.config.to_json_file(folder / "config.json")
    weights = {name: weight.detach().cpu() for name, weight in model.named_parameters()}  # tied ones once
    write_whole(folder / WEIGHTS, weights, {"format": "pt"})


def complete_models(work: Work) -> None:
    """Write what is missing beside the models of all runs: earlier versions saved weights and configuration alone."""
    for weights in work.folder.glob(f"*/model-*/{WEIGHTS}"):
        write_companions(weights.parent, work.material.companions)


def _saved_model(work: Work, run: Run, step: int) -> Any:
    """The model of a checkpoint."""
    model, saved = work.model(run.seed), load_weights(work.model_folder(run, step) / WEIGHTS)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(saved[name])
    return model


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a step and a checkpoint take here, in seconds, in one process that has the machine to itself."""

    step: float
    checkpoint: float

    def whole(self, work: Work, runs: Sequence[Run], jobs: int) -> float:
        """Seconds that the runs will take: the longest queue of runs, if each process is as fast as one alone."""
        left = [run for run in runs if not work.done(run)]
        rounds = -(-len(left) // jobs)
        steps = 0 if all(work.trained(run) for run in left) else work.recipe.steps
        measured = len(work.recipe.measured) + (len(work.material.families) > 1)  # at last, what tags do together
        return rounds * (steps * self.step + measured * self.checkpoint)


@contextlib.contextmanager
def as_in_a_process(device: str) -> Iterator[None]:
    """On a CPU: with one thread, as the processes have it. So weights and times do not depend on who trains."""
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def timed(work: Work) -> Timing:
    """Time some steps of the arm with true tags, and the measuring of a checkpoint on every eighth row."""
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
    return Timing(step=step_seconds, checkpoint=(time.monotonic() - started) * len(rows) / max(1, len(some)))


_work: Work | None = None
_queue: Any = None
_stop: Any = None


def do_all(work: Work, runs: Sequence[Run], jobs: int, tell: Callable[[Run, Progress], None]) -> None:
    """Do all runs that are not done: with one job in this process, with more in others.

    On a CPU each model is trained by one thread. If one fails, or this process is interrupted, the others stop after
    their step.

    Args:
        work: what they share.
        runs: which, in the order in which they start.
        jobs: how many at a time.
        tell: called every ten seconds at most, for each run that trains.
    """
    left = [run for run in runs if not work.done(run)]
    if jobs == 1 or len(left) == 1:
        last: dict[str, float] = {}
        with as_in_a_process(work.device):
            for run in left:
                do(work, run, lambda run, progress: _seldom(last, run, progress, tell))
        return
    context = multiprocessing.get_context("spawn")
    queue, stop = context.Queue(), context.Event()
    given = (work, queue, stop, os.getpid())
    with ProcessPoolExecutor(min(jobs, len(left)), context, initializer=_begin, initargs=given) as pool:
        try:
            waiting = {pool.submit(_in_process, run) for run in left}
            while waiting:
                with contextlib.suppress(Empty):
                    tell(*queue.get(timeout=1.0))
                for future in [future for future in waiting if future.done()]:
                    waiting.remove(future)
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    while not queue.empty():  # the processes have ended: nothing is on its way
        tell(*queue.get())


def _begin(work: Work, queue: Any, stop: Any, parent: int) -> None:
    """Prepare a process: one thread, so that its weights are those of any other; an interrupt goes to the first."""
    global _work, _queue, _stop
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work, _queue, _stop = work, queue, stop
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that started it is gone: another may do the same work soon.

    Files are renamed when they are whole, so it may end at any point.
    """
    while os.getppid() == parent:
        time.sleep(LOOKED_EVERY)
    os._exit(1)


def _in_process(run: Run) -> None:
    assert _work is not None, "_begin was called"
    last: dict[str, float] = {}

    def tell(run: Run, progress: Progress) -> None:
        if _stop.is_set():
            raise SystemExit(1)
        _seldom(last, run, progress, lambda *told: _queue.put(told))

    do(_work, run, tell)


def _seldom(last: dict[str, float], run: Run, progress: Progress, tell: Callable[[Run, Progress], None]) -> None:
    """Tell of a run every ten seconds at most, and of its last step."""
    now = time.monotonic()
    if progress.step == progress.steps or now - last.get(run.name, -TOLD_EVERY) >= TOLD_EVERY:
        last[run.name] = now
        tell(run, progress)
