"""Tokenizers: loaded from a file, a directory or the hub, and identified by their content, never by a path."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from annotate.errors import ConfigError
from annotate.storage.local_copies import local_copy
from annotate.tokenizer_file import LOADED_FROM, Loaded, load_file, load_held_to_file

_COMMIT = re.compile(r"[0-9a-f]{40}")


def load_tokenizer(name: str, *, revision: str | None = None) -> Any:
    """Load a fast tokenizer, in the form of Transformers, so that it can be saved with the shards.

    If it has a `tokenizer.json`, it gives the tokens of that file, even where its class in Transformers would give
    others. Code that comes with a tokenizer is never run.

    Args:
        name: a `tokenizer.json`, a directory that `save_pretrained` wrote or that holds a `tokenizer.json`, each local
            or at a URL; or a hub name.
        revision: a branch, tag or commit, for a hub name.

    Returns:
        A `transformers.PreTrainedTokenizerFast`, without truncation or padding.

    Raises:
        ConfigError: there is no such tokenizer; it is not a fast one; or a revision is given for a local file.
    """
    return held_to_file(name, revision=revision).tokenizer


def held_to_file(name: str, *, revision: str | None = None) -> Loaded:
    """As `load_tokenizer`; also says how its class would have cut text otherwise than its `tokenizer.json`.

    Raises:
        ConfigError: as `load_tokenizer`.
    """
    path, subject = local_copy(name), f"tokenizer {name!r}"
    if path.exists() and revision is not None:
        raise ConfigError(
            f"a revision is for a hub name, but the tokenizer {name!r} is a local file; revision={revision!r}"
        )
    file = _lone_file(path)
    if file is None and not path.exists() and name.endswith(".json"):
        raise ConfigError(
            f"{subject} cannot be read: there is no such file",
            hint=LOADED_FROM,
        )
    if file is not None:
        from transformers import PreTrainedTokenizerFast

        return Loaded(tokenizer=PreTrainedTokenizerFast(tokenizer_object=load_file(subject, file)))
    subject += f" at revision {revision!r}" if revision else ""
    loaded = load_held_to_file(subject, str(path) if "://" in name else name, revision=revision)
    backend_of(loaded.tokenizer)
    return loaded


def pin_tokenizer(name: str, *, revision: str | None = None) -> tuple[str, str | None]:
    """The name and revision by which workers find this very tokenizer: a path becomes absolute, a revision a commit.

    Args:
        name: as for `load_tokenizer`.
        revision: a branch, tag or commit of a hub name; None for its main branch.

    Raises:
        ConfigError: there is no such file; and no such tokenizer or revision on the hub, or in its cache.
    """
    if "://" in name:
        return name, revision
    path = Path(name)
    if path.exists():
        return str(path.absolute()), revision
    if name.endswith(".json") or (revision is not None and _COMMIT.fullmatch(revision)):
        return name, revision
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["tokenizer_config.json"]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ConfigError(
            f"tokenizer {name!r}{at} cannot be loaded: {str(error).strip().splitlines()[0] if str(error) else error!r}",
            hint=LOADED_FROM,
        ) from error
    return name, folder.name if _COMMIT.fullmatch(folder.name) else revision


def backend_of(tokenizer: Any) -> Tokenizer:
    """The `tokenizers.Tokenizer` inside a tokenizer of Transformers; or the tokenizer itself, if it is one.

    Raises:
        ConfigError: it is not a fast tokenizer.
    """
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ConfigError(
            f"the tokenizer must be a fast one, which can tell where its tokens are; got {type(tokenizer).__name__}",
            hint="Use a model that has a tokenizer.json. Or convert the tokenizer once, and call `save_pretrained`.",
        )
    return backend


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256, in hex, of all that decides how a tokenizer cuts text. It does not depend on where its files are."""
    return hashlib.sha256(backend_of(tokenizer).to_str().encode()).hexdigest()


def _lone_file(path: Path) -> Path | None:
    """A `tokenizer.json` beside which no file says of which class it is, so that Transformers can't load the folder."""
    if path.is_file():
        return path
    beside = ("tokenizer_config.json", "config.json")
    lone = (path / "tokenizer.json").is_file() and not any((path / name).is_file() for name in beside)
    return path / "tokenizer.json" if lone else None
