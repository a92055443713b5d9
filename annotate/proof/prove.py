"""`annotate prove`, from Python: trains the arms, measures them, and says what was learned."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from pathlib import Path

from annotate.amounts import counted, duration
from annotate.errors import ConfigError
from annotate.proof.arms import IN_PART, NO_TAGS, SHUFFLED, TRUE, Arm, held_out_pair
from annotate.proof.findings import Proof, findings
from annotate.proof.judges import scorer_judge
from annotate.proof.material import read_material
from annotate.proof.persistence import THEN, further
from annotate.proof.report import write_report
from annotate.proof.runs import Run, Work, complete_models, do_all
from annotate.proof.timing import judging, timed
from annotate.proof.training import Progress, Recipe
from annotate.scorers.base import Scorer

SETTINGS = "settings.json"
VERSION = 1  # raise it if the code trains or measures otherwise: then what a folder has is not gone on with


def prove(
    workdir: str | PathLike[str],
    out: str | PathLike[str] = "proof",
    *,
    steps: int | None = None,
    tokens: int | None = None,
    seeds: int = 3,
    full: bool = False,
    device: str = "auto",
    jobs: int | None = None,
    output: str | None = None,
    held_out: str | None = None,
    spans: int = 2000,
    width: int = 128,
    layers: int = 4,
    batch: int = 8,
    learning_rate: float = 2e-3,
    checkpoints: int = 6,
    texts: int = 512,
    judge: str | Scorer | None = None,
    tell: Callable[[str], None] | None = None,
) -> Proof:
    """Find out whether small models learn the tags of a run.

        proof = annotate.prove("out", "proof", seeds=1, steps=300)
        [verdict.outcome for verdict in proof.verdicts]

    It trains models on the token shards that the last run left in a work directory: with true tags, with the same tags
    on other spans, and without tags, all on the same text. Then it compares how likely held-out spans are under their
    own tag and under others. The same call goes on where an earlier one was stopped, and does nothing twice.

    Args:
        workdir: the work directory. Its token shards need `span_ids=True`.
        out: a local folder for the models, the report and the pictures.
        steps: of training for each model. None: as many as make one epoch, or `tokens`.
        tokens: tokens of text to train each model on. None: one epoch of 50 million at most. Not together with `steps`.
        seeds: models of the arms with true and with shuffled tags. The other arms have one.
        full: also train arms with tags in a part of training, one model on without tags, and, if there are several
            families, one that never sees the first tags of the first two together.
        device: "cpu", "cuda", or "auto": a GPU, if there is one.
        jobs: how many models are trained at a time. None: one on a GPU, else one a CPU.
        output: the output to train on, if the pipeline has several.
        held_out: the output to measure on. None: the one of the subset "evaluation", or a tenth of the documents.
        spans: about how many held-out spans to measure.
        width: of the models.
        layers: of the models.
        batch: windows of a step.
        learning_rate: the highest.
        checkpoints: how many are measured; their steps are spaced by factors of two.
        texts: how many texts the last models with true and with shuffled tags write under each tag, and without one. 0:
            none.
        judge: what judges these: the name of a shipped probe or the path of one, or a scorer that reads texts alone;
            its first axis counts. None: a bag of words, fitted on the spans of training and their tags.
        tell: called with each line that tells what is done, how long it will take, and how far it is.

    Raises:
        ConfigError: a setting is out of range; the shards can't be measured; the judge is the scorer that the tags came
            from, can't be used, can score none of some held-out spans, or has no texts to judge; the folder is no local
            one, has a proof with other settings, or another process works on it; or a model's training diverged.
        StorageError: there are no such shards.
        InputError: there is no text to train on, or there are fewer than 10 documents to measure.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is at least 1, not {seeds}")
    if steps is not None and tokens is not None:
        raise ConfigError("give steps or tokens, not both")
    if texts < 0:
        raise ConfigError(f"texts is at least 0, not {texts}")
    if judge is not None and not texts:
        raise ConfigError("there is nothing to judge: texts is 0", hint="Leave --judge out, or let models write texts.")
    if "://" in str(out):
        raise ConfigError(f"{out} is not a local folder", hint="Models are saved while they train: name a local one.")
    place, folder = _device(device), Path(out)
    material = read_material(workdir, output=output, held_out=held_out, tokens=tokens, spans=spans)
    by = None if judge is None else scorer_judge(judge, material, workdir, device=place)
    a_step = batch * len(material.text.tokens) / material.text.n_windows
    wanted = material.text.n_windows / batch if tokens is None else tokens / a_step
    recipe = Recipe(
        width=width,
        layers=layers,
        batch=batch,
        steps=steps if steps is not None else max(1, round(wanted)),
        checkpoints=checkpoints,
        learning_rate=learning_rate,
    )
    pair = held_out_pair(material.families) if full else None
    arms = (TRUE, SHUFFLED, NO_TAGS, *((pair,) if pair else ()), *(IN_PART if full else ()))
    work = Work(
        material=material,
        recipe=recipe,
        folder=folder / "runs",
        device=place,
        arms=(TRUE, SHUFFLED, NO_TAGS),
        texts=texts,
    )
    later = further(work) if full else None
    runs = _runs(arms, seeds)
    with _held(folder):
        _check_settings(folder, work, spans)
        complete_models(work)
        started = time.monotonic()
        say = tell or (lambda line: None)
        n, judges = judging(by, work, [*runs, *([THEN] if full else [])]) if by is not None else (0, 0.0)
        _train(work, runs, later, jobs or _jobs(place), a_step, judges, say)
        if by is not None:
            say(f"the judge scores {n:,} texts and held-out spans: about {duration(judges)}")
        proof = findings(work, runs, seconds=time.monotonic() - started, judge=by, later=later)
        write_report(proof, folder)
    return proof


def _runs(arms: tuple[Arm, ...], seeds: int) -> list[Run]:
    """All runs, those of the first seed first: then a proof that is stopped has something of each arm."""
    return [Run(arm=arm, seed=seed) for seed in range(seeds) for arm in arms if seed == 0 or arm in (TRUE, SHUFFLED)]


def _device(name: str) -> str:
    import torch

    from annotate.models.device import find_device

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(find_device(name))


def _jobs(device: str) -> int:
    return 1 if device != "cpu" else len(os.sched_getaffinity(0))


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no other process works on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"another process works on {folder}", hint="Wait for it, or give --out.") from None
        yield


def _check_settings(folder: Path, work: Work, spans: int) -> None:
    """Check that what the folder has is of these settings.

    Raises:
        ConfigError: it is not.
    """
    settings = {
        "version": VERSION,
        **asdict(work.recipe),
        "shards": list(work.material.shards),
        "device": work.device,
        "tokens": len(work.material.text.tokens),
        "spans": spans,
    }
    path = folder / SETTINGS
    if path.exists():
        old = json.loads(path.read_text())
        for name in settings:
            if old.get(name) != settings[name]:
                raise ConfigError(
                    f"{folder} has a proof with {name} {old.get(name)}, not {settings[name]}",
                    hint="Give another --out, or remove the folder.",
                )
        return
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(json.dumps(settings, indent=1))
    unfinished.replace(path)


def _train(
    work: Work,
    runs: list[Run],
    later: Work | None,
    jobs: int,
    a_step: float,
    judges: float,
    tell: Callable[[str], None],
) -> None:
    """Do what is left of all runs, then of the training that goes on without tags; a judge then takes seconds more."""
    recipe = work.recipe
    weights = sum(weight.numel() for weight in work.model(0).parameters())
    epochs = recipe.steps * recipe.batch / work.material.text.n_windows
    tell(
        f"{counted(len(runs), 'model')} of {weights / 1e6:.2f} million parameters, {counted(recipe.steps, 'step')} "
        f"each on {recipe.steps * a_step:,.0f} tokens of text ({epochs:.2g} epochs)"
    )
    for remark in work.material.remarks:
        tell(remark)
    left = [run for run in runs if not work.done(run)]
    goes_on = later is not None and not later.done(THEN)
    if not left and not goes_on:
        tell("all models are trained")
        return
    todo = [f"{counted(len(left), 'model')} in {counted(min(jobs, len(left)), 'process')}"] if left else []
    todo += ["one trained on without tags"] if goes_on else []
    timing = timed(work)
    whole = timing.whole(work, runs, jobs) + (timing.whole(later, [THEN], 1) if later is not None else 0)
    whole += judges
    tell(
        f"a step takes {timing.step:.2f} s, a checkpoint {timing.checkpoint:.1f} s, texts {timing.texts:.1f} s; "
        f"{', then '.join(todo)}: about {duration(whole)} in all, if as many cores are free"
    )
    started = time.monotonic()

    def say(run: Run, progress: Progress) -> None:
        tell(
            f"{duration(time.monotonic() - started):>12}  {run.arm.name}, seed {run.seed}: step {progress.step:,} of "
            f"{progress.steps:,}, loss {progress.loss:.3f}"
        )

    do_all(work, runs, jobs, say)
    if later is not None and goes_on:
        do_all(later, [THEN], 1, say)
