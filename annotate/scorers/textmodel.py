"""What all model-backed scorers share: the settings of a Transformers model, its tokenizer, and how it is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from annotate.errors import ConfigError
from annotate.scorers.base import Json
from annotate.scorers.models import ModelFiles, Stamp, find_model
from annotate.scorers.tokens import BATCH_TOKENS

LONGEST_DEFAULT = 4096
"""`max_length` where none is named and the model would take more: attention over 128k tokens is no default."""

_POSITIONS_AFTER_PADDING = {
    "roberta",
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
    "mpnet",
    "longformer",
    "data2vec-text",
}
"""Model types that count positions from the padding id on, so that `max_position_embeddings` is too many."""

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TextModel:
    """A Transformers model by name; settings only, equal where they are equal.

    Attributes:
        model: a directory or a hub id.
        revision: branch, tag or commit of a hub id.
        max_length: tokens of an input, special ones included; longer ones are cut, and recorded. None: what the model
            takes, at most 4,096.
        dtype: "float32", or "bfloat16" for the matrix products of the layers; never chosen by the device that is found.
        batch_tokens: padded tokens of a batch at most; part of what determines the bytes of scores. The default is for
            a CPU; a GPU needs many times more to be busy.
        trust_remote_code: whether Python files that come with the model may run.
    """

    model: str
    _: KW_ONLY
    revision: str | None = None
    max_length: int | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 4:
            raise ConfigError(f"max_length must be 4 tokens or more, got {self.max_length}")
        if self.dtype not in get_args(Dtype):
            raise ConfigError(f"dtype must be one of {get_args(Dtype)}, got {self.dtype!r}")
        if self.batch_tokens < 1:
            raise ConfigError(f"batch_tokens must be positive, got {self.batch_tokens}")

    def files(self) -> ModelFiles:
        """Find the model's files, downloading them where they are on the hub.

        Raises:
            ConfigError: they can't be found, or some are missing.
        """
        return find_model(self.model, self.revision, remote_code=self.trust_remote_code)

    def resolved(self) -> Self:
        """The same model with its directory made absolute, or its revision a commit."""
        files = self.files()
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
        }

    def window(self) -> int:
        """Tokens of an input at most, special ones included.

        Raises:
            ConfigError: `max_length` is more than the model has positions, or neither says a number.
        """
        positions = self._positions()
        if self.max_length is not None:
            # Where positions are relative (DeBERTa), more than in training is possible, if asked for.
            absolute = getattr(self.config(), "position_biased_input", True)
            if positions is not None and absolute and self.max_length > positions:
                raise ConfigError(f"model {self.model!r} takes {positions} tokens, got max_length={self.max_length}")
            return self.max_length
        limits = [limit for limit in (positions, self._tokenizer_limit()) if limit is not None]
        if not limits:
            raise ConfigError(
                f"model {self.model!r}: neither its config nor its tokenizer says how long an input may be",
                hint="set max_length",
            )
        return min(*limits, LONGEST_DEFAULT)

    def _positions(self) -> int | None:
        config = self.config()
        positions = getattr(config, "max_position_embeddings", None)
        if not isinstance(positions, int) or positions <= 0:
            return None
        if config.model_type in _POSITIONS_AFTER_PADDING:
            positions -= int(config.pad_token_id) + 1
        return positions

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
            ConfigError: it can't be read, or there is no fast one.
        """
        return _read_tokenizer(files := self.files(), files.stamp(), remote_code=self.trust_remote_code)

    def pad_id(self) -> int:
        """The token that fills padding: the model's own, since some find the end of an input by it."""
        tokenizer = self.tokenizer()
        choices = (configured_pad_id(self.config()), tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        return next(int(choice) for choice in choices if choice is not None)


def configured_pad_id(config: Any) -> int | None:
    """The padding token in a model's configuration, if there is one."""
    pad: int | None = getattr(config.get_text_config(), "pad_token_id", None)
    return pad


@functools.lru_cache(maxsize=16)
def _read_config(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(files.directory, trust_remote_code=remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(
            f"model {files.name!r}: its config.json can't be read: {error}",
            hint="a model that brings its own code needs trust_remote_code=True",
        ) from error


@functools.lru_cache(maxsize=16)
def _read_tokenizer(files: ModelFiles, stamp: Stamp, *, remote_code: bool) -> Any:
    # Several tasks prepare units at a time: with a pool of all cores in each, they would only be in each other's way.
    # Tokenizers reads this when it is called; what a user has set stands.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(files.directory, trust_remote_code=remote_code, use_fast=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(f"model {files.name!r}: its tokenizer can't be read: {error}") from error
    if not tokenizer.is_fast:
        raise ConfigError(
            f"model {files.name!r}: there is no fast tokenizer for it",
            hint="convert it once with `AutoTokenizer.from_pretrained(..., from_slow=True)` and save it",
        )
    return tokenizer


def load_model(auto_class: str, settings: TextModel, device: Any, *, optional: Sequence[str] = ()) -> Any:
    """Read a model's weights onto a device, ready to score.

    Args:
        auto_class: name of the Transformers class, such as "AutoModel".
        settings: which model, and its dtype.
        device: a torch device.
        optional: prefixes of weights that may be missing because they are not used.

    Raises:
        ConfigError: the files can't be read, or lack weights that this kind of model needs.
    """
    import torch
    import transformers

    from annotate.scorers.precision import convert_weights

    files = settings.files()
    try:
        with _quiet():
            model, info = getattr(transformers, auto_class).from_pretrained(
                files.directory,
                use_safetensors=True,
                trust_remote_code=settings.trust_remote_code,
                # A large model is read as it was saved: it may not fit in memory as float32.
                dtype=torch.float32 if settings.dtype == "float32" else "auto",
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ConfigError(
            f"model {files.name!r} can't be loaded by {auto_class}: {error}",
            hint="its config.json must name a class of that kind; a model that brings its own code needs "
            "trust_remote_code=True",
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        raise ConfigError(
            f"model {files.name!r} has no weights for {missing[0]} ({len(missing)} missing), which {auto_class} "
            "would make up at random",
            hint="name a model that was trained for this",
        )
    # One pass an input: nothing is gained from keeping keys and values.
    model.config.use_cache = False
    if settings.dtype == "bfloat16":
        convert_weights(model)
    return model.to(device).eval()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Transformers from drawing bars and logging reports: what matters of them is raised as an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
