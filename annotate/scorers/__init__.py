"""Scorers: models that give spans a score on one or more axes."""

from annotate.scorers.anchors import check_anchors
from annotate.scorers.classifier import Classifier
from annotate.scorers.encoder import Encoder, probe_features
from annotate.scorers.function import PythonScorer
from annotate.scorers.likelihood import CausalModel, Likelihood
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
from annotate.scorers.reward_model import RewardModel
from annotate.scorers.testing import FakeScorer

__all__ = [
    "CausalModel",
    "Classifier",
    "Encoder",
    "EncoderHashes",
    "FakeScorer",
    "Feature",
    "Head",
    "Isotonic",
    "Likelihood",
    "Platt",
    "Probe",
    "ProbeCard",
    "PythonScorer",
    "RewardModel",
    "check_anchors",
    "load_probe",
    "probe_features",
    "save_probe",
    "shipped_probes",
]
