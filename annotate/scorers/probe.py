"""Probes: linear heads on the hidden states of one encoder, shipped with this package or trained by the user."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from os import PathLike
from pathlib import Path

from annotate import probes
from annotate.arguments import as_path
from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.models.base import Json
from annotate.models.batches import BATCH_TOKENS
from annotate.models.files import check_hashes
from annotate.models.text_model import Dtype
from annotate.probes.encoder import Encoder
from annotate.probes.file import Head, load_probe
from annotate.storage.local_copies import local_copy

SHIPPED = Path(probes.__file__).parent / "heads"
"""Where the heads that come with this package are."""


@dataclass(frozen=True)
class Probe:
    """A linear head on an encoder's pooled hidden states; the score is its raw output (a logit).

        score(spans, scorers=[Probe("niceness"), Probe("tone")])

    Probes with equal encoders share one forward pass.

    Attributes:
        source: the name of a shipped head ("niceness", "tone", "correctness"), or the path of a file that
            `annotate probe train` wrote.
        encoder: where to find the encoder; None: by the name in the probe's file. It must be the very model that the
            probe was made for.
        dtype: of the encoder that the probe's file names; an `encoder` has its own.
        batch_tokens: likewise.
    """

    source: str | PathLike[str]
    _: KW_ONLY
    encoder: Encoder | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_path(self.source, "source"))
        if self.encoder is None:
            Encoder(dtype=self.dtype, batch_tokens=self.batch_tokens)  # which checks them
            return
        for name in ("dtype", "batch_tokens"):
            if (value := getattr(self, name)) != getattr(Encoder, name):
                raise ConfigError(f"{name} is a setting of the encoder: give {name}={value!r} to it")

    def path(self) -> Path:
        """The probe's file.

        Raises:
            ConfigError: there is none of this name.
        """
        source = str(self.source)
        if "/" in source or os.sep in source or source.endswith(".safetensors"):
            path = local_copy(source)
            if not path.is_file():
                raise ConfigError(f"probe {self.source!r} does not exist", hint="check the path")
            return path
        path = SHIPPED / f"{self.source}.safetensors"
        if not path.is_file():
            raise ConfigError(
                f"no probe named {self.source!r} is shipped; there are {shipped_probes()}",
                hint="name one of these, or give the path of a .safetensors file",
            )
        return path

    def head(self) -> Head:
        """Read the probe's file, once a process.

        Raises:
            ConfigError: it is missing, or no valid probe.
        """
        path = self.path()
        stat = path.stat()
        return _read(str(path), stat.st_size, stat.st_mtime_ns)[0]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axis that the probe's file names."""
        return (self.head().card.axis,)

    @property
    def anchors(self) -> Mapping[str, tuple[str, str]]:
        """The anchors in the probe's file."""
        card = self.head().card
        return {card.axis: card.anchors}

    @property
    def curves(self) -> Mapping[str, Curve]:
        """The curve in the probe's file, if it has one."""
        card = self.head().card
        return {card.axis: card.calibration} if card.calibration is not None else {}

    @property
    def backbone(self) -> Encoder:
        """The encoder, shared by all probes that name an equal one."""
        if self.encoder is not None:
            return self.encoder
        card = self.head().card
        return Encoder(
            card.encoder.name,
            max_length=card.max_length,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            prefix=card.prefix,
        )

    def resolved(self) -> Probe:
        """The same probe with its path absolute and its encoder pinned.

        Raises:
            ConfigError: the encoder is not the one that the probe was made for.
        """
        path = self.path()
        stays = path.parent == SHIPPED or "://" in str(self.source)  # of a URL each node makes its own copy
        source = self.source if stays else str(path.absolute())
        encoder = self.backbone.resolved()
        card = self.head().card
        if encoder.prefix != card.prefix:
            raise ConfigError(
                f"probe {self.source!r} was trained on texts after {card.prefix!r}, got prefix={encoder.prefix!r}",
                hint=f"Give the encoder prefix={card.prefix!r}.",
            )
        check_hashes(encoder.name, encoder.files().hashes(), card.encoder.hashes(), needed_by=f"probe {self.source!r}")
        return dataclasses.replace(
            self, source=source, encoder=encoder, dtype=Encoder.dtype, batch_tokens=Encoder.batch_tokens
        )

    def identity(self) -> Json:
        """The hash of the probe's file and the identity of its encoder."""
        path = self.path()
        stat = path.stat()
        return {
            "kind": "probe",
            "probe": _read(str(path), stat.st_size, stat.st_mtime_ns)[1],
            "axes": list(self.axes),
            "encoder": self.backbone.identity(),
        }


def shipped_probes() -> list[str]:
    """Names of the heads that come with this package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


@functools.lru_cache(maxsize=64)
def _read(path: str, size: int, modified: int) -> tuple[Head, str]:
    return load_probe(path), hashlib.sha256(Path(path).read_bytes()).hexdigest()
