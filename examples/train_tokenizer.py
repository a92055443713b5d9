"""Trains a small tokenizer on a corpus, for the examples: a byte-level BPE, as GPT-2 has it, without a model hub.

    python examples/train_tokenizer.py demo-corpus out-example/tokenizer

The folder is what `--set tokenizer=out-example/tokenizer` takes.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import pyarrow.parquet as pq
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def texts(corpus: Path, column: str) -> Iterator[list[str]]:
    """The texts of a Parquet file, or of the Parquet files in a folder, some at a time."""
    for path in sorted(corpus.glob("*.parquet")) if corpus.is_dir() else [corpus]:
        for batch in pq.ParquetFile(path).iter_batches(columns=[column]):
            yield batch.column(column).drop_null().to_pylist()


def train(corpus: Path, column: str, size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` entries: all bytes, the token for the end of a document, and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts(corpus, column), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@click.command()
@click.argument("corpus", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--size", default=1024, show_default=True, type=click.IntRange(min=300), help="Entries.")
@click.option("--text", "column", default="text", show_default=True, help="The column of the texts.")
def main(corpus: Path, out: Path, size: int, column: str) -> None:
    """Train a tokenizer on CORPUS, a Parquet file or a folder of them, and save it in the folder OUT."""
    tokenizer = train(corpus, column, size)
    tokenizer.save_pretrained(out)
    click.echo(f"Wrote a tokenizer of {len(tokenizer):,} entries to {out}.")


if __name__ == "__main__":
    main()
