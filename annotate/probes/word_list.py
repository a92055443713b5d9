"""A list of words that a head looks for, as hashes of their token ids.

The list is read from a CSV file when a probe is trained, cut into tokens by the encoder's own tokenizer, and kept in
the probe's file as hashes: the model needs no text to look for them, and who searches a folder for slurs finds none.
Hashes hide nothing from someone who tries words one by one.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from annotate.errors import ConfigError, InputError
from annotate.models.encode import unknown_id
from annotate.models.reading import SentTokenizer
from annotate.storage.local_copies import local_copy

YOU = "you"
"""The group of the words for whoever is spoken to: a listed word near one of them counts once more."""

YOU_WORDS = ("you", "your", "yours", "yourself", "yourselves", "u", "ur", "ya", "yall")
"""What is in that group where a list has none: English."""

SEVERITY = 1.0
"""Severity of a word of which the list does not say it."""

MAX_TOKENS = 16
"""Tokens of an entry at most; a longer one is left out, and counted."""

BEGINNING = 255
"""The group of what only begins an entry."""

Keys = npt.NDArray[np.uint64]

_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, kw_only=True, eq=False)
class WordList:
    """The entries of a list and their beginnings, `n` together, in the order of their keys.

    With the beginnings, most words of a text are dropped at their first token.

    Attributes:
        groups: names of the groups.
        keys: uint64 `[n]`, ascending: the hash of each one's token ids, as `hash_step` gives it.
        group: uint8 `[n]`, positions in `groups`; `BEGINNING` where no entry ends.
        severity: float32 `[n]`, 0 or more.
    """

    groups: tuple[str, ...]
    keys: Keys
    group: npt.NDArray[np.uint8]
    severity: npt.NDArray[np.float32]

    def digest(self) -> str:
        """SHA-256 of the groups and entries."""
        found = hashlib.sha256("\n".join(self.groups).encode())
        for array in (self.keys, self.group, self.severity):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    @property
    def entries(self) -> int:
        """Number of entries, without beginnings."""
        return int((self.group != BEGINNING).sum())


def feature_names(groups: Sequence[str]) -> tuple[str, ...]:
    """What a head reads of a list with these groups, in the order of its weights."""
    shares = tuple(f"share of {group!r}" for group in groups)
    return (*shares, "greatest severity", 'greatest severity near "you"', "length")


def hash_step(keys: Keys, ids: npt.NDArray[Any]) -> Keys:
    """Hashes of sequences of token ids from those of the sequences without their last token, which start from 0."""
    mixed: Keys = (keys + ids.astype(np.uint64) + np.uint64(1)) * _MIX
    return mixed ^ (mixed >> _SHIFT)


def read_words(path: str | Path) -> pl.DataFrame:
    """Read a list of words.

    Args:
        path: a CSV file with the column `text`, and where wanted `group` and `severity`; more columns are not read.

    Returns:
        `text` (string), `group` (string; "listed" where the file has no such column) and `severity` (float32).

    Raises:
        InputError: the file can't be read as CSV.
        ConfigError: a column or a value is missing, or a severity is no number from 0 on.
    """
    try:
        data = local_copy(str(path)).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"the list of words {path} is not there", hint="Check the path.") from error
    except OSError as error:
        raise InputError(
            f"the list of words {path} can't be read: {error.strerror}", hint="Name a CSV file that you may read."
        ) from error
    try:
        frame = pl.read_csv(data, infer_schema=False)
    except pl.exceptions.PolarsError:  # its message is about arguments of Polars
        raise InputError(
            f"the list of words {path} can't be read as CSV: {_fault(data)}",
            hint="It must be a CSV file in UTF-8 with a header and the columns text, group and severity. A field with "
            'commas, quotes or line ends in it stands in quotes, and a quote in it is written twice: "so ""called""".',
        ) from None
    if "text" not in frame.columns:
        raise ConfigError(
            f"the list of words {path} has no column 'text'; it has {frame.columns}",
            hint="It must be a CSV file in UTF-8, not UTF-16, with a header and the columns text, group and severity.",
        )
    group = pl.col("group") if "group" in frame.columns else pl.lit("listed")
    severity = pl.col("severity") if "severity" in frame.columns else pl.lit(str(SEVERITY))
    frame = frame.select(
        text=pl.col("text").str.strip_chars(), group=group.str.strip_chars(), severity=severity.str.strip_chars()
    )
    numbers = frame["severity"].cast(pl.Float32, strict=False)
    wrong = {
        "text": frame["text"].fill_null("") == "",
        "group": frame["group"].fill_null("") == "",
        "severity": ~(numbers.is_finite() & (numbers >= 0)).fill_null(value=False),
    }
    for column, rows in wrong.items():
        if rows.any():
            row = int(rows.arg_true()[0])
            value = frame[column][row]
            shown = "nothing" if value is None else repr(value)
            # Line 1 is the header.
            raise ConfigError(
                f"the list of words {path} has {shown} in column {column!r}, line {row + 2}",
                hint="text and group must not be empty; severity is a number from 0 on",
            )
    if frame.is_empty():
        raise ConfigError(f"the list of words {path} has no words, only a header")
    return frame.with_columns(severity=numbers)


def _fault(data: bytes) -> str:
    """Where a CSV file is broken, and how."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8, the byte {data[error.start : error.start + 1].hex()} is in it"
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    line, columns = 1, 0
    try:
        for row in rows:
            columns = columns or len(row)
            if len(row) > columns:
                return f"line {line} has {len(row)} fields, and the header {columns}"
            line = rows.line_num + 1
    except csv.Error as error:
        if "limit" in str(error):
            return f"line {line} has a field of more than {csv.field_size_limit():,} characters"
        return f"line {line} has a quote that is not closed, or text behind a closed one"
    return "it has no table" if columns else "it is empty"


def hash_words(frame: pl.DataFrame, tokenizer: SentTokenizer) -> tuple[WordList, int]:
    """Cut the words of a list into tokens, and hash them.

    Of entries that are the same tokens the one of the greatest severity stays.

    Args:
        frame: what `read_words` gives. Where no word is of the group "you", `YOU_WORDS` are added as one.
        tokenizer: of the encoder.

    Returns:
        The list, and the number of words left out because the tokenizer does not know a part of them or needs more
        than `MAX_TOKENS` for them.

    Raises:
        ConfigError: no word is left, or there are more than 255 groups.
    """
    given = len(frame)
    if YOU not in set(frame["group"]):
        you = {"text": YOU_WORDS, "group": [YOU] * len(YOU_WORDS), "severity": [0.0] * len(YOU_WORDS)}
        frame = pl.concat([frame, pl.DataFrame(you, schema=frame.schema)])
    groups = tuple(sorted(set(frame["group"])))
    if len(groups) > BEGINNING:
        raise ConfigError(f"a list of words has {BEGINNING} groups at most, got {len(groups)}")
    rows = _token_ids(tokenizer, frame["text"].to_list())
    codes = np.searchsorted(np.array(groups), frame["group"].to_numpy())
    found: dict[int, tuple[int, float]] = {}
    left_out = sum(ids is None for ids in rows[:given])
    for ids, group, severity in zip(rows, codes.tolist(), frame["severity"].to_list(), strict=True):
        if ids is None:
            continue
        *beginnings, key = _keys(ids)
        for beginning in beginnings:
            found.setdefault(beginning, (BEGINNING, 0.0))
        before = found.get(key, (BEGINNING, 0.0))
        if before[0] == BEGINNING or severity > before[1]:
            found[key] = (group, severity)
    if not found:
        raise ConfigError("the encoder's tokenizer knows none of the words in the list")
    keys = sorted(found)
    words = WordList(
        groups=groups,
        keys=np.array(keys, np.uint64),
        group=np.array([found[key][0] for key in keys], np.uint8),
        severity=np.array([found[key][1] for key in keys], np.float32),
    )
    return words, left_out


def _keys(ids: Sequence[int]) -> list[int]:
    """The keys of all beginnings of an entry; the last is that of the entry."""
    key, found = np.zeros(1, np.uint64), []
    for token in ids:
        key = hash_step(key, np.array([token]))
        found.append(int(key[0]))
    return found


def _token_ids(tokenizer: SentTokenizer, texts: Sequence[str]) -> list[list[int] | None]:
    """Ids of each text without special tokens; None where one is unknown, or there are none or too many."""
    parsed = tokenizer.parsed()
    parsed.no_padding()
    parsed.no_truncation()
    unknown = unknown_id(parsed)
    rows = [encoding.ids for encoding in parsed.encode_batch_fast(list(texts), add_special_tokens=False)]
    return [ids if 0 < len(ids) <= MAX_TOKENS and unknown not in ids else None for ids in rows]


def check_word_list(words: WordList) -> str | None:
    """What is wrong with a list that comes from a file, if anything."""
    n = len(words.keys)
    if words.keys.ndim != 1 or not n:
        return f"words.keys must be [n] with entries, got {words.keys.shape}"
    shapes = {"group": words.group.shape, "severity": words.severity.shape}
    for name, shape in shapes.items():
        if shape != (n,):
            return f"words.{name} must be [{n}] as words.keys is, got {shape}"
    if not (words.keys[1:] > words.keys[:-1]).all():
        return "words.keys must rise"
    groups = len(words.groups)
    if not 1 <= groups <= BEGINNING or len(set(words.groups)) < groups:
        return f"the groups of the word list must be 1 to {BEGINNING} different names, got {list(words.groups)}"
    if (~np.isin(words.group, [*range(groups), BEGINNING])).any():
        return f"words.group must be positions in {groups} groups, or {BEGINNING}"
    if not (np.isfinite(words.severity) & (words.severity >= 0)).all():
        return "words.severity must be finite, and 0 or more"
    return None
