"""Token shards: documents tokenized once, tags inserted as ids, loss masks, windows. Arrays in, arrays out.

The tokenizer:

    tokenizer      loads one, and knows it by its content
    losses         what it loses of a text
    vocabulary     tags in it, an id each; `slots` are ids that its makers kept free
    tagged         the tokenizer with and without tags
    card           `tags.json`, which tells of the tags

From documents to windows:

    encoding       documents to ids and offsets; `spelling` is the fast way for byte-level BPE
    boundaries     before which token a place in the text is
    insertion      ids of tags among those of the text
    kinds          the numbers by which tags, text and padding are told apart
    pieces         documents are cut to fit in a window
    packing        pieces are laid into windows
    masks          which tokens of a window count as targets
    teacher        a teacher's most probable tokens find their places
    table          the windows as a table
"""

from annotate.tokens.card import check_ids, tags_card, token_bits, vocabulary_size
from annotate.tokens.encoding import TextTokenizer, TokenizedTexts, spells
from annotate.tokens.insertion import TaggedTokens, insert
from annotate.tokens.losses import taken_away
from annotate.tokens.masks import ALIGNMENT, Policy, loss_mask
from annotate.tokens.packing import Packed, pack
from annotate.tokens.slots import reserved_slots
from annotate.tokens.table import token_table
from annotate.tokens.tagged import TaggedTokenizer
from annotate.tokens.teacher import TeacherTokens, teacher_places
from annotate.tokens.tokenizer import held_to_file, load_tokenizer, pin_tokenizer, tokenizer_hash
from annotate.tokens.vocabulary import TagVocabulary, add_tags

__all__ = [
    "ALIGNMENT",
    "Packed",
    "Policy",
    "TagVocabulary",
    "TaggedTokenizer",
    "TaggedTokens",
    "TeacherTokens",
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
    "teacher_places",
    "token_bits",
    "token_table",
    "tokenizer_hash",
    "vocabulary_size",
]
