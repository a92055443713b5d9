"""Other ways to run MiniLM over a list of texts, each as its users would write it. `score.py` compares with them.

Those that give scores have a head with three random linear outputs on the encoder, as many as annotate's heads have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, TextClassificationPipeline

from annotate.models.base import Prepared
from annotate.models.batches import Batches

Job = Callable[[], Any]
OUTPUTS = 3


def write_classifier(encoder: Path, to: Path) -> Path:
    """Save the encoder with a classification head of random weights, and its tokenizer, in a folder."""
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=OUTPUTS).save_pretrained(to)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(to)
    return to


def bare_forward(encoder: Path, prepared: Prepared, pad_id: int, layers: int | None = None) -> Job:
    """The encoder alone, or its first layers, over tensors: texts are tokenized, sorted and batched beforehand."""
    model = AutoModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    model.encoder.layer = model.encoder.layer[:layers]
    batches = Batches(prepared, pad_id)
    inputs = []
    for start, stop in batches.ranges():
        batch = batches.read(start, stop)
        mask = None if batch.mask is None else torch.from_numpy(batch.mask)
        inputs.append((torch.from_numpy(batch.ids), mask))

    def forward() -> None:
        with torch.inference_mode():
            for ids, mask in inputs:
                model(input_ids=ids, attention_mask=mask)

    return forward


def transformers_pipeline(
    classifier: Path,
    batch_size: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
) -> Callable[[Sequence[str]], Any]:
    """The text-classification pipeline, asked for raw scores of all outputs."""
    model = AutoModelForSequenceClassification.from_pretrained(classifier, dtype=dtype)
    pipe = TextClassificationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(classifier), device=device)
    settings = {"truncation": True, "max_length": window, "top_k": None, "function_to_apply": "none"}
    return lambda texts: pipe(list(texts), batch_size=batch_size, **settings)


def sentence_transformers(
    encoder: Path, batch_size: int, window: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Callable[[Sequence[str]], Any]:
    """`SentenceTransformer.encode`: it sorts by length and pools, but has no heads."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoder), device=device, model_kwargs={"dtype": dtype})
    model.max_seq_length = window
    return lambda texts: model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)


class RayDataScorer:
    """The model in an actor of Ray Data's pool. It tokenizes a batch, sorts it by length, and scores it in slices."""

    def __init__(self, classifier: Path, rows: int, device: str, dtype: torch.dtype) -> None:
        torch.set_num_threads(1)
        self.rows, self.device = rows, device
        self.tokenizer = AutoTokenizer.from_pretrained(classifier)
        self.model = AutoModelForSequenceClassification.from_pretrained(classifier, dtype=dtype).to(device).eval()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Append the scores of a batch."""
        ids = self.tokenizer(batch["text"].to_pylist(), truncation=True)["input_ids"]
        order = np.argsort([len(row) for row in ids], kind="stable")
        scores = np.empty((len(ids), self.model.config.num_labels), np.float32)
        with torch.inference_mode():
            for start in range(0, len(ids), self.rows):
                some = order[start : start + self.rows]
                padded = self.tokenizer.pad({"input_ids": [ids[i] for i in some]}, return_tensors="pt").to(self.device)
                scores[some] = self.model(**padded).logits.float().cpu().numpy()
        for i in range(scores.shape[1]):
            batch = batch.append_column(f"score-{i}", pa.array(scores[:, i]))
        return batch


def ray_data(
    classifier: Path,
    texts: Sequence[str],
    out: Path,
    models: int,
    batch_size: int,
    rows: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Score texts with `map_batches` on a pool of actors of one torch thread each, and write Parquet."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Each batch is a block, so that all actors have work from the start.
    batch_size = min(batch_size, -(-len(texts) // models))
    blocks = [pa.table({"text": list(texts[i : i + batch_size])}) for i in range(0, len(texts), batch_size)]
    ray.data.from_arrow(blocks).map_batches(
        RayDataScorer,
        fn_constructor_args=(classifier, rows, device, dtype),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=models),
        num_cpus=0.9,
        num_gpus=int(device.startswith("cuda")),
    ).write_parquet(str(out))
