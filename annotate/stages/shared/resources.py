"""What a model takes of a node: checks of settings that model stages share."""

from __future__ import annotations

from annotate.errors import ConfigError


def check_resources(threads: int, gpus: float) -> None:
    """Check threads and GPUs of a model.

    Raises:
        ConfigError: there is less than a thread, or a number of GPUs that is neither whole nor a part of one.
    """
    if threads < 1:
        raise ConfigError(f"threads must be at least 1, got {threads}")
    if not 0 < gpus < 1000 or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(
            f"gpus must be a number from 1, or a part of 1, got {gpus}",
            hint="0.5 puts two models on a GPU, and 4 spreads one over four.",
        )
