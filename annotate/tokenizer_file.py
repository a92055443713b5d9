"""A tokenizer is its `tokenizer.json`. It is read as it is, also where Transformers would change it.

`AutoTokenizer` may build a tokenizer anew, from the vocabulary of the file and the class that a configuration names. It
may then have another split expression, normalizer or byte fallback, and nothing tells. So what `AutoTokenizer` makes is
compared with the file, and the tokens of the file are used. Where the class gives others, callers are told.

The `tokenizers` library numbers added tokens itself, from the number of words on. If ids of words have holes, or the
ids of added tokens do not follow them, it would give added tokens the ids of other words. So ids without a word get
words that no text has.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from annotate.errors import ConfigError

FILE = "tokenizer.json"
PLAIN = (("vocab.txt",), ("vocab.json", "merges.txt"))
"""Older files that hold all that a class needs. For others Transformers has to guess, or needs other libraries."""

SLOW = (*chain.from_iterable(PLAIN), "*.model", "*.tiktoken", "*.bpe", "*.vocab", "tekken.json")
"""The files of tokenizers in another form than `tokenizer.json`."""

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "She said: \u201cIt wasn't HERS,\u201d and I'VE heard they'll, we'd, you're, 'tis.",
    "In 2024 there were 1234567 of 12,345.67 (3.5%) and 0x1F; call +1-800-555-0199.",
    "  two  blanks   three\ttab\n\n\nthree lines\r\n  indented\n",
    "def add(a, b):\n    return a+b  # snake_case, camelCase, x_1[i]->y\n",
    "https://example.org/a?b=c&d=%20 user@example.org <b>bold</b> $x^2$ {\"key\": [1, null]}",
    "Äpfel, naïve façade, Ångström; cafe\u0301 decomposed; STRASSE Straße İstanbul",
    "\ufb01le, \uff21\uff22\uff23 \uff11\uff12, \u2460 \u00bd x\u00b2 \u2122 \u2026 \u00a0no-break\u200bzero\u00adsoft",
    "Съешь же ещё этих мягких французских булок. Η γρήγορη αλεπού.",
    "今日は天気がいいですね。明天我们都很好,你呢?안녕하세요.",
    "مرحبا بالعالم שלום नमस्ते दुनिया สวัสดี",
    "\U0001f642\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001d54f",
    "a",
    " a",
)  # fmt: skip
"""Texts on which two tokenizers are compared. Split expressions, normalizers and fallbacks treat them differently."""

LOADED_FROM = (
    "name a tokenizer.json, a directory that holds one, or a model of the hub; "
    "tokenizers that need code of their own or have no fast form can't be used"
)

_FILLER = "\U0010fffe unused {} \U0010fffe"
"""The word of an id that has none. No word that a tokenizer cuts has both a blank and this character."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A tokenizer of Transformers whose tokens are those of its `tokenizer.json`, where it has one.

    Attributes:
        tokenizer: a `PreTrainedTokenizerFast`, or the class that the configuration names.
        rewritten: what the class gives otherwise than the file, as a sentence; None where they agree.
        text_too: whether that is so for tokens of text, and not only for the special tokens round it.
    """

    tokenizer: Any
    rewritten: str | None = None
    text_too: bool = False


def load_file(subject: str, file: Path) -> Tokenizer:
    """Read a `tokenizer.json`, without truncation and padding.

    Args:
        subject: what errors call it, such as `tokenizer 'name'`.
        file: where it is.

    Raises:
        ConfigError: it can't be read, is no such file, or names ids that the library would give to other tokens.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{subject} cannot be read: {error.strerror}", hint="name a tokenizer.json or a directory that holds one"
        ) from error
    return parse_file(subject, content)


def parse_file(subject: str, content: bytes) -> Tokenizer:
    """As `load_file`, of the bytes of a `tokenizer.json`.

    Raises:
        ConfigError: as there.
    """
    # Several tasks tokenize at a time: pools of all cores would be in each other's way. What a user has set stands.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        tokenizer = Tokenizer.from_buffer(content)
        made = json.loads(content)
        if _fill_holes(made):
            tokenizer = Tokenizer.from_str(json.dumps(made))
    except BaseException as error:
        if not _is_error(error):  # the library raises nothing more special
            raise
        raise ConfigError(
            f"{subject} is not a tokenizer.json: {_line(error)}",
            hint="A vocabulary file alone is not enough. Name the file that `save_pretrained` writes.",
        ) from error
    for token in made.get("added_tokens", ()):
        if (found := tokenizer.token_to_id(token["content"])) != token["id"]:
            raise ConfigError(
                f"{subject}: its tokenizer.json gives the added token {token['content']!r} the id {token['id']}, the "
                f"tokenizers library gives it {found}: an id of a word comes twice, or is that of an added token",
                hint="Give each word and each added token an id of its own, added tokens after the words.",
            )
    for i, words in shared_ids(tokenizer).items():  # a copy of the tokenizer keeps one of them, any
        raise ConfigError(
            f"{subject}: its tokenizer.json has one id, {i}, for {' and '.join(map(repr, words))}",
            hint="Give each word an id of its own.",
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_held_to_file(subject: str, name: str, *, revision: str | None = None, remote_code: bool = False) -> Loaded:
    """Load a tokenizer by Transformers, and hold it to its `tokenizer.json`.

    Args:
        subject: what errors call it.
        name: a directory or a hub name.
        revision: of a hub name.
        remote_code: whether code of its own may run.

    Raises:
        ConfigError: it can't be loaded, for whatever reason, or Transformers would have to guess what it is.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer
    from transformers.utils import cached_file

    there = instead_of_file(Path(name))
    try:
        files = {
            file: cached_file(name, file, revision=revision, _raise_exceptions_for_missing_entries=False)
            for file in (FILE, *chain.from_iterable(PLAIN))
        }
        known = remote_code or files[FILE] or any(all(files[file] for file in form) for form in PLAIN)
        if there and not known:
            raise ConfigError(f"{subject}: {there}", hint=CONVERT)
        auto = AutoTokenizer.from_pretrained(name, revision=revision, use_fast=True, trust_remote_code=remote_code)
    except ConfigError:
        raise
    except BaseException as error:
        # Classes of Transformers raise what they like on a file that is not as they expect it.
        if not _is_error(error):
            raise
        raise ConfigError(
            f"{subject} cannot be loaded: {_line(error)}",
            hint=LOADED_FROM,
        ) from error
    backend = getattr(auto, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return Loaded(tokenizer=auto)
    backend.no_truncation()
    backend.no_padding()
    if files[FILE]:
        return _held_to_file(subject, auto, load_file(subject, Path(files[FILE])))
    if not known:
        raise ConfigError(f"{subject}: there is no tokenizer.json", hint=CONVERT)
    return Loaded(tokenizer=auto)


def _held_to_file(subject: str, auto: Any, file: Tokenizer) -> Loaded:
    """The tokenizer of Transformers, if it cuts text as its file says; else one that is made of the file."""
    backend = auto.backend_tokenizer
    made = auto if _same(backend, file) else _remade(auto, file)
    if not _same(made.backend_tokenizer, file):
        raise ConfigError(f"{subject}: Transformers changes its tokenizer.json while it loads it")
    # tokenizer_config.json, too, may say which special tokens stand around a text.
    said = {"add_bos_token", "add_eos_token"} & set(auto.init_kwargs)
    for special in (False,) if said else (False, True):
        if other := differs(backend, file, special=special):
            rewritten = f"{type(auto).__name__}, its class, gives other tokens than its tokenizer.json: {other}"
            return Loaded(tokenizer=made, rewritten=rewritten, text_too=not special)
    return Loaded(tokenizer=made)


def differs(one: Tokenizer, other: Tokenizer, *, special: bool = False) -> str | None:
    """An example of a text that two tokenizers cut differently, with what each gives; None: none was found.

    Args:
        one: a tokenizer.
        other: another.
        special: whether the special tokens around a text are compared as well.
    """
    for text in PROBES:
        encodings = [tokenizer.encode(text, add_special_tokens=special) for tokenizer in (one, other)]
        tokens, ids = [e.tokens for e in encodings], [e.ids for e in encodings]
        if tokens[0] != tokens[1]:
            return f"{text!r} gives {_shown(*tokens)}, by the file {_shown(*reversed(tokens))}"
        if ids[0] != ids[1]:
            return f"{text!r} gives the ids {_shown(*ids)}, by the file {_shown(*reversed(ids))}"
    return None


def highest_id(tokenizer: Tokenizer) -> int:
    """The highest id of a tokenizer, which may be more than the number of ids; -1: it has none."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)


def shared_ids(tokenizer: Tokenizer) -> dict[int, list[str]]:
    """The ids that several words have, each with these words."""
    known = tokenizer.get_vocab(with_added_tokens=True)
    shared = {i for i, n in Counter(known.values()).items() if n > 1}
    return {i: sorted(word for word, other in known.items() if other == i) for i in sorted(shared)}


def instead_of_file(directory: Path) -> str | None:
    """What a directory without a `tokenizer.json` holds of a tokenizer, in words; None: nothing."""
    if not directory.is_dir() or (directory / FILE).is_file():
        return None
    found = sorted(path.name for path in directory.iterdir() if any(fnmatch(path.name, name) for name in SLOW))
    return f"there is no tokenizer.json in {directory}, only a slow tokenizer ({', '.join(found)})" if found else None


CONVERT = (
    "make a tokenizer.json of it once, where its own library is installed (SentencePiece: `pip install sentencepiece "
    "protobuf`; tiktoken: `pip install tiktoken`): `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`; "
    "then compare the tokens of some texts with those of that library"
)


def _remade(auto: Any, file: Tokenizer) -> Any:
    """A tokenizer of the file, with the names, templates, limits and additional tokens of `auto`."""
    from transformers import PreTrainedTokenizerFast

    kept = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "chat_template", "name_or_path")
    settings = {name: value for name in kept if (value := getattr(auto, name, None)) is not None}
    names = {key: token for key, token in auto.special_tokens_map.items() if isinstance(token, str)}
    made = PreTrainedTokenizerFast(tokenizer_object=file, **settings, **names)
    known = file.get_vocab(with_added_tokens=True)
    added = sorted(auto.backend_tokenizer.get_added_tokens_decoder().items())
    further = [token for _, token in added if token.content not in known and token.content not in names.values()]
    made.add_tokens([_plain(token) for token in further if not token.special])
    made.add_tokens([_plain(token) for token in further if token.special], special_tokens=True)
    if {"add_bos_token", "add_eos_token"} & set(auto.init_kwargs):
        made.backend_tokenizer.post_processor = auto.backend_tokenizer.post_processor
    return made


def _plain(token: AddedToken) -> AddedToken:
    flags = {name: getattr(token, name) for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
    return AddedToken(token.content, **flags)


def _same(backend: Tokenizer, file: Tokenizer) -> bool:
    """Whether a tokenizer has the rules of the file. It may have more added tokens."""
    one, other = (json.loads(t.to_str()) for t in (backend, file))
    if any(one[part] != other[part] for part in ("normalizer", "pre_tokenizer", "model")):
        return False
    added = {token["content"]: token for token in one["added_tokens"]}
    return all(added.get(token["content"]) == token for token in other["added_tokens"])


def _fill_holes(made: dict[str, Any]) -> bool:
    """Give each id that has no word a word that no text has; return whether there were any."""
    vocabulary, added = made["model"]["vocab"], made.get("added_tokens", [])
    words = set(range(len(vocabulary))) if isinstance(vocabulary, list) else set(vocabulary.values())
    taken = words | {token["id"] for token in added}
    holes = [i for i in range(max(taken, default=-1)) if i not in taken]
    behind = max(words, default=-1)  # from here on the library numbers added tokens in turn
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    for i in holes:
        if i < behind:
            vocabulary[_FILLER.format(i)] = i
        else:
            added.append({"id": i, "content": _FILLER.format(i), **flags})
    added.sort(key=lambda token: token["id"])
    return bool(holes)


def _shown(values: Sequence[Any], others: Sequence[Any]) -> str:
    """The part of a list that differs, with a little before it."""
    first = next((i for i, pair in enumerate(zip_longest(values, others)) if pair[0] != pair[1]), 0)
    begin, stop = max(0, first - 1), first + 6
    body = ", ".join(repr(value) for value in values[begin:stop])
    return f"[{'..., ' if begin else ''}{body}{', ...' if stop < len(values) else ''}]"


def _is_error(error: BaseException) -> bool:
    """Whether it is an error, and no interrupt. A panic of the tokenizers library is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _line(error: BaseException) -> str:
    said = str(error).strip()
    return said.splitlines()[0] if said else repr(error)
