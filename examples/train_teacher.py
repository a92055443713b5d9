"""Trains a small model that reads what stands before: a teacher for metatokens, where no model hub can be reached.

    python examples/train_teacher.py demo-corpus tokenizer teacher

A model reads its prompt only if reading far back has paid while it was trained. So each window has documents of one
package, or of two, which stand near each other there: what was said before is what comes again. The model is a Llama,
since rotary positions let small models look back soon.

Every 250 steps it is saved, and it says how much likelier the end of a window is than its beginning.
"""

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup
from transformers.utils import logging

WINDOW, BATCH = 512, 8
NEAR = 12  # documents to either side, in the order of their ids: mostly those of one module
TOKENS = 40, 200  # of a document, before the next one stands
TOLD_EVERY = 50  # steps
SAVED_EVERY = 250


class Windows:
    """Draws windows of documents that stand together in the corpus."""

    def __init__(self, tokenizer: Any, table: pl.DataFrame, seed: int) -> None:
        self.end, self.blank = tokenizer.eos_token_id, tokenizer("\n\n")["input_ids"]
        table = table.sort("id")
        self.texts = [tokenizer(text)["input_ids"][: TOKENS[1]] for text in table["text"]]
        sources = table.with_row_index().group_by("source", maintain_order=True).agg("index")["index"]
        self.sources = [rows.to_numpy() for rows in sources]
        sizes = np.array([sum(len(self.texts[row]) for row in rows) for rows in self.sources], np.float64)
        self.shares = sizes / sizes.sum()
        self.draw = np.random.default_rng(seed)

    def window(self) -> list[int]:
        """Token ids of one or two places in the corpus, in turns by chance."""
        draw, places = self.draw, []
        for _ in range(1 if draw.random() < 0.65 else 2):
            rows = self.sources[draw.choice(len(self.sources), p=self.shares)]
            places.append((rows, int(draw.integers(len(rows)))))
        ids = [self.end]
        while len(ids) < WINDOW:
            rows, at = places[draw.integers(len(places))]
            row = rows[np.clip(at + draw.integers(-NEAR, NEAR + 1), 0, len(rows) - 1)]
            ids += [*self.texts[row][: int(draw.integers(*TOKENS))], *self.blank]
        return ids[:WINDOW]

    def batch(self) -> torch.Tensor:
        """int64 `[BATCH, WINDOW]`."""
        return torch.tensor([self.window() for _ in range(BATCH)])


def new_model(tokenizer: Any, width: int, layers: int) -> LlamaForCausalLM:
    """A Llama without training, with heads of 40 or so."""
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 40),
            max_position_embeddings=2 * WINDOW,
            tie_word_embeddings=True,
            bos_token_id=end,
            eos_token_id=end,
        )
    )


@click.command()
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.argument("tokenizer", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=2400, show_default=True, help="Of 8 windows of 512 tokens.")
@click.option("--width", default=160, show_default=True, help="Of the model.")
@click.option("--layers", default=4, show_default=True, help="Of the model.")
@click.option("--rate", default=3e-3, show_default=True, help="The highest learning rate.")
def main(corpus: Path, tokenizer: Path, out: Path, steps: int, width: int, layers: int, rate: float) -> None:
    """Train the teacher on the corpus, and keep it in the folder OUT."""
    logging.disable_progress_bar()
    words = AutoTokenizer.from_pretrained(tokenizer)
    windows = Windows(words, pl.read_parquet(corpus / "*.parquet", columns=["id", "text", "source"]), seed=0)
    model = new_model(words, width, layers)
    click.echo(f"{model.num_parameters():,} parameters, {sum(map(len, windows.texts)):,} tokens of text")
    matrices, others = (
        [each for each in model.parameters() if (each.dim() > 1) == is_matrix] for is_matrix in (True, False)
    )
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    chooser = torch.optim.AdamW(groups, rate, betas=(0.9, 0.95))
    curve = get_cosine_schedule_with_warmup(chooser, steps // 20, steps)
    started, lately = time.monotonic(), []
    for step in range(1, steps + 1):
        ids = windows.batch()
        logits = model(ids[:, :-1]).logits
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        losses.mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        chooser.step()
        curve.step()
        chooser.zero_grad()
        lately.append((losses[:, : WINDOW // 4].mean().item(), losses[:, -WINDOW // 4 :].mean().item()))
        if step % TOLD_EVERY == 0 or step == steps:
            first, last = np.mean(lately, axis=0)
            lately.clear()
            taken = time.monotonic() - started
            click.echo(
                f"step {step:,} of {steps:,}: loss {first:.3f} in the first quarter of windows, {last:.3f} in the "
                f"last; {taken:.0f} s, about {taken / step * (steps - step):.0f} s left"
            )
        if step % SAVED_EVERY == 0 or step == steps:
            model.save_pretrained(out)
            words.save_pretrained(out)


if __name__ == "__main__":
    main()
