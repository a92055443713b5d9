"""Reads a model's weights, and checks what Transformers passes over: weights made up or left out, ids out of reach."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from annotate.errors import ConfigError
from annotate.models.files import reason
from annotate.models.positions import usable_positions
from annotate.models.text_model import TextModel
from annotate.models.weights import count_weights

BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "masked_bias", "attn.bias")
"""How the names of tables end that old checkpoints hold. They are not trained: Transformers computes them."""


def load_model(
    auto_class: str,
    settings: TextModel,
    device: str,
    *,
    optional: Sequence[str] = (),
    weights: Mapping[str, Any] | None = None,
) -> Any:
    """Read a model's weights onto a device, ready to score.

    Args:
        auto_class: name of the Transformers class, such as "AutoModel".
        settings: which model, and its dtype.
        device: as `find_device` takes it; or "cuda:all", which spreads the model over all GPUs of this process.
        optional: prefixes of weights that may be missing because they are not used.
        weights: tensors by name, instead of those in the model's files.

    Raises:
        ConfigError: the files can't be read; the model does not fit into memory; weights are missing, or have no place
            in the model; or an input may have ids or positions that the model lacks.
    """
    import torch
    import transformers

    from annotate.models.device import device_map, find_device
    from annotate.models.linear_on_cpu import use_onednn
    from annotate.models.padding_masks import trust_ids, trust_masks
    from annotate.models.precision import convert_weights

    # An environment variable or another library may have allowed less.
    torch.set_float32_matmul_precision("highest")
    trust_masks()
    files = settings.files()
    place, spread = find_device(device), device_map(device)
    if weights is None:
        _check_memory(settings, place, spread=bool(spread))
    try:
        with _quiet():
            model, info = _read(getattr(transformers, auto_class), settings, weights, spread)
    except Exception as error:
        raise ConfigError(
            f"model {files.name!r} can't be loaded by {auto_class}: {reason(error)}",
            hint="pip install -e '.[spread]' has Accelerate, which spreads a model over GPUs"
            if isinstance(error, ImportError) and spread
            else "its config.json must name a class of that kind; a model that brings its own code needs "
            "trust_remote_code=True",
        ) from error
    if mismatched := sorted(info["mismatched_keys"]):
        name, there, expected = mismatched[0]
        raise ConfigError(
            f"model {files.name!r}: {name} has the shape {tuple(there)} in its weights, by its config.json "
            f"{tuple(expected)} ({len(mismatched)} such weights)",
            hint="its config.json is not that of these weights, or has another number of labels",
        )
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(tuple(optional)))
    if missing:
        raise ConfigError(
            f"model {files.name!r} has no weights for {missing[0]} ({len(missing)} missing), which {auto_class} "
            "would make up at random",
            hint="name a model that was trained for this",
        )
    left_out = list(_left_out(model, info["unexpected_keys"]))
    if left_out:
        raise ConfigError(
            f"model {files.name!r} has weights that its config.json has no place for: {left_out[0]} "
            f"({len(left_out)} in all); without them it is not the model that was trained",
            hint="correct the config (layers, biases), or merge an adapter into the model; if they are of no use, "
            "read the model with Transformers and `save_pretrained` it, which leaves them out",
        )
    _check_reach(model, settings)
    # One pass an input: nothing is gained from keeping keys and values.
    model.config.use_cache = False
    trust_ids(model)
    if settings.dtype != "float32":
        convert_weights(model, settings.dtype)
    elif place.type == "cpu" and not spread:
        use_onednn(model)
    return (model if spread else model.to(place)).eval()


def _check_memory(settings: TextModel, device: Any, *, spread: bool) -> None:
    """Refuse a model that does not fit: on a CPU the kernel would end the process, without a word.

    Raises:
        ConfigError: it does not.
    """
    from annotate.models.fit import lacking_memory

    weights = count_weights(settings.files().weights())
    if lacking := lacking_memory(weights, settings.dtype, device, spread=spread):
        raise ConfigError(
            f"model {settings.name!r} can't be loaded: {lacking}",
            hint="Use a machine with more memory, or fewer models at a time: --workers. score(..., gpus=2) spreads a "
            "classifier, a reward model or a causal language model over two GPUs of a node.",
        )


def _read(
    auto: Any, settings: TextModel, weights: Mapping[str, Any] | None, spread: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """A model with its weights, and what Transformers says of these."""
    import torch

    if weights is None:
        found: tuple[Any, Mapping[str, Any]] = auto.from_pretrained(
            settings.files().directory,
            use_safetensors=True,
            trust_remote_code=settings.trust_remote_code,
            # A large model is read as it was saved: it may not fit in memory as float32.
            dtype=torch.float32 if settings.dtype == "float32" else "auto",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused by name
            **spread,
        )
        return found
    model = auto.from_config(settings.config(), trust_remote_code=settings.trust_remote_code).float()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    made = [name for name in missing if not name.endswith(BUFFERS)]
    return model, {"missing_keys": made, "unexpected_keys": unexpected, "mismatched_keys": ()}


def _left_out(model: Any, unexpected: Iterable[str]) -> Iterator[str]:
    """Weights of the base model, by their names, that were not read; another task's head is none of them."""
    base = model.base_model
    parts = {name for name, _ in base.named_children()}
    for name in sorted(unexpected):
        inside = name.removeprefix(f"{base.base_model_prefix}.")
        if inside.partition(".")[0] in parts and not inside.endswith(BUFFERS):
            yield name


def _check_reach(model: Any, settings: TextModel) -> None:
    """Refuse a model whose tables lack an id or a position that an input may have: on a GPU that ends the process."""
    with contextlib.suppress(NotImplementedError, AttributeError):
        settings.check_ids(int(model.get_input_embeddings().weight.shape[0]))
    positions = usable_positions(model)
    if positions is not None and settings.bounded() and settings.window() > positions:
        raise ConfigError(
            f"model {settings.model!r} takes {positions} tokens, got inputs of up to {settings.window()}",
            hint=f"set max_length={positions}",
        )


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
