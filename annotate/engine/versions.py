"""The versions that can change the bytes of a result: every process of a run has to have the driver's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import xxhash

from annotate.errors import ConfigError
from annotate.installed import DISTRIBUTION

PACKAGES = ("torch", "transformers", "tokenizers", "pyarrow")
"""With annotate itself, the packages that are compared."""


@functools.cache
def versions() -> Mapping[str, str]:
    """The versions of annotate and of `PACKAGES`; "none" for one that is not installed.

    Builds of one version for CPUs and for GPUs count as equal: the kind of device is noted with each unit. annotate's
    is its version and a hash of its source, since a clone on a node may be older than another.
    """
    found = {name: _version(name).partition("+")[0] for name in PACKAGES}
    return {"annotate": f"{_version(DISTRIBUTION)} with source {_source()}", **found}


def check_versions(node: str, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Check that a node has the driver's versions.

    Raises:
        ConfigError: it has others. The node is named.
    """
    differing = [name for name in ours if theirs.get(name, ours[name]) != ours[name]]
    if differing:
        told = ", ".join(f"{name} {theirs[name]}, not {ours[name]}" for name in differing)
        raise ConfigError(
            f"the node {node} has {told} as the driver has: results could differ between nodes",
            hint="Install the same versions on all nodes and where the driver runs; one image for all does that.",
        )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"


def _source() -> str:
    """A hash of the source of annotate."""
    state, folder = xxhash.xxh3_64(), Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        state.update(str(path.relative_to(folder)).encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:8]
