"""Token shards: documents tokenized once, tags inserted as ids, loss masks, windows. Arrays in, arrays out."""

from annotate.tokens.card import check_ids, tags_card, token_bits, vocabulary_size
from annotate.tokens.encoding import TextTokenizer, TokenizedTexts, spells
from annotate.tokens.insertion import TaggedTokens, insert
from annotate.tokens.losses import taken_away
from annotate.tokens.masks import ALIGNMENT, Policy, loss_mask
from annotate.tokens.packing import Packed, pack
from annotate.tokens.slots import reserved_slots
from annotate.tokens.table import token_table
from annotate.tokens.tagged import TaggedTokenizer
from annotate.tokens.tokenizer import held_to_file, load_tokenizer, pin_tokenizer, tokenizer_hash
from annotate.tokens.vocabulary import TagVocabulary, add_tags

__all__ = [
    "ALIGNMENT",
    "Packed",
    "Policy",
    "TagVocabulary",
    "TaggedTokenizer",
    "TaggedTokens",
    "TextTokenizer",
    "TokenizedTexts",
    "add_tags",
    "check_ids",
    "held_to_file",
    "insert",
    "load_tokenizer",
    "loss_mask",
    "pack",
    "pin_tokenizer",
    "reserved_slots",
    "spells",
    "tags_card",
    "taken_away",
    "token_bits",
    "token_table",
    "tokenizer_hash",
    "vocabulary_size",
]
