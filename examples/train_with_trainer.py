"""Trains a small GPT on token shards with Transformers' Trainer, and samples from it under each tag.

From nothing, in a few minutes (`make example` does the same):

    python pipelines/demo_corpus.py demo-corpus
    python examples/train_tokenizer.py demo-corpus out-example/tokenizer
    annotate run pipelines/conditional_pretraining.py --workdir out-example/run \
        --set tokenizer=out-example/tokenizer --set window=256 --set loss=mask --set part_mb=0.25
    annotate export out-example/run out-example/shards --format huggingface
    python examples/train_with_trainer.py out-example/run out-example/shards --out out-example/model

The same command goes on from the last checkpoint; with more `--steps`, it trains further. On several GPUs, or several
processes of a CPU: `torchrun --nproc-per-node 2 examples/train_with_trainer.py ...`, also to go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

import annotate
from annotate.errors import AnnotateError, ConfigError
from annotate.inference import Contrast, prompt
from annotate.storage.results import read_tags
from annotate.training import ShardDataset, add_tag_embeddings

DATA_STATE = "data.json"  # in a checkpoint: which windows were trained on
IGNORED = -100  # a label that does not count

Window = Mapping[str, torch.Tensor]


class ShardTrainer(Trainer):
    """A Trainer that takes the samples of a `ShardDataset` as they come.

    Each rank's dataset gives that rank's share. Trainer's own method hands the loader to accelerate, which takes an
    IterableDataset for the whole: it would divide the share again, or let the first rank read for all.
    """

    def get_train_dataloader(self) -> DataLoader[dict[str, torch.Tensor]]:
        """The batches of this rank."""
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.per_device_train_batch_size,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )


class SaveDataState(TrainerCallback):
    """Puts the state of the dataset into each checkpoint: how many windows all ranks have trained on."""

    def __init__(self, shards: ShardDataset, first_step: int) -> None:
        self.shards, self.first_step = shards, first_step

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Write the state, as the last file: a checkpoint that has it is complete."""
        if state.is_world_process_zero:
            batches = (state.global_step - self.first_step) * args.gradient_accumulation_steps
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (checkpoint / DATA_STATE).write_text(json.dumps(self.shards.state_dict(batches)))


class Progress(TrainerCallback):
    """Prints losses as lines."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        """One line."""
        losses = {name.removeprefix("eval_"): value for name, value in logs.items() if name.endswith("loss")}
        if state.is_world_process_zero and "train_loss" not in losses:
            said = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in losses.items())
            taken = time.monotonic() - self.started
            click.echo(f"step {state.global_step:>5} of {state.max_steps}  {taken:>4.0f} s  {said}")


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where training begins: the last complete checkpoint of a folder, or nothing."""

    checkpoint: Path | None = None
    step: int = 0
    data_state: Mapping[str, Any] | None = None

    @staticmethod
    def last(out: Path) -> Start:
        """Find it."""
        found = {int(path.parent.name.rpartition("-")[2]): path for path in out.glob(f"checkpoint-*/{DATA_STATE}")}
        if not found:
            return Start()
        step = max(found)
        return Start(checkpoint=found[step].parent, step=step, data_state=json.loads(found[step].read_text()))


def new_model(tokenizer: Any, folder: str, width: int, layers: int) -> GPT2LMHeadModel:
    """A small GPT-2 without training, with rows for the tags."""
    card = read_tags(folder)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=card["vocabulary"]["untagged_size"],
            n_positions=card["shards"]["window"],
            n_embd=width,
            n_layer=layers,
            n_head=max(1, width // 64),
            bos_token_id=card["shards"]["begin_id"],
            eos_token_id=card["shards"]["end_id"],
        )
    )
    add_tag_embeddings(model, tokenizer, folder)
    return model


def with_and_without_tags(window: Window, tags: list[int]) -> tuple[Window, Window]:
    """A window, and the same without its tags, with the same targets: tokens of text that text stands before.

    Tags are taken out, what follows moves up, and padding fills the end. Positions start again with each segment.
    """
    ids, labels, positions = (window[name].numpy() for name in ("input_ids", "labels", "position_ids"))
    text = ~np.isin(ids, tags)
    segments = np.cumsum(positions == 0)[text]
    first = np.diff(segments, prepend=0) > 0  # of the text of its segment
    targets = np.where(first, IGNORED, labels[text])
    at = np.arange(len(segments))
    padding = np.arange(len(ids) - len(segments))
    tagged = np.full_like(labels, IGNORED)
    tagged[text] = targets
    untagged = {
        "input_ids": np.concatenate([ids[text], np.zeros_like(padding)]),
        "labels": np.concatenate([targets, np.full_like(padding, IGNORED)]),
        "position_ids": np.concatenate([at - np.maximum.accumulate(np.where(first, at, 0)), padding]),
    }
    return {**window, "labels": torch.from_numpy(tagged)}, {name: torch.from_numpy(x) for name, x in untagged.items()}


def settings(out: Path, steps: int, batch_size: int, *, evaluate: bool, seed: int) -> TrainingArguments:
    """How it is trained."""
    third = max(1, steps // 3)
    return TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=min(20, steps // 5),
        weight_decay=0.1,
        logging_steps=max(1, steps // 10),
        save_steps=third,
        save_total_limit=2,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=third,
        prediction_loss_only=True,
        ignore_data_skip=True,  # the dataset starts where the checkpoint ends: Trainer would skip once more
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),  # said, so that several processes train together without GPUs too
        disable_tqdm=True,
        report_to="none",
        seed=seed,
    )


def data(
    folder: str, export: str, arguments: TrainingArguments, start: Start, *, held_out: int
) -> tuple[ShardDataset, dict[str, list[Window]]]:
    """What this rank trains on, from the start on; and the held-out windows of the last parts, with and without tags.

    Raises:
        ConfigError: the export is of other shards, or has no part to hold out.
    """
    card = read_tags(folder)
    manifest = ShardDataset(export, batch_size=1).manifest
    known = manifest["vocabulary"]
    if (known["tokenizer"], known["size"]) != (card["shards"]["tokenizer"], card["vocabulary"]["padded_size"]):
        raise ConfigError(f"{export} has other ids than {folder}", hint="Export the shards of the last run again.")
    numbers = [part["number"] for part in manifest["parts"]]
    if held_out >= len(numbers):
        raise ConfigError(
            f"{held_out} parts are to be held out, but {export} has {len(numbers)}",
            hint="Render smaller parts, as with `--set part_mb=0.25`, or give --held-out 0.",
        )
    kept = len(numbers) - held_out
    windows = sum(part["counts"]["windows"] for part in manifest["parts"][:kept])
    batch_size = arguments.per_device_train_batch_size
    per_step = batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    seen = start.data_state["consumed"] if start.data_state is not None else 0
    shards = ShardDataset(
        export,
        batch_size=batch_size,
        rank=arguments.process_index,
        ranks=arguments.world_size,
        shuffle=True,
        seed=arguments.seed,
        epochs=-(-(seen + (arguments.max_steps - start.step) * per_step) // windows),
        parts=numbers[:kept],
    )
    if start.data_state is not None:
        shards.load_state_dict(start.data_state)
    held = ShardDataset(export, batch_size=1, ranks=1, parts=numbers[kept:])  # each rank evaluates on all of it
    pairs = [with_and_without_tags(window, card["banned_when_sampling"]) for window in held]
    return shards, {"with_tags": [one for one, _ in pairs], "without_tags": [other for _, other in pairs]}


def train(
    folder: str, export: str, arguments: TrainingArguments, *, width: int, layers: int, held_out: int
) -> GPT2LMHeadModel:
    """Train up to the last step, from the last checkpoint on, and return the model."""
    start = Start.last(Path(arguments.output_dir))
    if start.checkpoint is not None:
        click.echo(f"Going on from {start.checkpoint}.")
        if start.step >= arguments.max_steps:
            return GPT2LMHeadModel.from_pretrained(start.checkpoint)
    shards, evaluation = data(folder, export, arguments, start, held_out=held_out)
    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    trainer = ShardTrainer(
        model=new_model(tokenizer, folder, width, layers),
        args=arguments,
        train_dataset=shards,
        eval_dataset=evaluation if held_out else None,
        callbacks=[SaveDataState(shards, start.step), Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(start.checkpoint) if start.checkpoint is not None else None)
    return trainer.model


def show_samples(model: GPT2LMHeadModel, folder: str, text: str, guidance: float, tokens: int, seed: int) -> None:
    """Print how the model goes on from a text: without tags, under each tag, and with guidance away from untagged."""
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    model.eval()
    names = [tag["name"] for tag in read_tags(folder)["tags"]]
    for tags, strength in [([], 1.0), *(([name], strength) for name in names for strength in (1.0, guidance))]:
        contrasts = [Contrast(tags, weight=strength - 1)] if strength != 1 else []
        given = prompt(tokenizer, folder, text, tags, guidance=contrasts, model=model)
        set_seed(seed)  # the same draws under each tag
        made = model.generate(
            **given, max_new_tokens=tokens, do_sample=True, temperature=0.8, pad_token_id=tokenizer.eos_token_id
        )
        going_on = tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        under = ", ".join(f"<{name}>" for name in tags) or "no tag"
        click.secho(f"\n{under}{f', guidance {strength:g}' if strength != 1 else ''}", bold=True)
        click.echo(" ".join(f"{text}{going_on}".split()))  # line breaks left out


@click.command()
@click.argument("workdir")
@click.argument("export")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="out-example/model", show_default=True)
@click.option("--steps", default=300, show_default=True, type=click.IntRange(1), help="Steps of training in all.")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1), help="Windows a step and process.")
@click.option("--width", default=128, show_default=True, type=click.IntRange(1), help="Of the model.")
@click.option("--layers", default=4, show_default=True, type=click.IntRange(1), help="Of the model.")
@click.option("--held-out", default=1, show_default=True, type=click.IntRange(0), help="Parts that are not trained on.")
@click.option("--prompt", "text", default="The", show_default=True, help="What samples begin with.")
@click.option("--tokens", default=60, show_default=True, type=click.IntRange(1), help="Of a sample.")
@click.option("--guidance", default=3.0, show_default=True, help="Of the guided samples.")
@click.option("--seed", default=0, show_default=True)
def main(workdir: str, export: str, out: Path, steps: int, batch_size: int, seed: int, **options: Any) -> None:
    """Train on EXPORT, a Hugging Face export of the token shards that the last run left in WORKDIR, and sample."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it warns of tied weights, and of settings that a checkpoint does not have
    try:
        folder = annotate.tags_folder(workdir)
        arguments = settings(out, steps, batch_size, evaluate=options["held_out"] > 0, seed=seed)
        shape = {name: options[name] for name in ("width", "layers", "held_out")}
        model = train(folder, export, arguments, **shape)
        if arguments.process_index == 0:
            show_samples(model, folder, options["text"], options["guidance"], options["tokens"], seed)
    except AnnotateError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
