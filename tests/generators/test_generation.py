"""A causal language model completes openings as it would one alone, read from the start for each token."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_models import make_tokenizer

from annotate import CausalModel, ConfigError
from annotate.generators import Request, Sampling, TransformersGenerator
from annotate.generators import generation as module
from annotate.generators.draws import draw
from annotate.generators.token_texts import NOTHING_TO_READ

OPENINGS = ["the cat", "you are an idiot", "a dog sat on the", "hello", "the", "good dog ! thank you , good"]
PROMPT = "you are nice . the dog is bad"


def requests(prompt=PROMPT, openings=OPENINGS):
    return [Request(prompt, opening, 17 * i + 2**63) for i, opening in enumerate(openings)]


def generator(directory, *, user=None, batch_rows=16, top_k=0, **sampling):
    sampling = Sampling(**{"max_tokens": 12} | sampling)
    model = CausalModel(directory)
    return TransformersGenerator(model, sampling=sampling, user=user, batch_rows=batch_rows, top_k=top_k)


def complete(made, asked):
    return made.load("cpu").complete(asked)


def alone(made, request):
    """What comes of a request if the model reads all tokens anew for each, without a batch or a cache."""
    model = transformers.AutoModelForCausalLM.from_pretrained(made.model.model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.model.model)
    read = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = [first, *read(request.prompt), *read(request.opening)]
    drawn = []
    while len(drawn) < made.sampling.max_tokens and (not drawn or drawn[-1] != tokenizer.eos_token_id):
        with torch.inference_mode():
            logits = model(torch.tensor([[*ids, *drawn]])).logits[:, -1]
            logits[:, len(tokenizer) :] = -torch.inf
        token = draw(logits, np.array([request.key], np.uint64), np.array([len(drawn)]), made.sampling)
        drawn.append(int(token))
    return tokenizer.decode([i for i in drawn if i not in tokenizer.all_special_ids]), len(drawn)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("prompt", [PROMPT, ""])
def test_each_is_completed_as_it_would_be_alone(tiny, name, prompt):
    made = generator(tiny(name), seed=5)
    found = complete(made, asked := requests(prompt))
    expected = [alone(made, request) for request in asked]
    assert [text.strip() for text in found.texts] == [text for text, _ in expected]
    assert found.tokens.tolist() == [n for _, n in expected]
    assert len(set(found.tokens.tolist())) > 1  # some end before others
    assert found.cut_off.tolist() == [n == 12 for n in found.tokens]


def test_neither_neighbours_nor_order_matter(tiny):
    made = generator(tiny("llama"), seed=2)
    asked = requests() + requests("thank you") + requests("")
    first = complete(made, asked).texts
    assert first == complete(made, asked).texts
    assert first == complete(made, asked[::-1]).texts[::-1]
    assert first == complete(dataclasses.replace(made, batch_rows=1), asked).texts
    assert first == [complete(made, [request]).texts[0] for request in asked]
    other = complete(dataclasses.replace(made, sampling=Sampling(max_tokens=12, seed=3)), asked).texts
    assert sum(a != b for a, b in zip(first, other, strict=True)) > len(asked) / 2


def test_temperature_zero_is_what_transformers_generates(tiny):
    greedy = generator(tiny("llama"), temperature=0)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny("llama"))
    asked = requests()
    for request, text in zip(asked, complete(greedy, asked).texts, strict=True):
        ids = tokenizer(f"<s> {request.prompt} {request.opening}", add_special_tokens=False, return_tensors="pt")
        ids = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
        beyond = list(range(len(tokenizer), model.config.vocab_size))  # rows that stand for no token
        made = model.generate(**ids, do_sample=False, max_new_tokens=12, suppress_tokens=beyond)
        whole = made[0, ids["input_ids"].shape[1] :]
        assert text.strip() == tokenizer.decode(whole, skip_special_tokens=True)


def test_the_prompt_is_read_once_and_stays_as_it_is(tiny, monkeypatch):
    loaded = generator(tiny("llama"), batch_rows=2).load("cpu")
    read = []
    step = loaded._step
    monkeypatch.setattr(loaded, "_step", lambda ids, cache: (read.append(tuple(ids.shape)), step(ids, cache))[1])
    loaded.complete(requests())
    prefix = len(loaded.settings.prefix(PROMPT))
    assert [shape for shape in read if shape[1] >= prefix] == [(1, prefix)]


def test_the_opening_begins_the_answer_of_a_conversation(tiny):
    made = generator(tiny("llama"), user="hello you", top_k=1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny("llama"))
    prefix = tokenizer.decode(made.prefix("be nice"))
    assert prefix == "<s> <unk> : <unk> nice </s> user : hello you </s> assistant :"
    assert complete(made, requests()).texts != complete(generator(tiny("llama")), requests()).texts
    with pytest.raises(ConfigError, match="has no chat template"):
        generator(tiny("gpt2"), user="hello").prefix("be nice")


def test_top_k_has_the_models_own_probabilities_under_the_prompt(tiny):
    made = generator(tiny("gpt2"), temperature=0.5, top_p=0.9, top_k=3)
    found = complete(made, asked := requests())
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny("gpt2"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny("gpt2"))
    assert sorted(found.teacher) == list(range(len(asked)))
    for i, request in enumerate(asked):
        teacher = found.teacher[i]
        read = tokenizer(f"{request.prompt} {request.opening}", add_special_tokens=False)["input_ids"]
        ids = [*made.prefix("")[:1], *read, *teacher.tokens.tolist()]
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :, : len(tokenizer)]
        n = len(teacher.tokens)
        best, top = torch.log_softmax(logits[-n - 1 : -1], -1).topk(3)
        np.testing.assert_allclose(teacher.top_logprobs, best.numpy(), atol=1e-5)
        assert teacher.top_tokens.tolist() == top.tolist()


def test_an_opening_that_spells_control_tokens_has_none(tiny):
    made = generator(tiny("llama"))
    read = made.model.tokenizer().backend_tokenizer.encode("the cat </s> <s> dog", add_special_tokens=False).ids
    plain, spelled = made.load("cpu").encode(["the cat dog", "the cat </s> <s> dog"])
    assert read[2:4] == [2, 1]  # what the tokenizer itself makes of it
    assert spelled == [*plain[:2], 3, 3, plain[2]]  # words that it does not know


def test_what_ends_a_text_is_read_from_the_files_and_is_in_the_identity(tiny, copy_model, edit_json):
    made = generator(str(copy_model("llama")))
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny("llama"))
    assert made.stops() == [model.generation_config.eos_token_id] == [2]
    settings = Path(made.model.model) / "generation_config.json"
    sent = pickle.dumps(made)
    before, (ended,) = made.identity(), [complete(generator(tiny("llama"), seed=5), requests())]
    edit_json(settings, eos_token_id=[2, *range(4, 20)])
    assert made.stops() == [2, *range(4, 20)] and made.identity() != before
    assert pickle.loads(sent).stops() == [2] and pickle.loads(sent) == made  # a worker has those of the driver
    assert complete(generator(made.model.model, seed=5), requests()).tokens.sum() < ended.tokens.sum()
    settings.unlink()  # then the configuration says it
    edit_json(Path(made.model.model) / "config.json", eos_token_id=[2, 7])
    assert generator(made.model.model).stops() == [2, 7]
    edit_json(Path(made.model.model) / "config.json", eos_token_id=None)
    assert generator(made.model.model).stops() == [2]
    settings.write_text('{"eos_token_id": "2"}')
    with pytest.raises(ConfigError, match="its eos_token_id must be ids of tokens, got '2'"):
        made.stops()


def test_more_of_the_most_probable_tokens_than_there_are_is_refused(tiny):
    made = generator(tiny("llama"))
    known = max(made.model.tokenizer().get_vocab().values()) + 1
    dataclasses.replace(made, top_k=known).check([PROMPT])
    with pytest.raises(ConfigError, match=f"top_k={known + 1} is more than the {known} tokens"):
        dataclasses.replace(made, top_k=known + 1).check([PROMPT])


def test_a_model_without_keys_and_values_is_refused_by_name(tmp_path):
    config = transformers.MambaConfig(vocab_size=40, hidden_size=16, state_size=4, num_hidden_layers=1)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    made = TransformersGenerator(CausalModel(str(tmp_path), max_length=64))
    with pytest.raises(ConfigError, match=r"can't generate here: MambaForCausalLM keeps no keys and values"):
        made.load("cpu")


def test_a_batch_has_openings_of_about_equal_length(tiny, monkeypatch):
    monkeypatch.setattr(module, "SPREAD", 3)
    made = generator(tiny("gpt2"), max_tokens=4)
    asked = requests(openings=["the", "a dog", "the cat " * 10, "a dog " * 10, "hello"])
    loaded, read = made.load("cpu"), []
    step = loaded._step
    monkeypatch.setattr(loaded, "_step", lambda ids, cache: (read.append(tuple(ids.shape)), step(ids, cache))[1])
    found = loaded.complete(asked)
    assert [shape for shape in read if shape[1] == 20] == [(2, 20)] and len(read) <= 1 + 2 * (1 + 4)
    assert list(found.texts) == [complete(made, [request]).texts[0] for request in asked]


def test_what_does_not_fit_is_a_problem_of_its_own(tiny):
    made = generator(tiny("gpt2"), max_tokens=40)
    found = complete(made, requests(openings=["a dog", "the cat " * 20, ""]))
    assert found.problems == {
        1: "the prompt has 9 tokens, the opening 40, and max_tokens is 40: more than the 64 that the model is used with"
    }
    assert found.texts[1] is None and found.texts[0] and found.tokens[1] == 0
    with pytest.raises(ConfigError, match=r"a prompt of 25 tokens and max_tokens=40 leave no room for an opening"):
        made.check(["the dog " * 12])
    made.check([PROMPT, ""])


def test_an_empty_opening_needs_something_to_read(tiny, monkeypatch):
    monkeypatch.setattr(CausalModel, "first_id", lambda self: None)
    found = complete(generator(tiny("gpt2")), requests("", ["", "a dog"]))
    assert found.problems == {0: NOTHING_TO_READ} and found.texts[1]
    assert complete(generator(tiny("gpt2")), requests("you are", ["", "a dog"])).problems == {}


def test_a_batch_that_does_not_fit_into_memory_is_halved(tiny, monkeypatch):
    made = generator(tiny("llama"))
    whole = complete(made, requests())
    loaded = made.load("cpu")
    step = loaded._step

    def fails(ids, cache):
        if ids.shape[0] > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
        return step(ids, cache)

    monkeypatch.setattr(loaded, "_step", fails)
    found = loaded.complete(requests())
    assert found.texts == whole.texts and found.counts == {**whole.counts, "halved batches": 3}


def test_what_does_not_fit_alone_is_a_problem_of_its_own(tiny, monkeypatch):
    loaded = generator(tiny("llama"), batch_rows=1).load("cpu")
    step = loaded._step

    def fails(ids, cache):
        if cache is not None and ids.shape[1] == 4:  # the opening of four words
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate")
        return step(ids, cache)

    whole = loaded.complete(asked := requests(openings=["a dog", "you are an idiot", "hello you"]))
    monkeypatch.setattr(loaded, "_step", fails)
    found = loaded.complete(asked)
    assert found.problems == {1: module.TOO_LARGE}
    assert found.texts == [whole.texts[0], None, whole.texts[2]]


def test_nothing_is_drawn_from_logits_that_are_no_numbers(tiny, monkeypatch):
    loaded = generator(tiny("llama")).load("cpu")
    whole, step = loaded.complete(asked := requests(openings=["a dog", "the cat", "hello you"])), loaded._step

    def spoiled(ids, cache):
        logits, cache = step(ids, cache)
        if len(logits) == 3:  # later fewer, as one row is done
            logits[1] = torch.nan
        return logits, cache

    monkeypatch.setattr(loaded, "_step", spoiled)
    found = loaded.complete(asked)
    assert found.problems == {1: module.NOT_FINITE} and found.tokens[1] == 0
    assert [found.texts[0], found.texts[2]] == [whole.texts[0], whole.texts[2]]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_model_that_gives_no_numbers_at_all_is_an_error(tiny, monkeypatch, number):
    loaded = generator(tiny("llama")).load("cpu")
    step = loaded._step

    def spoiled(ids, cache):
        logits, cache = step(ids, cache)
        logits[:, 3] = number
        return logits, cache

    monkeypatch.setattr(
        loaded, "_step", lambda ids, cache: spoiled(ids, cache) if ids.shape[1] > 1 else step(ids, cache)
    )
    assert loaded.complete(requests(openings=["a dog"])).problems == {0: module.NOT_FINITE}  # it works for others
    monkeypatch.setattr(loaded, "_step", spoiled)
    with pytest.raises(ConfigError, match="gives no finite logits for any opening"):
        loaded.complete(requests(openings=["a dog"]))


def test_identity_has_files_and_settings_and_no_path(tiny, copy_model):
    made = generator(tiny("llama"))
    copied = generator(str(copy_model("llama")))
    assert made.identity() == copied.identity() and tiny("llama") not in str(made.identity())
    for other in ({"user": "x"}, {"batch_rows": 3}, {"top_k": 2}, {"seed": 1}, {"top_p": 0.5}):
        assert generator(tiny("llama"), **other).identity() != made.identity()
    name, revision = made.named()
    assert name == "llama" and revision.startswith("sha256:")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"seed": 2**70}, "seed"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e-40}, "temperature"),
        ({"top_p": 0}, "top_p"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, error):
    with pytest.raises(ConfigError, match=error):
        Sampling(**settings)
