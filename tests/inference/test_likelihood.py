"""How likely spans are under tags, against a plain loop over tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tagged_model import tokenizer_of, untrained

from annotate import ConfigError
from annotate.inference import log_likelihood
from annotate.training import add_tag_embeddings

TEXTS = ["One two, three four five. Nice words and others!", "The end"]
SPANS = [["One two, three four five.", " Nice words and others!"], ["The end"]]


@pytest.fixture(scope="module")
def model(files: Path) -> Any:
    made = untrained(files)
    add_tag_embeddings(made, tokenizer_of(files), str(files))
    return made


@pytest.mark.parametrize("tags", ["nice", [], "ideal"])
@pytest.mark.parametrize("batch_size", [1, 8])
def test_spans_have_the_sum_of_their_tokens(files: Path, model: Any, tags: Any, batch_size: int) -> None:
    known = tokenizer_of(files)
    found = log_likelihood(model, known, str(files), TEXTS, tags, batch_size=batch_size)
    assert found.column_names == ["document", "byte_start", "byte_end", "tokens", "log_likelihood"]
    names = ["<nice>", "<true>"] if tags == "ideal" else [f"<{tags}>"] if tags else []
    opened, closed = known.convert_tokens_to_ids(names), known.convert_tokens_to_ids(["</true>"] * (tags == "ideal"))
    expected = []
    for spans in SPANS:
        ids, counted = [], []
        for i, span in enumerate(spans):
            before = [*(closed if i else []), *opened]
            tokens = known(span, add_special_tokens=False)["input_ids"]
            ids += [*before, *tokens]
            counted += [*([-1] * len(before)), *([i] * len(tokens))]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        logits[:, known.convert_tokens_to_ids(["<wiki>", "<nice>", "<true>", "</true>"])] = -torch.inf
        logs = torch.log_softmax(logits, -1)
        counted[counted.index(0)] = -1  # the first token of the text
        for i in range(len(spans)):
            places = [k for k, span in enumerate(counted) if span == i]
            expected.append((len(places), sum(logs[k - 1, ids[k]].item() for k in places)))
    assert found["document"].to_pylist() == [0, 0, 1]
    assert found["byte_end"].to_pylist() == [25, 48, 7]
    assert found["tokens"].to_pylist() == [n for n, _ in expected]
    assert np.allclose(found["log_likelihood"].to_numpy(), [value for _, value in expected], atol=1e-4)


def test_what_does_not_fit_is_named(files: Path, model: Any) -> None:
    known = tokenizer_of(files)
    with pytest.raises(ConfigError, match="text 1 is empty"):
        log_likelihood(model, known, str(files), ["a", ""])
    for tags in ((), "nice"):
        with pytest.raises(ConfigError, match="text 1 is empty, or the tokenizer drops all"):
            log_likelihood(model, known, str(files), ["a", "~"], tags)
    with pytest.raises(ConfigError, match="the model has 256 positions"):
        log_likelihood(model, known, str(files), ["One two. " * 200], "nice")
    with pytest.raises(ConfigError, match="there is no tag"):
        log_likelihood(model, known, str(files), ["a"], "kind")


def test_a_model_that_expects_tags_finds_text_without_them_as_likely(files: Path, model: Any) -> None:
    """Tags that did not come are no fault of the text."""
    known = tokenizer_of(files)
    before = log_likelihood(model, known, str(files), TEXTS)["log_likelihood"].to_numpy()
    nice = known.convert_tokens_to_ids("<nice>")

    class Expecting:
        device, config = model.device, model.config

        def __call__(self, **inputs: Any) -> Any:
            out = model(**inputs)
            out.logits[..., nice] += 20
            return out

    after = log_likelihood(Expecting(), known, str(files), TEXTS)["log_likelihood"].to_numpy()
    assert np.allclose(after, before, atol=1e-5)
