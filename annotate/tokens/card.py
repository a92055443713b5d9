"""What `tags.json` holds: the ids and meanings of the tags, and what a model needs to learn them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from annotate.errors import ConfigError
from annotate.tokenizer_file import PROBES, highest_id
from annotate.tokens.tokenizer import backend_of
from annotate.tokens.vocabulary import NONE, TagVocabulary, spell


def vocabulary_size(tokenizer: Any, *, multiple: int = 1) -> int:
    """How many rows a model needs for a tokenizer: one more than the highest id, rounded up to a multiple.

    Raises:
        ConfigError: the multiple is not positive.
    """
    if multiple < 1:
        raise ConfigError(f"the multiple that a vocabulary is padded to must be at least 1, not {multiple}")
    return -(-(highest_id(backend_of(tokenizer)) + 1) // multiple) * multiple


def token_bits(size: int) -> int:
    """How many bits an id takes in files: 16 or 32. Ids are unsigned."""
    return 16 if size <= 1 << 16 else 32


def tags_card(
    vocabulary: TagVocabulary,
    tokenizer: Any,
    *,
    untagged: Any,
    about: Mapping[str, Mapping[str, Any]] | None = None,
    multiple: int = 1,
    noise: float = 0.01,
) -> dict[str, Any]:
    """Make the content of `tags.json`: ids, what tags mean, how to make their rows, what to ban when sampling.

    It also has the ids of some texts. By these `check_ids` finds out whether another tokenizer gives the same tokens.

    Args:
        vocabulary: the tags.
        tokenizer: the tokenizer that has them.
        untagged: the tokenizer without them.
        about: by name of tag: its `meaning`, `rule`, `threshold`, and what else is to be said of it, as JSON.
        multiple: the size of the vocabulary is rounded up to a multiple of it.
        noise: standard deviation of the noise on new rows; 0.01 is what Korbak et al. 2023 use.

    Raises:
        ConfigError: `about` names a tag that is not known, or uses a key that is taken.
    """
    about = about or {}
    if unknown := sorted(set(about) - set(vocabulary.names)):
        raise ConfigError(f"about names tags that are not known: {', '.join(unknown)}")
    old, size = vocabulary_size(untagged), vocabulary_size(tokenizer)
    bits, old_bits = token_bits(vocabulary_size(tokenizer, multiple=multiple)), token_bits(old)
    return {
        "version": 1,
        "tags": [_entry(vocabulary, i, about.get(name, {})) for i, name in enumerate(vocabulary.names)],
        "vocabulary": {
            "size": size,
            "padded_size": vocabulary_size(tokenizer, multiple=multiple),
            "untagged_size": old,
            "bits": bits,
            "untagged_bits": old_bits,
        },
        "initialisation": {
            "rows": vocabulary.ids,
            "method": "mean_of_old_rows_plus_noise",
            "noise": noise,
            "of_rows_below": old,
            "how": f"each row of `rows`, in the embedding and in the output matrix: the mean of the first {old} rows, "
            f"those of `rows` left out, plus normal noise of standard deviation {noise}",
        },
        "banned_when_sampling": vocabulary.ids,
        "examples": [{"text": text, "ids": _ids(tokenizer, text)} for text in PROBES],
    }


def check_ids(card: Mapping[str, Any], tokenizer: Any) -> None:
    """Check that a tokenizer is that of the shards.

    It has to have the tags of `tags.json`, each with its id, and to give text the same ids.

    Raises:
        ConfigError: it is another tokenizer. Names the tag or the text, and both ids.
    """
    backend = backend_of(tokenizer)
    for tag in card["tags"]:
        for token, number in ((tag["token"], tag["id"]), (tag["closing_token"], tag["closing_id"])):
            if token is not None and (found := backend.token_to_id(token)) != number:
                raise ConfigError(
                    f"{token} is id {number} in the shards, but {found} for this tokenizer",
                    hint="Load the tokenizer that lies beside the shards, in `tokenizer/`.",
                )
    for example in card.get("examples", ()):
        text, expected = example["text"], example["ids"]
        if (ids := _ids(tokenizer, text)) != expected:
            raise ConfigError(
                f"{text!r} has the ids {expected[:8]} in the shards, but {ids[:8]} from this tokenizer "
                f"({type(tokenizer).__name__}): the model was trained on other tokens",
                hint="Load the tokenizer that lies beside the shards, in `tokenizer/`; should the class have changed "
                "it, `PreTrainedTokenizerFast.from_pretrained` takes its tokenizer.json as it is.",
            )


def _ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a text, without the padding or truncation that the tokenizer may be set to."""
    if isinstance(tokenizer, Tokenizer):
        made = Tokenizer.from_str(tokenizer.to_str()) if tokenizer.truncation or tokenizer.padding else tokenizer
        made.no_truncation()
        made.no_padding()
        return made.encode(text, add_special_tokens=False).ids
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _entry(vocabulary: TagVocabulary, i: int, said: Mapping[str, Any]) -> dict[str, Any]:
    name, close = vocabulary.names[i], vocabulary.close_ids[i]
    entry: dict[str, Any] = {
        "name": name,
        "token": spell(name, "open"),
        "id": vocabulary.open_ids[i],
        "closing_token": None if close == NONE else spell(name, "close"),
        "closing_id": None if close == NONE else close,
        "family": vocabulary.families[i],
        "meaning": None,
        "rule": None,
        "threshold": None,
    }
    taken = {"name", "token", "id", "closing_token", "closing_id", "family"} & set(said)
    if taken:
        raise ConfigError(f"what is said of the tag {name!r} uses keys that are taken: {', '.join(sorted(taken))}")
    return entry | dict(said)
