"""What a prompt changes is the divergence of the model's own probabilities; none where it changes nothing."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers

from annotate import CausalModel
from annotate.generators import Request, Sampling, TransformersGenerator
from annotate.generators.prompt_effect import load_to_read, prompt_effect

OPENINGS = ["the cat", "you are an idiot", "hello"]


def generator(directory):
    return TransformersGenerator(CausalModel(directory), sampling=Sampling(max_tokens=8, temperature=0.7, top_p=0.9))


def requests(prompt):
    return [Request(prompt, opening, i) for i, opening in enumerate(OPENINGS)]


def test_it_is_the_mean_over_tokens_of_the_exact_divergence(tiny):
    made, prompt = generator(tiny("gpt2")), "you are nice . good dog !"
    told = []
    found = prompt_effect(load_to_read(made, "cpu"), requests(prompt), tell=lambda *far: told.append(far))
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny("gpt2")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny("gpt2"))
    known, sums, tokens, changed = len(tokenizer), 0.0, 0, 0
    teacher = dataclasses.replace(made, top_k=1).load("cpu").complete(requests(prompt)).teacher
    for i, opening in enumerate(OPENINGS):
        drawn = teacher[i].tokens.tolist()
        logs = []
        for before in (f"{prompt} {opening}", opening):
            read = [2, *tokenizer(before, add_special_tokens=False)["input_ids"], *drawn]
            with torch.inference_mode():
                logits = model(torch.tensor([read])).logits[0, :, :known].double()
            logs.append(torch.log_softmax(logits, -1)[-len(drawn) - 1 : -1].numpy())
        sums += (np.exp(logs[0]) * (logs[0] - logs[1])).sum()
        changed += (logs[0].argmax(-1) != logs[1].argmax(-1)).sum()
        tokens += len(drawn)
    assert found.divergence == pytest.approx(sums / tokens, rel=1e-4)
    assert (found.documents, found.tokens) == (3, tokens) and found.changed == pytest.approx(changed / tokens)
    assert told == [(3, 6), (3, 6), (4, 6), (5, 6)]
    assert 0 < found.low <= found.divergence <= found.high


def test_without_a_prompt_nothing_is_changed(tiny):
    found = prompt_effect(load_to_read(generator(tiny("llama")), "cpu"), requests(""))
    assert found.divergence == found.low == found.high == found.changed == 0


def test_openings_that_do_not_fit_give_no_figure(tiny):
    assert prompt_effect(load_to_read(generator(tiny("gpt2")), "cpu"), [Request("", "the cat " * 40, 1)]) is None
