"""What all model-backed scorers share: the settings of a Transformers model, and its tokenizer."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from annotate.arguments import as_path
from annotate.errors import ConfigError
from annotate.models.base import Json, Prepared
from annotate.models.batches import BATCH_TOKENS, Batches, Side
from annotate.models.files import ModelFiles, Stamp, find_model, reason
from annotate.models.positions import named_positions, positions_of
from annotate.models.reading import Reading, SentTokenizer
from annotate.tokenizer_file import load_held_to_file

LONGEST_DEFAULT = 4096
"""`max_length` where none is named and the model would take more: attention over 128k tokens is no default."""

Dtype = Literal["float32", "bfloat16", "float16"]

_PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes of Transformers that are what `tokenizer.json` says."""


@dataclass(frozen=True)
class TextModel:
    """A Transformers model by name; settings only, equal where they are equal.

    Attributes:
        model: a directory or a hub id.
        revision: branch, tag or commit of a hub id.
        max_length: tokens of an input, special ones included; longer ones are cut, and recorded. None: what the model
            takes, at most 4,096.
        dtype: "float32"; or "bfloat16" or "float16" for the matrix products of the layers. It is never chosen by the
            device that is found.
        batch_tokens: padded tokens of a batch at most; part of what determines the bytes of scores. The default is for
            a CPU; a GPU needs many times more to be busy.
        trust_remote_code: whether Python files that come with the model may run.
    """

    model: str | PathLike[str]
    _: KW_ONLY
    revision: str | None = None
    max_length: int | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS
    trust_remote_code: bool = False

    gpu: ClassVar[bool] = True
    spreads: ClassVar[bool] = False
    """Whether it can be spread over several GPUs."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_path(self.model, "model"))
        if self.max_length is not None and self.max_length < 4:
            raise ConfigError(f"max_length must be 4 tokens or more, got {self.max_length}")
        if self.dtype not in get_args(Dtype):
            raise ConfigError(f"dtype must be one of {get_args(Dtype)}, got {self.dtype!r}")
        if self.batch_tokens < 1:
            raise ConfigError(f"batch_tokens must be positive, got {self.batch_tokens}")

    @property
    def name(self) -> str:
        """The model as it was named; for messages."""
        return str(self.model)

    def files(self) -> ModelFiles:
        """Find the model's files, downloading them where they are on the hub.

        Raises:
            ConfigError: they can't be found, or some are missing.
        """
        return find_model(self.name, self.revision, remote_code=self.trust_remote_code)

    def resolved(self) -> Self:
        """The same model with its directory made absolute, or its revision a commit.

        Raises:
            ConfigError: it can't be found, or its tokenizer has ids beyond its embedding.
        """
        files = self.files()
        rows = getattr(self.config().get_text_config(), "vocab_size", None)
        if isinstance(rows, int):
            self.check_ids(rows)
        if files.commit is not None:
            return dataclasses.replace(self, revision=files.commit)
        if Path(self.model).expanduser().is_dir():
            return dataclasses.replace(self, model=str(files.directory))
        return self

    def identity(self) -> Json:
        """Hashes of the model's files, with its code where that may run, and the settings that can change a score."""
        files = self.files()
        code = files.code() if self.trust_remote_code else None
        return {
            "model": files.hashes() | ({"code": code} if code is not None else {}),
            "max_length": self.window(),
            "dtype": self.dtype,
            "batch_tokens": self.batch_tokens,
            "trust_remote_code": self.trust_remote_code,
            # Earlier versions padded all on the right, and named no side: their scores still hold.
            **({"padding": "left"} if self.padding_side() == "left" else {}),
        }

    def window(self) -> int:
        """Tokens of an input at most, special ones included.

        Raises:
            ConfigError: `max_length` is more than the model has positions, or neither says a number.
        """
        positions = self._positions()
        if self.max_length is not None:
            if positions is not None and self.bounded() and self.max_length > positions:
                raise ConfigError(f"model {self.model!r} takes {positions} tokens, got max_length={self.max_length}")
            return self.max_length
        limits = [limit for limit in (positions, self._tokenizer_limit()) if limit is not None]
        if not limits:
            raise ConfigError(
                f"model {self.model!r}: neither its config nor its tokenizer says how long an input may be",
                hint="set max_length",
            )
        return min(*limits, LONGEST_DEFAULT)

    def bounded(self) -> bool:
        """Whether positions limit the length of an input; relative ones (DeBERTa) don't."""
        return bool(getattr(self.config(), "position_biased_input", True))

    def _positions(self) -> int | None:
        named = named_positions(config := self.config())
        pad = configured_pad_id(config)
        if named is None or pad is None or (self.max_length is not None and self.max_length + pad < named):
            # Enough, wherever counting begins: the model itself need not be read.
            return named
        return positions_of(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)

    def _tokenizer_limit(self) -> int | None:
        limit = self.tokenizer().model_max_length
        # Transformers writes 1e30 for "not known".
        return int(limit) if limit < 10**6 else None

    def config(self) -> Any:
        """The model's Transformers configuration, read once a process.

        Raises:
            ConfigError: it can't be read.
        """
        return _read_config(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)

    def tokenizer(self) -> Any:
        """The model's fast tokenizer (a Transformers one), read once a process.

        Raises:
            ConfigError: it can't be read, there is no fast one, or its class gives other tokens than `tokenizer.json`.
        """
        return _read_tokenizer(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)

    def reading(self) -> Reading:
        """The tokenizer and the window, for processes that prepare inputs.

        Raises:
            ConfigError: they can't be found.
        """
        sent = _sent_tokenizer(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)
        return Reading(tokenizer=sent, window=self.window())

    def pad_id(self) -> int:
        """The token that fills padding: the model's own, since some models find the end of an input by it."""
        tokenizer = self.tokenizer()
        choices = (configured_pad_id(self.config()), tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return next(int(choice) for choice in choices if choice is not None)

    def padding_side(self) -> Side:
        """The side on which the tokenizer pads, as in training. XLNet pads on the left, and reads its last token."""
        return "left" if self.tokenizer().padding_side == "left" else "right"

    def batches(self, prepared: Prepared) -> Batches:
        """The batches of prepared inputs, padded as the tokenizer does."""
        return Batches(prepared, self.pad_id(), self.padding_side())

    def check_ids(self, rows: int) -> None:
        """Refuse a model whose inputs may have ids beyond the `rows` rows of its embedding.

        Raises:
            ConfigError: the padding token of its config, or a token of its tokenizer, is outside.
        """
        pad = configured_pad_id(self.config())
        if pad is not None and not 0 <= pad < rows:
            raise ConfigError(
                f"model {self.model!r}: its config.json has pad_token_id {pad}, but its embedding has the ids 0 to "
                f"{rows - 1}",
                hint="set pad_token_id in its config.json to the id of a token, or to null if it has no padding token",
            )
        highest, token = _highest_id(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)
        if highest >= rows:
            raise ConfigError(
                f"model {self.model!r}: its tokenizer gives {token!r} the id {highest}, but its embedding has the ids "
                f"0 to {rows - 1}",
                hint="the tokenizer is another model's, or tokens were added to it and not to the model: take them out "
                "of it, or call `model.resize_token_embeddings(len(tokenizer))` and train that token",
            )


def configured_pad_id(config: Any) -> int | None:
    """The padding token in a model's configuration, if there is one."""
    pad: int | None = getattr(config.get_text_config(), "pad_token_id", None)
    return pad


@functools.lru_cache(maxsize=16)
def _read_config(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(files.directory, trust_remote_code=remote_code)
    except Exception as error:
        raise _unreadable(files, error, remote_code=remote_code) from error


def _unreadable(files: ModelFiles, error: Exception, *, remote_code: bool) -> ConfigError:
    """What is wrong with a model whose configuration Transformers can't read."""
    said = files.settings("config.json")
    kind, code = said.get("model_type"), said.get("auto_map")
    own_code = isinstance(code, dict)
    if isinstance(code, dict) and not remote_code:
        names = ", ".join(sorted({str(name).rpartition("--")[2].partition(".")[0] + ".py" for name in code.values()}))
        return ConfigError(
            f"model {files.name!r} is made by Python code of its own ({names}), which is not run unless you say so: "
            f"{reason(error)}",
            hint="read that code; then trust_remote_code=True runs it (on the command line --trust-remote-code)",
        )
    if kind is None and not own_code:
        return ConfigError(
            f"model {files.name!r}: its config.json names no model_type, so Transformers has no class for it",
            hint="it may be a head of its own on another model's encoder: put that model's config.json in its place, "
            "and declare the head by EncoderWithHead, as docs/own-heads.md shows",
        )
    import transformers

    return ConfigError(
        f"model {files.name!r}: its config.json can't be read by Transformers {transformers.__version__} "
        f"(model_type {kind!r}): {reason(error)}",
        hint="the Python code that comes with it may be made for another Transformers, or need packages that are not "
        "installed on all nodes: its model card may say which"
        if own_code
        else "if the model is newer than that, install a newer Transformers, on all nodes",
    )


@functools.lru_cache(maxsize=16)
def _read_tokenizer(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> Any:
    loaded = load_held_to_file(f"model {files.name!r}: its tokenizer", str(files.directory), remote_code=remote_code)
    if not loaded.tokenizer.is_fast:
        raise ConfigError(
            f"model {files.name!r}: there is no fast tokenizer for it",
            hint="convert it once with `AutoTokenizer.from_pretrained(..., from_slow=True)` and save it",
        )
    # Of some types (Qwen2) Transformers takes its own class whatever is named. One that has no rules of its own says
    # that the file's are right.
    named = files.settings("tokenizer_config.json").get("tokenizer_class")
    if loaded.rewritten is not None and named not in _PLAIN_CLASSES:
        raise ConfigError(
            f"model {files.name!r}, in {files.directory}: {loaded.rewritten}",
            hint="which of them the model was trained with, only its makers know. If the file's: set "
            '"tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json of a copy of the model. If those of '
            "the class: save the tokenizer as it is loaded, `AutoTokenizer.from_pretrained(...).save_pretrained(copy)`",
        )
    return loaded.tokenizer


@functools.lru_cache(maxsize=16)
def _sent_tokenizer(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> SentTokenizer:
    tokenizer = _read_tokenizer(files, stamp, remote_code=remote_code)
    return SentTokenizer.of(tokenizer.backend_tokenizer, f"model {files.name!r}: its tokenizer")


@functools.lru_cache(maxsize=16)
def _highest_id(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> tuple[int, str]:
    """The highest id that a model's tokenizer can give, and the token that has it; looked for once a process."""
    vocabulary = _read_tokenizer(files, stamp, remote_code=remote_code).get_vocab()
    return max((number, token) for token, number in vocabulary.items())
