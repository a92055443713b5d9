"""Scorers: models that give spans a score on one or more axes."""

from annotate.scorers.encoder import Encoder, probe_features
from annotate.scorers.probe import Probe, shipped_probes
from annotate.scorers.probe_file import (
    EncoderHashes,
    Feature,
    Head,
    Isotonic,
    Platt,
    ProbeCard,
    load_probe,
    save_probe,
)

__all__ = [
    "Encoder",
    "EncoderHashes",
    "Feature",
    "Head",
    "Isotonic",
    "Platt",
    "Probe",
    "ProbeCard",
    "load_probe",
    "probe_features",
    "save_probe",
    "shipped_probes",
]
