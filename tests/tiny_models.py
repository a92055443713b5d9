"""Tiny models with random weights, saved as a user's would be."""

from pathlib import Path

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = """the a cat dog sat ran on mat nice idiot you are is thank good bad . , ! user assistant : hello""".split()  # noqa: SIM905
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
CHAT = "{{ bos_token }}{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} </s>{% endfor %}"
CHAT_ANSWER = CHAT + "{% if add_generation_prompt %}assistant : {% endif %}"


def make_tokenizer(*, bos=True, eos=True, **settings):
    """Words, with `<s>` before and `</s>` after where asked for."""
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    left, right = ("<s> " if bos else ""), (" </s>" if eos else "")
    if bos or eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{left}$A{right}",
            pair=f"{left}$A{right} $B:1{right.replace('</s>', '</s>:1')}",
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"} | settings
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{k: v for k, v in names.items() if v is not None}
    )


SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
LABELS = {"id2label": {0: "toxic", 1: "neutral", 2: "nice"}, "label2id": {"toxic": 0, "neutral": 1, "nice": 2}}
# By name: the classes of a model are not imported before it is built.
BUILDERS = {
    "bert": ("BertForSequenceClassification", "BertConfig", {"max_position_embeddings": 64, **LABELS}),
    "bert-multi": (
        "BertForSequenceClassification",
        "BertConfig",
        {"max_position_embeddings": 64, "problem_type": "multi_label_classification", **LABELS},
    ),
    "bert-single": ("BertForSequenceClassification", "BertConfig", {"max_position_embeddings": 64, "num_labels": 1}),
    "bert-regression": (
        "BertForSequenceClassification",
        "BertConfig",
        {"max_position_embeddings": 64, "num_labels": 1, "problem_type": "regression"},
    ),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", {"max_position_embeddings": 66, **LABELS}),
    "roberta-prelayernorm": (
        "RobertaPreLayerNormForSequenceClassification",
        "RobertaPreLayerNormConfig",
        {"max_position_embeddings": 66, "pad_token_id": 1, **LABELS},
    ),
    "mpnet": (
        "MPNetForSequenceClassification",
        "MPNetConfig",
        {"max_position_embeddings": 66, "pad_token_id": 1, **LABELS},
    ),
    "longformer": (
        "LongformerForSequenceClassification",
        "LongformerConfig",
        {"max_position_embeddings": 66, "pad_token_id": 1, "attention_window": [8, 8], **LABELS},
    ),
    "xlnet": (
        "XLNetForSequenceClassification",
        "XLNetConfig",
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "num_labels": 1},
    ),
    "fnet": ("FNetForSequenceClassification", "FNetConfig", {"max_position_embeddings": 64, **LABELS}),
    "gpt2-left": ("GPT2ForSequenceClassification", "GPT2Config", {"n_positions": 64, "num_labels": 1}),
    "bert-encoder": ("BertModel", "BertConfig", {"max_position_embeddings": 64}),
    "roberta-encoder": ("RobertaModel", "RobertaConfig", {"max_position_embeddings": 66}),
    "deberta-encoder": (
        "DebertaV2Model",
        "DebertaV2Config",
        {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]},
    ),
    "modernbert-encoder": (
        "ModernBertModel",
        "ModernBertConfig",
        {
            "max_position_embeddings": 64,
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 2,
            "local_attention": 4,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
    "reward": (
        "LlamaForSequenceClassification",
        "LlamaConfig",
        {"num_labels": 1, "max_position_embeddings": 64, "num_key_value_heads": 2},
    ),
    "reward-no-pad": (
        "LlamaForSequenceClassification",
        "LlamaConfig",
        {"num_labels": 1, "max_position_embeddings": 64, "num_key_value_heads": 2, "pad_token_id": None},
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {"max_position_embeddings": 64, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "llama-long": (
        "LlamaForCausalLM",
        "LlamaConfig",
        {"max_position_embeddings": 8192, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_positions": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None},
    ),
}
PAD_IS_ONE = {"pad_token": "<s>", "bos_token": "<pad>"}
TOKENIZERS = {
    "roberta-prelayernorm": PAD_IS_ONE,
    "mpnet": PAD_IS_ONE,
    "longformer": PAD_IS_ONE,
    "xlnet": {"padding_side": "left"},
    "gpt2-left": {"padding_side": "left"},
    "bert": {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    "reward": {"eos": False, "chat_template": CHAT},
    "llama": {"eos": False, "chat_template": CHAT_ANSWER},
    "llama-long": {"eos": False, "chat_template": CHAT_ANSWER},
    "reward-no-pad": {"eos": False, "chat_template": CHAT, "pad_token": None},
    "gpt2": {"bos": False, "eos": False, "bos_token": None, "pad_token": None},
}


def _sizes(name: str) -> dict[str, int]:
    own_names = {"d_model"} & set(BUILDERS[name][2])
    return {key: SIZES[key] for key in ("vocab_size", "pad_token_id")} if own_names else SIZES


def save_tiny_model(name: str, directory: Path) -> None:
    """Write the model and its tokenizer."""
    import torch

    model, config, settings = BUILDERS[name]
    torch.manual_seed(0)
    built = getattr(transformers, model)(getattr(transformers, config)(**(_sizes(name) | settings))).eval()
    for parameter in built.parameters():
        parameter.data.normal_(0, 0.2)
    built.save_pretrained(directory)
    make_tokenizer(**TOKENIZERS.get(name, {})).save_pretrained(directory)


TEXTS = [
    "you are an idiot .",
    "thank you , good dog !",
    "the cat sat on the mat .",
    "a dog",
    "you are an idiot .",
    "hello",
    "the cat sat on the mat . the cat sat on the mat . the cat sat on the mat .",
    "bad dog",
]
