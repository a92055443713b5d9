"""The training runs of a proof: an arm and a seed each, in folders of their own, in as many processes as asked for."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_weights

from annotate.errors import ConfigError
from annotate.proof.arms import IN_PART, NO_TAGS, SHUFFLED, THEN_NO_TAGS, TRUE, Arm, Rendering
from annotate.proof.companions import TAGS, write_companions
from annotate.proof.intervals import Float64
from annotate.proof.joint_effects import joint_effects, rows_of_pairs
from annotate.proof.likelihoods import Columns, Row, likelihoods, rows_of
from annotate.proof.material import Material
from annotate.proof.texts import Writing, read_tokens, save_texts, write_texts
from annotate.proof.training import Progress, Recipe, as_in_a_process, new_model, train, write_whole
from annotate.proof.windows import Int32

TOLD_EVERY = 10.0  # seconds
WEIGHTS = "model.safetensors"
LOOKED_EVERY = 1.0  # seconds
MEASURING = 2  # raise it if the code measures otherwise: then checkpoints are measured again, and not trained again
WRITING = 1  # raise it if texts are written otherwise: then they are written again by the models that there are
WRITERS = (TRUE, SHUFFLED, THEN_NO_TAGS)  # the arms whose models write texts
ANOTHER_ORDER = 1_000_003  # is added to the seed of the order of windows, where training goes on with a model

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
        texts: how many texts each writer writes under each tag.
        start: the folder of a model that all runs go on with; None: each starts from random weights.
    """

    material: Material
    recipe: Recipe
    folder: Path
    device: str
    arms: tuple[Arm, ...]
    texts: int = 0
    start: Path | None = None

    def rendering(self, run: Run) -> Rendering:
        """The windows of a run."""
        return Rendering.of(self.material.text, run.arm, loss=self.material.loss, seed=run.seed)

    def model(self, seed: int) -> Any:
        """The model that runs of a seed start from, whatever their arm."""
        widest = max(self.rendering(Run(arm=arm, seed=seed)).width for arm in self.arms)
        measured = Rendering.of(self.material.measured, TRUE, loss=self.material.loss, seed=0)
        positions = max(widest, measured.width) + len(self.material.families)
        model = new_model(self.recipe, self.material.vocabulary, positions, seed=seed).to(self.device)
        return model if self.start is None else _with_weights(model, self.start)

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
        return len(self.material.families) > 1 and run.arm not in (NO_TAGS, THEN_NO_TAGS, *IN_PART)

    def measured(self, run: Run) -> bool:
        """Whether all of its checkpoints were measured."""
        return all(self.result(run, step).exists() for step in self.recipe.measured)

    def done(self, run: Run) -> bool:
        """Whether all of its checkpoints were measured, and what its last model is asked for is there."""
        joined = not self.joined(run) or self.joint_result(run).exists()
        written = not self.writes(run) or self.texts_file(run).exists()
        return self.measured(run) and joined and written

    def writes(self, run: Run) -> bool:
        """Whether the last model of a run writes texts."""
        return self.texts > 0 and run.arm in WRITERS

    def texts_file(self, run: Run) -> Path:
        """The file with the texts of the last model of a run, as this version of the code writes them."""
        return self.folder / run.name / f"texts-v{WRITING}-{self.recipe.steps:07}-{self.texts}.parquet"

    def writing(self) -> Writing:
        """What is written, by all models alike."""
        material = self.material
        shards = json.loads(material.companions[TAGS])["shards"]
        return Writing.of(
            material.text,
            material.families,
            self.texts,
            begin=shards["begin_id"],
            end=shards["end_id"],
            tokenizer=material.companions["tokenizer.json"],
        )

    def read_texts(self, run: Run) -> Int32:
        """The texts of a run: int32 `[tags and none, texts, 1 + length]`, as `read_tokens` gives them."""
        return read_tokens(self.texts_file(run), self.writing())

    def read(self, run: Run) -> Float64:
        """The log-likelihoods of all checkpoints: float64 `[checkpoints, n_spans, columns]`."""
        return np.stack([load_file(self.result(run, step))["likelihoods"] for step in self.recipe.measured])

    def read_joint(self, run: Run) -> Float64:
        """What `joint_effects` gave: float64 `[n_spans, pairs of families, 2, 3]`."""
        found: Float64 = load_file(self.joint_result(run))["effects"]
        return found


def do(work: Work, run: Run, tell: Callable[[Run, Progress], None]) -> None:
    """Train and measure one run, from where it was left, and let its last model write texts.

    What other code measured or wrote is measured or written again, by the models that there are.

    Raises:
        ConfigError: the state is of another model; a model that is needed was removed; or its training diverged.
    """
    if work.done(run):
        return
    rows, columns = work.rows(), Columns(families=work.material.families)
    folder = work.folder / run.name
    for unfinished in (path for kind in ("safetensors", "parquet") for path in folder.glob(f"**/.*.{kind}.*")):
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
    if not work.measured(run):
        train(
            work.model(run.seed),
            work.rendering(run),
            work.recipe,
            folder,
            seed=run.seed if work.start is None else run.seed + ANOTHER_ORDER,
            checkpoint=checkpoint,
            tell=lambda progress: tell(run, progress),
        )
    if work.joined(run) and not work.joint_result(run).exists():
        _join(work, run)
    if work.writes(run) and not work.texts_file(run).exists():
        _write(work, run)


def _write(work: Work, run: Run) -> None:
    """Let the model of the last checkpoint write texts."""
    try:
        model = _saved_model(work, run, work.recipe.steps, " Or go on without texts: --texts 0.")
        texts = write_texts(model, work.writing(), seed=run.seed)
    except FloatingPointError:
        raise diverged(f"the logits of {run.name}", work.recipe.steps) from None
    save_texts(texts, work.texts_file(run))


def diverged(what: str, step: int) -> ConfigError:
    """The error that something a model gives at a step is no finite number."""
    return ConfigError(
        f"{what} at step {step:,} are no finite numbers: its training diverged",
        hint="Give a lower --learning-rate and another --out.",
    )


def _join(work: Work, run: Run) -> None:
    """Measure what tags of two families do together, in the model of the last checkpoint."""
    text, families = work.material.measured, work.material.families
    rows = rows_of_pairs(Rendering.of(text, TRUE, loss=work.material.loss, seed=0), families)
    model = _saved_model(work, run, work.recipe.steps, " What two tags do together is measured in it.")
    found = joint_effects(model, rows, text, families)
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


def _saved_model(work: Work, run: Run, step: int, more: str = "") -> Any:
    """The model of a checkpoint; `more` is told where its weights are gone."""
    return _with_weights(work.model(run.seed), work.model_folder(run, step), more)


def _with_weights(model: Any, folder: Path, more: str = "") -> Any:
    """The same model with the weights that `save_model` wrote; `more` is told where they are gone.

    Raises:
        ConfigError: they are gone.
    """
    if not (folder / WEIGHTS).exists():
        raise ConfigError(
            f"{folder} has no {WEIGHTS} any more, and what was measured of its run is all there is",
            hint=f"Remove {folder.parent}: its model is then trained again.{more}",
        )
    saved = load_weights(folder / WEIGHTS)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(saved[name])
    return model


_work: Work | None = None
_queue: Any = None
_stop: Any = None


def do_all(work: Work, runs: Sequence[Run], jobs: int, tell: Callable[[Run, Progress], None]) -> None:
    """Do all runs that are not done: one, or with one job, in this process; else in others.

    On a CPU each model is trained by one thread. If one fails, or this process is interrupted, the others stop after
    their step.

    Args:
        work: what they share.
        runs: which, in the order in which they start.
        jobs: how many at a time.
        tell: called every ten seconds at most, for each run that trains.
    """
    left = [run for run in runs if not work.done(run)]
    if jobs == 1 or len(left) <= 1:
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
