"""SafeBeam against a plain reference, and on a model whose risks are known."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tagged_model import tokenizer_of, untrained

from annotate.errors import ConfigError
from annotate.inference import safe_beam
from annotate.training import add_tag_embeddings


class Table:
    """A model that is a table: the probabilities of the next token by the last one."""

    def __init__(self, probabilities: torch.Tensor) -> None:
        self.logs = probabilities.log()
        self.device = torch.device("cpu")

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logs[input_ids], past_key_values=SimpleNamespace(reorder_cache=len))


def test_the_likeliest_way_is_left_where_the_tag_is_near(files: Path) -> None:
    """After token 10 the avoided tag is likely; 10 is the likeliest way on, 11 the next."""
    known = tokenizer_of(files)
    nice = known.convert_tokens_to_ids("<nice>")
    table = torch.full((128, 128), 1e-6)
    start = known.encode("one", add_special_tokens=False)[-1]
    table[start, 10], table[start, 11] = 0.6, 0.4
    table[10, nice], table[10, 12] = 0.5, 0.5
    table[11, nice], table[11, 13] = 0.01, 0.99
    table[12, 0] = table[13, 0] = 1.0
    options = {"max_new_tokens": 5, "beams": 1, "candidates": 2}
    safe = safe_beam(Table(table), known, str(files), "one", avoid="nice", **options)
    bold = safe_beam(Table(table), known, str(files), "one", avoid="nice", discard=0.0, **options)
    assert safe.text == known.decode([11, 13]) and safe.risk == pytest.approx(0.01, abs=1e-3)
    assert bold.text == known.decode([10, 12]) and bold.risk == pytest.approx(0.5, abs=1e-3)
    assert safe.tokens == 3  # with the end of the document
    assert safe.log_likelihood == pytest.approx(math.log(0.4), abs=1e-2)


def test_it_is_the_plain_algorithm(files: Path) -> None:
    known = tokenizer_of(files)
    model = untrained(files)
    add_tag_embeddings(model, known, str(files))
    with torch.no_grad():
        model.transformer.wte.weight *= 20  # so that probabilities differ
    tags = known.convert_tokens_to_ids(["<wiki>", "<nice>", "<true>", "</true>"])
    avoided = known.convert_tokens_to_ids(["<nice>", "<true>"])

    def logits(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0, -1]

    def after(ids: list[int]) -> torch.Tensor:
        banned = logits(ids)
        banned[tags] = -torch.inf
        return torch.log_softmax(banned, -1)

    start = known.encode("one two", add_special_tokens=False)
    going, steps = [(list[int](), 0.0)], 6
    for step in range(steps):
        found = []
        for ids, log in going:
            logs = after([*start, *ids])
            best = torch.argsort(logs, descending=True)[: 3 * 4 if step == 0 else 4].tolist()
            found += [([*ids, i], log + float(logs[i])) for i in best if i != 0]
        found.sort(key=lambda each: -each[1])
        risk = [float(torch.softmax(logits([*start, *ids]), -1)[avoided].sum()) for ids, _ in found]
        dropped = set(sorted(range(len(found)), key=lambda i: -risk[i])[: len(found) // 2])
        going = [each for i, each in enumerate(found) if i not in dropped][:3]
    made = safe_beam(
        model, known, str(files), "one two", avoid=["nice", "true"], max_new_tokens=steps, beams=3, candidates=4
    )
    best = max(going, key=lambda each: each[1])
    assert made.text == known.decode(best[0])
    assert made.log_likelihood == pytest.approx(best[1], abs=1e-4)
    assert made.tokens == steps


def test_what_can_not_be_avoided_is_refused(files: Path, tmp_path: Path) -> None:
    known = tokenizer_of(files)
    model = Table(torch.full((128, 128), 1 / 128))
    with pytest.raises(ConfigError, match="no tag 'unsafe'"):
        safe_beam(model, known, str(files), "one", avoid="unsafe", max_new_tokens=3)
    with pytest.raises(ConfigError, match="no tag to avoid"):
        safe_beam(model, known, str(files), "one", avoid=(), max_new_tokens=3)
    with pytest.raises(ConfigError, match="neither a text"):
        safe_beam(model, known, str(files), "", avoid="nice", max_new_tokens=3)
    with pytest.raises(ConfigError, match="discard"):
        safe_beam(model, known, str(files), "one", avoid="nice", max_new_tokens=3, discard=1.0)
    with pytest.raises(ConfigError, match="candidates is at least 1"):
        safe_beam(model, known, str(files), "one", avoid="nice", max_new_tokens=3, candidates=0)
    masked = tmp_path / "masked"
    shutil.copytree(files, masked)
    card = json.loads((masked / "tags.json").read_text())
    card["shards"]["loss"] = "mask"
    (masked / "tags.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="only where tags are targets"):
        safe_beam(model, known, str(masked), "one", avoid="nice", max_new_tokens=3)
