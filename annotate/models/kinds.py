"""What a model is good for, as its configuration tells, before its weights are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from annotate.errors import ConfigError

Kind = Literal["sequence classifier", "causal language model", "encoder"]


def kind_of(config: Any, name: str) -> Kind:
    """What a model is, by the class that its configuration names.

    A class for another task (masked words, entities, questions) counts as its encoder, which a probe can read.

    Args:
        config: a Transformers configuration.
        name: what to call the model in messages.

    Raises:
        ConfigError: no scorer can use it.
    """
    architecture = architecture_of(config)
    if architecture.endswith("ForSequenceClassification"):
        return "sequence classifier"
    if architecture in _classes("CAUSAL_LM"):
        return "causal language model"
    if fault := _fault(config, architecture):
        raise ConfigError(
            f"model {name!r} ({architecture or config.model_type}) can't be used: {fault}",
            hint="name a sequence classifier, a reward model with one logit, a causal language model, or a text "
            "encoder, on which you train a probe",
        )
    return "encoder"


def architecture_of(config: Any) -> str:
    """The class that a configuration names; empty where it names none."""
    return next(iter(getattr(config, "architectures", None) or ()), "")


def _fault(config: Any, architecture: str) -> str | None:
    if architecture in _classes("SEQ_TO_SEQ_CAUSAL_LM") or config.is_encoder_decoder:
        return "it writes one text after reading another, and has no score of a text"
    if read := [part for part in ("vision", "audio", "speech") if getattr(config, f"{part}_config", None) is not None]:
        return f"it reads more than text ({', '.join(read)})"
    wanted = getattr(_base_class(config), "main_input_name", "input_ids")
    return None if wanted == "input_ids" else f"it reads {wanted.removeprefix('input_').replace('_', ' ')}, not text"


def _base_class(config: Any) -> Any:
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError:  # of a model with code of its own
        return None
    return found[0] if isinstance(found, tuple) else found


def _classes(task: str) -> set[str]:
    """The classes of Transformers for a task."""
    from transformers.models.auto import modeling_auto

    return set(_flat(getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").values()))


def _flat(values: Any) -> Iterator[str]:
    for value in values:
        yield from (value,) if isinstance(value, str) else value
