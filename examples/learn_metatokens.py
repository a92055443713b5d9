"""Makes metatokens of two long prompts, trains a model on them, and measures how much of the prompts it has learned.

    python examples/learn_metatokens.py demo-corpus tokenizer out

A small model is trained on the corpus: the teacher. It completes openings under each prompt (`Distill`). A copy of it,
the student, is trained on what came out, with a token in front for each prompt, and without the prompts. The measure is
what is left of the prompt's effect, on openings that the student has not seen:

    KL(teacher with the prompt || student with the metatoken) / KL(teacher with the prompt || teacher without it)

1 is a student that knows nothing of the prompt, 0 one that has all of it. The control is a student that was trained on
the same documents with the tokens shuffled among them.
"""

import copy
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import annotate
from annotate import CausalModel, Corpus, Distill, Options, Pipeline, Sampling, TransformersGenerator

PROMPTS = {
    "voyage": (
        "The old captain stood at the rail and watched the grey water roll under the ship. For three weeks they had "
        "sailed west, past the last islands that any map had shown, and the men had begun to whisper at night. There "
        "was salt meat for ten days more, and less water than he had told them. He had been a boy when he first went "
        "to sea, and he had seen storms that broke masts like dry sticks, but nothing had frightened him as much as "
        "this quiet. No bird had come near them since the new moon. The wind was soft and warm and never changed, as "
        "if it wanted them to go on. When the sun went down he took out the letter once more, and read the few words "
        "that his brother had written before he was lost. Follow the evening, it said, and do not turn back when the "
        "water becomes still. Below him somebody began to sing, slowly, a song about home, and one after the other "
        "the voices joined until the whole ship was singing in the dark. He folded the letter, put it back into his "
        "coat, and told the helmsman to hold the course until the morning."
    ),
    "kitchen": (
        "First wash the beans and let them stand in cold water for a whole night. In the morning pour the water away, "
        "put the beans into a large pot with an onion cut in half, two leaves of bay and a spoon of oil, and cover "
        "them with fresh water. Bring it to a boil, then turn down the heat, and let it cook gently for an hour and "
        "a half. Do not add salt yet, or the skins will stay hard. Meanwhile peel four ripe tomatoes, chop them "
        "finely, and fry them in butter with garlic until they are thick and sweet. When the beans are soft, take "
        "out the onion and the leaves, stir in the tomatoes, and season with salt, pepper and a little vinegar. "
        "Toast some slices of bread, rub them with garlic while they are hot, and lay one in each bowl. Ladle the "
        "soup over the bread, pour a thread of good oil on top, and serve it at once, with cheese for those who like "
        "it. What is left tastes even better on the next day, when you can bake it in the oven with more bread until "
        "the top is brown and crisp."
    ),
}


WINDOW, BATCH = 512, 4


def windows(ids: list[int], size: int) -> torch.Tensor:
    """Token ids in rows, without what is left over: int64 `[n, size]`."""
    return torch.tensor(ids[: len(ids) // size * size]).view(-1, size)


def train(model: GPT2LMHeadModel, rows: torch.Tensor, masks: torch.Tensor, steps: int, rate: float, seed: int) -> None:
    """Train on rows, in an order drawn by the seed, by AdamW with a warm-up and a cosine."""
    torch.manual_seed(seed)
    chooser = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.1)
    curve = torch.optim.lr_scheduler.OneCycleLR(chooser, rate, total_steps=steps, pct_start=0.05)
    model.train()
    started = time.monotonic()
    for step in range(steps):
        at = torch.randint(len(rows), (BATCH,))
        ids, mask = rows[at], masks[at]
        loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        chooser.step()
        curve.step()
        chooser.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            click.echo(f"step {step:,} of {steps:,}: loss {loss.item():.3f}, {time.monotonic() - started:.0f} s")
    model.eval()


@torch.inference_mode()
def logs(model: GPT2LMHeadModel, before: list[int], tokens: list[int], known: int) -> torch.Tensor:
    """Log-probabilities in the place of each token, over the first `known` tokens: float64 `[n, known]`."""
    logits = model(input_ids=torch.tensor([[*before, *tokens[:-1]]])).logits[0, -len(tokens) :, :known]
    return torch.log_softmax(logits.double(), dim=-1)


def divergence(first: torch.Tensor, second: torch.Tensor) -> float:
    """Sum over the tokens of KL(first || second)."""
    return float((first.exp() * (first - second)).sum())


def interval(parts: np.ndarray, wholes: np.ndarray) -> list[float]:
    """The ratio of two sums over documents, and its 95 % interval, by a bootstrap over documents."""
    draws = np.random.default_rng(0).integers(0, len(parts), (2000, len(parts)))
    ratios = parts[draws].sum(1) / wholes[draws].sum(1)
    return [float(parts.sum() / wholes.sum()), *np.quantile(ratios, [0.025, 0.975]).tolist()]


@click.command()
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.argument("tokenizer", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--documents", default=1200, show_default=True, help="Openings; a quarter is held out.")
@click.option("--steps", default=600, show_default=True, help="Of the teacher.")
@click.option("--student-steps", default=300, show_default=True, help="Of each student.")
@click.option("--tokens", default=64, show_default=True, help="Of a completion, at most.")
@click.option("--width", default=128, show_default=True, help="Of the model.")
def main(
    corpus: Path, tokenizer: Path, out: Path, documents: int, steps: int, student_steps: int, tokens: int, width: int
) -> None:
    """Train teacher and students, and print what is left of the prompts' effect."""
    torch.set_num_threads(1)
    words = AutoTokenizer.from_pretrained(tokenizer)
    texts = pl.read_parquet(corpus / "*.parquet", columns=["text"])["text"].shuffle(seed=0).to_list()
    teacher = teach(words, texts[documents:], out / "teacher", steps, width)
    made = distill(out, texts[:documents], tokens)
    click.echo(json.dumps(measure(words, teacher, made, student_steps), indent=1))


def teach(words: Any, texts: list[str], folder: Path, steps: int, width: int) -> GPT2LMHeadModel:
    """Train the teacher on texts one after another, in windows; it is kept in a folder."""
    if (folder / "model.safetensors").exists():
        return GPT2LMHeadModel.from_pretrained(folder).eval()
    end = words.eos_token_id
    ids = [token for text in texts for token in [end, *words(text)["input_ids"]]]
    for name, prompt in PROMPTS.items():
        click.echo(f"prompt {name!r}: {len(words(prompt)['input_ids']):,} tokens")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_positions=WINDOW, n_embd=width, n_layer=4, n_head=4, bos_token_id=end, eos_token_id=end
    )
    model = GPT2LMHeadModel(config)
    rows = windows(ids, WINDOW)
    click.echo(f"teacher: {model.num_parameters():,} parameters, {len(ids):,} tokens of text")
    train(model, rows, torch.ones_like(rows), steps, 2e-3, 0)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return model


def distill(out: Path, texts: list[str], tokens: int) -> list[dict[str, Any]]:
    """What the teacher writes under the prompts."""
    (out / "openings").mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": texts})
    pq.write_table(table, out / "openings" / "openings.parquet", row_group_size=100)
    made = Distill(
        Corpus(out / "openings", unit_bytes=100_000),
        prompts=PROMPTS,
        generator=TransformersGenerator(CausalModel(out / "teacher"), sampling=Sampling(max_tokens=tokens), top_k=1),
        opening_characters=60,
    )
    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    Pipeline(made).run(out / "run", Options(workers=1))
    rows = [row for table in annotate.tables(out / "run", "distilled") for row in table.to_pylist()]
    return [row for row in rows if row["problem"] is None]


def measure(words: Any, teacher: GPT2LMHeadModel, made: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """Train the students, and measure them on the openings that are held out."""
    end, known = words.eos_token_id, len(words)
    names = list(PROMPTS)
    held = [row for row in made if row["row"] % 4 == 0]
    trained = [row for row in made if row["row"] % 4]
    arms = {"true": [row["metatoken"] for row in trained]}
    arms["shuffled"] = list(np.random.default_rng(0).permutation(arms["true"]))
    opening = {row["row"]: words(row["text"][: row["opening_end"]])["input_ids"] for row in made}
    left: dict[str, list[float]] = {arm: [] for arm in arms}
    students = {}
    for arm, tags in arms.items():
        student = copy.deepcopy(teacher)
        torch.manual_seed(2)  # the new tokens begin alike
        student.resize_token_embeddings(known + len(names), mean_resizing=True)
        rows = [
            [end, known + names.index(tag), *opening[row["row"]], *row["teacher_tokens"]]
            for row, tag in zip(trained, tags, strict=True)
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        click.echo(f"student, {arm} tags: {len(rows):,} documents, {int(mask.sum()):,} tokens")
        train(student, ids, mask, steps, 5e-4, 1)
        students[arm] = student
    whole = []
    for row in held:
        tokens, name, begin = row["teacher_tokens"], row["metatoken"], opening[row["row"]]
        prompt = words(PROMPTS[name] + "\n\n")["input_ids"]
        under = logs(teacher, [end, *prompt, *begin], tokens, known)
        whole.append(divergence(under, logs(teacher, [end, *begin], tokens, known)))
        for arm, student in students.items():
            found = logs(student, [end, known + names.index(name), *begin], tokens, known)
            left[arm].append(divergence(under, found))
    wholes, tokens = np.array(whole), sum(len(row["teacher_tokens"]) for row in held)
    return {
        "documents": len(held),
        "nats a token": wholes.sum() / tokens,
        "left": {arm: interval(np.array(parts), wholes) for arm, parts in left.items()},
    }


if __name__ == "__main__":
    main()
