"""A tiny tokenizer of each family, trained on fixed text, with the traits that make trouble."""

from __future__ import annotations

import functools
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from annotate.tokens import TagVocabulary, TextTokenizer, add_tags

TAGS = ("nice", "plain", "tone")

TEXT = (
    "The quick brown fox jumps over the lazy dog. It was, she said, the best of times; it was the worst of times.",
    "Dr. Smith doesn't know: 12,345 people live in the old town (3.5% more than last year)!\n\nReally? Yes. Really.",
    "def add(a, b):\n    return a + b\n\n\nclass Point:\n    x: int = 0\n    y: int = 0\n",
    "Über die Brücke geht's nach München. Être ou ne pas être, voilà la question. ¿Cómo estás? Muy bien.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Η γρήγορη αλεπού πηδάει.",
    "今日は天気がいいですね。明日も晴れるでしょう。我们都很好。你呢？안녕하세요. 반갑습니다.",
    "مرحبا بالعالم. كيف حالك؟ नमस्ते दुनिया। आप कैसे हैं? 🙂👍🏽 👨‍👩‍👧",
)
SPECIAL = ("<unk>", "<s>", "</s>", "<|endoftext|>")
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

FAMILIES = (
    "byte-level",
    "byte-level-prefix",
    "byte-level-nfc",
    "tiktoken",
    "metaspace",
    "llama",
    "wordpiece",
    "wordpiece-blanks",
)


@functools.cache
def family(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer; not to be changed."""
    make = {
        "byte-level": _byte_level,
        "byte-level-prefix": lambda: _byte_level(prefix=True),
        "byte-level-nfc": lambda: _byte_level(normalizer=normalizers.NFC()),
        "tiktoken": _tiktoken,
        "metaspace": _metaspace,
        "llama": _llama,
        "wordpiece": _wordpiece,
        "wordpiece-blanks": lambda: _wordpiece(blanks=True),
    }[name]
    return PreTrainedTokenizerFast(tokenizer_object=make())


@functools.cache
def tagged(name: str) -> tuple[PreTrainedTokenizerFast, TagVocabulary]:
    """The same tokenizer with the tags of `TAGS`; `plain` has a closing tag."""
    return add_tags(family(name), TAGS, closing=["plain"])


@functools.cache
def encoder(name: str) -> TextTokenizer:
    """What tokenizes documents with it."""
    return TextTokenizer(tagged(name)[0])


def _byte_level(*, prefix: bool = False, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    """As GPT-2; RoBERTa puts a blank before a document. Both trim offsets."""
    made = Tokenizer(models.BPE())
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(TEXT, _bpe(size=500))
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    if prefix:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=True)
    return made


def _tiktoken() -> Tokenizer:
    """As the conversions of tiktoken's encodings: a word that is in the vocabulary is taken whole, merges or not."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(CL100K), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(TEXT, _bpe(size=500))
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    return made


def _metaspace() -> Tokenizer:
    """As T5 and XLM-R: Unigram, compatibility forms folded, unknown characters."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=list(SPECIAL), unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT[:5], trainer)
    return made


def _llama() -> Tokenizer:
    """As Llama 2: BPE with byte fallback, blanks replaced by the normalizer, no words."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*SPECIAL, *fallback], show_progress=False)
    made.train_from_iterator(TEXT[:4], trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][: len(SPECIAL)]
    content["pre_tokenizer"] = None
    made = Tokenizer.from_str(json.dumps(content))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made


def _wordpiece(*, blanks: bool = False) -> Tokenizer:
    """As BERT: lower case, no accents. Where words are cut at blanks only, the model finds special tokens in text."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit() if blanks else pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]", "<|endoftext|>", *(f"[unused{i}]" for i in range(4))]
    made.train_from_iterator(
        TEXT, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:4]  # the unused are ordinary words of the vocabulary
    made = Tokenizer.from_str(json.dumps(content))
    template = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.post_processor = template
    made.add_tokens([AddedToken("snake_case", normalized=False)])  # an added token that is not special
    return made


def _bpe(size: int) -> trainers.BpeTrainer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
