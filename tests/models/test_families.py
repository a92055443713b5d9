"""A test for each family of models that people name: its scores are those of its own code, in padded batches too.

The classes are the real ones, tiny and with random weights. Tokenizers have the special tokens of their family.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tiny_models import LABELS, WORDS
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from annotate.models.base import expand
from annotate.scorers import Classifier, RewardModel

TEXTS = [
    "you are an idiot .",
    "thank you , good dog !",
    "a dog",
    "hello",
    "the cat sat on the mat . " * 3,
    "the cat sat </s> on the mat",  # what a text must not be able to do: end the input before its end
    "bad dog " * 60,  # more than the window
]
WINDOW = 48

ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
MODERNBERT = {
    **ENCODER,
    "max_position_embeddings": WINDOW,
    "global_attn_every_n_layers": 2,
    "local_attention": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
BART = {
    "d_model": 32,
    **{f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in
       {"layers": 2, "attention_heads": 4, "ffn_dim": 48}.items()},
    "max_position_embeddings": WINDOW,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}  # fmt: skip
EOS = {"eos_token_id": 2, "decoder_start_token_id": 0}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
XLNET = {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "mem_len": 16}
OFFSET = {**ENCODER, "max_position_embeddings": WINDOW + 2}  # their positions begin after the padding id, which is 1
RELATIVE = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]}


@dataclass(frozen=True)
class Family:
    """A class, its configuration, and what its tokenizer puts round a text."""

    name: str
    settings: Mapping[str, Any]
    single: str = "<s> $A </s>"
    specials: Sequence[str] = ("<pad>", "<s>", "</s>", "<unk>")
    tokenizer: Mapping[str, Any] = field(default_factory=dict)


PAD_SECOND = ("<s>", "<pad>", "</s>", "<unk>")
TYPES = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
CLASSIFIERS = {
    "bert": Family("Bert", {**ENCODER, "max_position_embeddings": WINDOW}, tokenizer=TYPES),
    "bert-multi": Family("Bert", {**ENCODER, "problem_type": "multi_label_classification"}, tokenizer=TYPES),
    "roberta": Family("Roberta", OFFSET, specials=PAD_SECOND),
    "deberta-v2": Family("DebertaV2", {**ENCODER, **RELATIVE, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}),
    "xlm-roberta": Family("XLMRoberta", OFFSET, specials=PAD_SECOND),
    "mpnet": Family("MPNet", OFFSET, specials=PAD_SECOND),
    "modernbert": Family("ModernBert", MODERNBERT),
    "modernbert-mean": Family("ModernBert", {**MODERNBERT, "classifier_pooling": "mean"}),
    "longformer": Family("Longformer", {**OFFSET, "attention_window": [8, 8]}, specials=PAD_SECOND),
    "t5": Family("T5", T5, single="$A </s>"),
    "bart": Family("Bart", BART),
    # As XLNet's own: it pads on the left, and its last token is of a segment of its own.
    "xlnet": Family("XLNet", XLNET, single="$A:0 </s>:0 <s>:2", tokenizer={"padding_side": "left", **TYPES}),
}


def save(family: Family, directory: Any, tokenizer: Any, **settings: Any) -> str:
    """Write a model of a family, with random weights."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family.name}Config")(
        **{"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **family.settings, **settings}
    )
    model = getattr(transformers, f"{family.name}ForSequenceClassification")(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def of_words(family: Family) -> Any:
    """A tokenizer of words, with the special tokens of a family."""
    vocabulary = {word: i for i, word in enumerate([*family.specials, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(single=family.single, special_tokens=around)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=WINDOW, **names, **family.tokenizer
    )


def scored(scorers: Sequence[Any], texts: Sequence[str]) -> np.ndarray:
    """Scores of some texts, float32 `[n_scorers, n_texts]`."""
    backbone = scorers[0].resolved().backbone
    prepared = backbone.prepare(pa.table({"text": texts}))
    results = [expand(prepared, one) for one in backbone.load(scorers, "cpu")(prepared, range(len(scorers)))]
    assert not any(failures for _, failures in results)
    return np.stack([values[:, 0] for values, _ in results])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_is_as_in_transformers_pipeline(tmp_path, name):
    family = CLASSIFIERS[name]
    directory = save(family, tmp_path, of_words(family), **LABELS)
    reference = pipeline("text-classification", model=directory, top_k=None, device="cpu")
    expected = [{each["label"]: each["score"] for each in reference([text], truncation=True)[0]} for text in TEXTS]
    labels = list(LABELS["label2id"])
    for batch_tokens in (1, 4096):
        scorers = [
            Classifier(directory, axis=label, label=label, activation="auto", batch_tokens=batch_tokens)
            for label in labels
        ]
        assert scorers[0].backbone.window() == WINDOW
        found = scored(scorers, TEXTS)
        np.testing.assert_allclose(found.T, [[each[label] for label in labels] for each in expected], atol=2e-5)
    assert np.ptp(found[0]) > 1e-3  # the model tells the texts apart


DECODER = {**ENCODER, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
MESSAGES = "{% for m in messages %}"
CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    + MESSAGES
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
THINKS = CHATML.replace(
    "{{ m.content }}", "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content.lstrip('\\n') }}"
)
HEADERS = (
    "{{ bos_token }}<|head|>system<|end|>\n\nToday Date: {{ strftime_now('%d %b %Y') }}\n\n<|eot|>"
    + MESSAGES
    + "<|head|>{{ m.role }}<|end|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
)
TURNS = (
    "{{ bos_token }}"
    + MESSAGES
    + "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}"
)
INST = (
    "{{ bos_token }}"
    + MESSAGES
    + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
    + "{% endfor %}"
)
PLAIN = MESSAGES + "{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"


@dataclass(frozen=True)
class Reward:
    """A decoder with one logit, its template, and its special tokens; None: it has none of them."""

    name: str
    template: str
    bos: str | None
    eos: str
    pad: str | None
    more: Sequence[str] = ()
    adds_bos: bool = False
    settings: Mapping[str, Any] = field(default_factory=lambda: DECODER)


REWARDS = {
    "gpt2": Reward(
        "GPT2", PLAIN, "<eos>", "<eos>", None, settings={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    ),
    "llama": Reward("Llama", HEADERS, "<bos>", "<|eot|>", None, ("<|head|>", "<|end|>"), adds_bos=True),
    "llama-pad-is-eos": Reward("Llama", HEADERS, "<bos>", "<|eot|>", "<|eot|>", ("<|head|>", "<|end|>"), adds_bos=True),
    # Transformers takes its own class for Qwen2, which normalizes texts; what the file says is what counts.
    "qwen2": Reward("Qwen2", CHATML, None, "<|im_end|>", "<|endoftext|>", ("<|im_start|>",)),
    "qwen3": Reward("Qwen3", THINKS, None, "<|im_end|>", "<|endoftext|>", ("<|im_start|>",)),
    "qwen2-pad-is-eos": Reward("Qwen2", CHATML, None, "<|im_end|>", "<|im_end|>", ("<|im_start|>", "<|endoftext|>")),
    "gemma": Reward("Gemma", TURNS, "<bos>", "<eos>", "<pad>", ("<turn>", "<end>"), adds_bos=True),
    "gemma2": Reward(
        "Gemma2", TURNS, "<bos>", "<eos>", "<pad>", ("<turn>", "<end>"), adds_bos=True,
        settings={**DECODER, "sliding_window": 16},
    ),
    "mistral": Reward(
        "Mistral", INST, "<bos>", "<eos>", None, adds_bos=True, settings={**DECODER, "sliding_window": 16}
    ),
}  # fmt: skip


def of_bytes(reward: Reward) -> Any:
    """A tokenizer of bytes with the special tokens of a family, which knows all that templates write."""
    specials = list(dict.fromkeys(t for t in (reward.pad, reward.bos, reward.eos, *reward.more) if t))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    if reward.adds_bos:
        first = [(reward.bos, made.token_to_id(reward.bos))]
        made.post_processor = processors.TemplateProcessing(single=f"{reward.bos} $A", special_tokens=first)
    names = {"bos_token": reward.bos, "eos_token": reward.eos, "pad_token": reward.pad}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        chat_template=reward.template,
        **{key: token for key, token in names.items() if token},
    )


ANSWERS = ["yes", "No, I can't.", "Thank you. " * 12, "Two\n\nlines, über <eos> all", "  blanks round it \n"]


def as_on_the_card(directory: str, prompt: str, answer: str) -> float:
    """How cards of reward models say that they score: one conversation, and no second first token."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    written = tokenizer.apply_chat_template(messages, tokenize=False)
    if tokenizer.bos_token is not None and written.startswith(tokenizer.bos_token):
        written = written[len(tokenizer.bos_token) :]
    inputs = tokenizer(written, return_tensors="pt")
    with torch.inference_mode():
        return model(inputs["input_ids"]).logits[0][0].item()


@pytest.fixture(autouse=True)
def today(monkeypatch):
    """The day that Transformers gives to templates: ours, unless a test sets another."""

    def choose(*day):
        fixed = type("Fixed", (datetime.datetime,), {"now": classmethod(lambda cls, tz=None: cls(*day))})
        monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", fixed)

    choose(2024, 7, 26)
    return choose


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_model_is_as_on_its_card(tmp_path, name):
    reward = REWARDS[name]
    tokenizer = of_bytes(reward)
    pad = None if reward.pad is None else tokenizer.pad_token_id
    directory = save(reward, tmp_path, tokenizer, num_labels=1, pad_token_id=pad)
    prompt = "Explain it, please!"
    expected = [as_on_the_card(directory, prompt, answer) for answer in ANSWERS]
    for batch_tokens in (1, 8192):
        scorer = RewardModel(directory, axis="helpful", prompt=prompt, batch_tokens=batch_tokens)
        np.testing.assert_allclose(scored([scorer], ANSWERS)[0], expected, atol=2e-5)
    assert np.ptp(expected) > 1e-3
    prepared = scorer.backbone.prepare(pa.table({"text": ANSWERS[:1]}))
    if reward.bos is not None and reward.bos != reward.eos:
        assert prepared.arrays["ids"].tolist().count(tokenizer.bos_token_id) == 1


def test_another_date_gives_another_score(tmp_path, today):
    directory = save(REWARDS["llama"], tmp_path, of_bytes(REWARDS["llama"]), num_labels=1, pad_token_id=None)
    before = as_on_the_card(directory, "Hello", ANSWERS[1])
    today(2025, 12, 1)
    expected = as_on_the_card(directory, "Hello", ANSWERS[1])
    scorer = RewardModel(directory, axis="helpful", prompt="Hello", date="2025-12-01")
    assert scored([scorer], ANSWERS[1:2])[0] == pytest.approx([expected], abs=2e-5)
    assert before != pytest.approx(expected, abs=1e-4)
