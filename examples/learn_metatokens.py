"""Trains students on metatokens, and measures how much of the prompts they have learned.

    python examples/learn_metatokens.py out-metatokens/run out-metatokens/teacher out-metatokens/students

The run is that of pipelines/metatokens.py. A student is a copy of the teacher, trained on the token shards of what the
teacher wrote under prompts, with a token in front for each prompt, and without the prompts. Documents without an axis
tag are learned by the teacher's probabilities (KL), those with one by their tokens: the teacher does not know that tag.

The measure is what is left of the prompts' effect, on documents that no student has seen:

    KL(teacher with the prompts || student with the metatokens) / KL(teacher with the prompts || teacher without them)

1 is a student that knows nothing of the prompts, 0 one that has all of them. The control is a student that was trained
on the same documents, with what stands before them shuffled among them.
"""

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup
from transformers.utils import logging

import annotate
from annotate import CausalModel, TransformersGenerator
from annotate.training import add_tag_embeddings, teacher_kl

BATCH = 32  # documents
IGNORED = -100
LITTLE = 0.01  # nats a token


@dataclass(frozen=True, kw_only=True, eq=False)
class Documents:
    """The documents of token shards, each in a row of its own.

    Attributes:
        conditions: the prompts that each was written under, in their order, joined by "+"; its id ends in them.
        tags: ids of the tags in front of each document.
        ids: its tokens, without them.
        teacher: of each token, the teacher's most probable ones in its place, int64 `[n, k]`; -1 where there are none.
        logs: their log-probabilities, float32 `[n, k]`.
    """

    conditions: list[str]
    tags: list[list[int]]
    ids: list[torch.Tensor]
    teacher: list[torch.Tensor]
    logs: list[torch.Tensor]

    @staticmethod
    def read(run: Path, output: str) -> "Documents":
        """Read them from the shards of a run."""
        card = annotate.read_tags(annotate.tags_folder(run, output=output))
        first = card["vocabulary"]["untagged_size"]
        found = Documents(conditions=[], tags=[], ids=[], teacher=[], logs=[])
        windows = pl.read_parquet(annotate.shards(run, output=output))
        if "teacher_top_tokens" not in windows.columns:
            raise click.ClickException(
                f"the output {output} of {run} has no probabilities of a teacher: make a run of "
                "pipelines/metatokens.py, or of another pipeline with TokenShards(..., teacher=True)"
            )
        for window in windows.iter_rows(named=True):
            ids = torch.tensor(window["input_ids"])
            near = torch.tensor(window["teacher_top_tokens"]).view(len(ids), -1)
            logs = torch.tensor(window["teacher_top_logprobs"]).view(len(ids), -1)
            begin = 0
            for length, name in zip(window["segment_lengths"], window["document_ids"], strict=True):
                own = slice(begin, begin := begin + length)
                tags = [token for token in ids[own].tolist() if token >= first]
                text = slice(own.start + len(tags), own.stop)
                found.conditions.append(name.rpartition(":")[2])
                found.tags.append(tags)
                found.ids.append(ids[text])
                found.teacher.append(near[text])
                found.logs.append(logs[text])
        return found

    def __len__(self) -> int:
        return len(self.ids)

    def begin(self, i: int) -> int:
        """Where the completion of a document begins: the first token for which the teacher's probabilities are known.

        All tokens, if there is none.
        """
        known = self.teacher[i][:, 0] >= 0
        return int(known.int().argmax()) if bool(known.any()) else len(known)

    def openings(self) -> list[tuple[int, ...]]:
        """The tokens before each completion."""
        return [tuple(ids[: self.begin(i)].tolist()) for i, ids in enumerate(self.ids)]

    def shuffled(self, seed: int) -> "Documents":
        """The same, but what stands before each document stands before another one."""
        order = np.random.default_rng(seed).permutation(len(self))
        return replace(self, tags=[self.tags[i] for i in order])

    def of(self, some: Sequence[int]) -> "Documents":
        """Some of them."""
        return Documents(**{name: [values[i] for i in some] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Tags:
    """The tags of the shards.

    Attributes:
        ids: by name, in the order in which they stand before a document.
        prompts: the prompts by the names of their metatokens.
        end: the token that ends a document; one stands before each, as in a text that goes on.
    """

    ids: dict[str, int]
    prompts: dict[str, str]
    end: int

    @property
    def axis(self) -> list[str]:
        """The tags that are no metatokens."""
        return [name for name in self.ids if name not in self.prompts]


def train(
    teacher: Any, tags: Tags, folder: str, documents: Documents, axis: list[bool], steps: int, rate: float
) -> Any:
    """Train a copy of the teacher: AdamW with a warm-up and a cosine.

    Args:
        teacher: where the student begins.
        tags: of the shards.
        folder: of the shards' tags.
        documents: what is trained on.
        axis: which of them are learned by their tokens, and not by the teacher's probabilities.
        steps: of 32 documents.
        rate: the highest learning rate.
    """
    student = copy.deepcopy(teacher)
    add_tag_embeddings(student, AutoTokenizer.from_pretrained(f"{folder}/tokenizer"), folder)
    chooser = torch.optim.AdamW(student.parameters(), rate, weight_decay=0.01)
    curve = get_cosine_schedule_with_warmup(chooser, steps // 10, steps)
    draw, started, left = np.random.default_rng(0), time.monotonic(), np.empty(0, np.int64)
    student.train()
    for step in range(1, steps + 1):
        if len(left) < BATCH:
            left = draw.permutation(len(documents))
        some, left = left[:BATCH].tolist(), left[BATCH:]
        batch = rows(documents, tags, some)
        logits = student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        by_token = torch.tensor([axis[i] for i in some])[:, None]
        told = batch["labels"].masked_fill(~by_token, IGNORED)
        taught = {**batch, "labels": batch["labels"].masked_fill(by_token, IGNORED)}
        loss = teacher_kl(logits, taught)
        if bool(by_token.any()):
            loss = loss + cross_entropy(logits[:, :-1].flatten(0, 1), told[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        chooser.step()
        curve.step()
        chooser.zero_grad()
        if step % 50 == 0 or step == steps:
            taken = time.monotonic() - started
            click.echo(f"step {step:,} of {steps:,}: {taken:.0f} s, about {taken / step * (steps - step):.0f} s left")
    return student.eval()


def rows(documents: Documents, tags: Tags, some: Sequence[int]) -> dict[str, torch.Tensor]:
    """Documents behind their tags, in rows that are filled up to the longest."""
    heads = [torch.tensor([tags.end, *documents.tags[i]]) for i in some]
    ids = [torch.cat([head, documents.ids[i]]) for head, i in zip(heads, some, strict=True)]

    def filled(tensors: Sequence[torch.Tensor], value: float) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(tensors), batch_first=True, padding_value=value)

    def behind(tensors: list[torch.Tensor], value: float) -> torch.Tensor:
        return filled(
            [
                torch.cat([torch.full((len(head), *tensors[i].shape[1:]), value, dtype=tensors[i].dtype), tensors[i]])
                for head, i in zip(heads, some, strict=True)
            ],
            value,
        )

    return {
        "input_ids": filled(ids, tags.end),
        "attention_mask": filled([torch.ones(len(row), dtype=torch.long) for row in ids], 0),
        "labels": behind(documents.ids, IGNORED),
        "teacher_top_tokens": behind(documents.teacher, -1),
        "teacher_top_logprobs": behind(documents.logs, float("nan")),
    }


@torch.inference_mode()
def logs(model: Any, before: Sequence[int], tokens: Sequence[Sequence[int]], known: int) -> list[torch.Tensor]:
    """Log-probabilities in the place of each token of some texts, behind the same tokens: float32 `[n, known]`."""
    found = []
    for first in range(0, len(tokens), BATCH):
        some = tokens[first : first + BATCH]
        width = max(map(len, some))
        ids = torch.tensor([[*before, *row, *[0] * (width - len(row))] for row in some])
        logits = model(input_ids=ids).logits[:, len(before) - 1 : -1, :known].log_softmax(-1)
        found += [logits[i, : len(row)] for i, row in enumerate(some)]
    return found


def divergences(first: list[torch.Tensor], second: list[torch.Tensor], begins: Sequence[int]) -> np.ndarray:
    """For each text the sum over its tokens, from one on, of KL(first || second): float64 `[n]`."""
    return np.array(
        [
            float((a[begin:].double().exp() * (a[begin:].double() - b[begin:].double())).sum())
            for a, b, begin in zip(first, second, begins, strict=True)
        ]
    )


def ratio(parts: np.ndarray, wholes: np.ndarray) -> list[float]:
    """The ratio of two sums over documents, and its 95 % interval, by a bootstrap over documents."""
    drawn = np.random.default_rng(0).integers(0, len(parts), (2000, len(parts)))
    ratios = parts[drawn].sum(1) / wholes[drawn].sum(1)
    return [round(float(each), 4) for each in (parts.sum() / wholes.sum(), *np.quantile(ratios, [0.025, 0.975]))]


def mean(values: np.ndarray) -> list[float]:
    """The mean over documents, and its 95 % interval."""
    return ratio(values, np.ones(len(values)))


def told(name: str, found: dict[str, Any]) -> list[str]:
    """What was found of one condition, in lines; 95 % intervals of documents in brackets."""

    def shown(values: Sequence[float] | None) -> str:
        return "not known" if values is None else "{:.3f} [{:.3f}, {:.3f}]".format(*values)

    size = found["nats a token"]
    lines = [f"{name}: {found['documents']:,} documents; its effect is {shown(size)} nats a token"]
    if size[0] < LITTLE:
        lines.append("  that is too little to say what is left of it: see `annotate distill check`")
    else:
        lines += [f"  left, {arm}: {shown(values)}" for arm, values in found["left"].items()]
    gaps = found["axis, nats a document"].items()
    return [
        *lines,
        *(f"  own axis tag less the other, nats a document, {arm}: {shown(values)}" for arm, values in gaps),
    ]


def unseen(held_out: Documents, trained: Documents) -> list[int]:
    """The held-out documents that have a completion, and an opening that no other document before them has."""
    seen, fresh = set(trained.openings()), []
    for i, opening in enumerate(held_out.openings()):
        if opening not in seen and len(opening) < len(held_out.ids[i]):
            seen.add(opening)
            fresh.append(i)
    return fresh


def effect(whole: np.ndarray, sizes: np.ndarray, students: dict[str, np.ndarray]) -> dict[str, Any]:
    """How far the prompts move the teacher, in nats a token, and the share of it that is left for each student."""
    left = {name: ratio(values, whole) for name, values in students.items()}
    return {"documents": len(whole), "nats a token": ratio(whole, sizes), "left": left}


def measure(
    teacher: Any, students: dict[str, Any], tags: Tags, generator: TransformersGenerator, documents: Documents
) -> dict[str, Any]:
    """Measure students on documents that were written under the same prompts.

    Args:
        teacher: the model that wrote them.
        students: by the names of their arms.
        tags: of the shards.
        generator: of the documents, which says how the teacher reads prompts.
        documents: those of one condition, each with the teacher's probabilities for its completion.

    Returns:
        `documents`, `nats a token`, and what is `left` for each arm; of two prompts also with the token of one of them.
        `axis, nats a document`: how much likelier a completion is under its own axis tag than under the other one, both
        beside the metatokens; of those documents that have one.
    """
    names = documents.conditions[0].split("+")
    begins = [documents.begin(i) for i in range(len(documents))]
    tokens = [ids[: -1 if ids[-1] == tags.end else None].tolist() for ids in documents.ids]
    known = teacher.config.vocab_size
    prompts = "\n\n".join(tags.prompts[name] for name in names)
    under, without = (logs(teacher, generator.prefix(text), tokens, known) for text in (prompts, ""))

    def read(student: Any, given: Sequence[str]) -> list[torch.Tensor]:
        return logs(student, [tags.end, *(i for name, i in tags.ids.items() if name in given)], tokens, known)

    ways = {"": names} if len(names) == 1 else {"": names, **{f", <{name}> alone": [name] for name in names}}
    found = {
        arm + way: divergences(under, read(student, given), begins)
        for arm, student in students.items()
        for way, given in ways.items()
    }
    sizes = np.array([len(row) - begin for row, begin in zip(tokens, begins, strict=True)], np.float64)
    gaps: dict[str, list[float] | None] = {}
    for arm, student in students.items():
        sums = np.array(
            [
                [
                    float(row[begin:].gather(1, torch.tensor(ids[begin:])[:, None]).sum())
                    for row, ids, begin in zip(read(student, [*names, name]), tokens, begins, strict=True)
                ]
                for name in tags.axis
            ]
        )
        own = np.array([[tags.ids[name] in of for of in documents.tags] for name in tags.axis])
        tagged = own.any(axis=0)
        gap = np.where(own[0], sums[0] - sums[1], sums[1] - sums[0])[tagged]
        gaps[arm] = mean(gap) if len(gap) else None
    return {**effect(divergences(under, without, begins), sizes, found), "axis, nats a document": gaps}


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("teacher", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=800, show_default=True, help="Of each student, of 32 documents.")
@click.option("--rate", default=1e-3, show_default=True, help="The highest learning rate.")
@click.option("--documents", default=1000, show_default=True, help="Of each condition that are measured, at most.")
def main(run: Path, teacher: Path, out: Path, steps: int, rate: float, documents: int) -> None:
    """Train students on the run's shards, measure them on its held-out ones, and print what is left of the prompts."""
    logging.disable_progress_bar()
    folder = annotate.tags_folder(run, output="train")
    cards = [annotate.read_tags(annotate.tags_folder(run, output=output)) for output in ("train", "held_out")]
    ids, ids_held_out = ({tag["name"]: tag["id"] for tag in card["tags"]} for card in cards)
    if ids != ids_held_out:
        raise click.ClickException(f"the two outputs have other tags: {ids} and {ids_held_out}")
    model = AutoModelForCausalLM.from_pretrained(teacher).eval()
    tags = Tags(
        ids=ids,
        prompts={tag["name"]: tag["meaning"] for tag in cards[0]["tags"] if tag["meaning"]},
        end=cards[0]["shards"]["end_id"],
    )
    trained, held_out = (Documents.read(run, output) for output in ("train", "held_out"))
    axis = [any(tags.ids[name] in of for name in tags.axis) for of in trained.tags]
    click.echo(f"{len(trained):,} documents to train on, {sum(axis):,} of them by their tokens")
    fresh = unseen(held_out, trained)
    click.echo(f"{len(fresh):,} of {len(held_out):,} held-out documents have an opening that is in no other document")
    held_out = held_out.of(fresh)
    students = {}
    for arm, seen in (("true", trained), ("shuffled", trained.shuffled(0))):
        click.echo(f"student, {arm} tags")
        students[arm] = train(model, tags, folder, seen, axis, steps, rate)
        students[arm].save_pretrained(out / arm)
    found, generator = {}, TransformersGenerator(CausalModel(teacher))
    for name in dict.fromkeys(held_out.conditions):
        some = [i for i, of in enumerate(held_out.conditions) if of == name]
        found[name] = measure(model, students, tags, generator, held_out.of(some[:documents]))
        click.echo("\n".join(told(name, found[name])))
    (out / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
