"""Scorers: models that give spans a score on one or more axes."""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.curves import Isotonic, Platt
    from annotate.scorers.anchors import check_anchors
    from annotate.scorers.classifier import Classifier
    from annotate.scorers.column import column_scorer
    from annotate.scorers.encoder import Encoder, probe_features
    from annotate.scorers.function import PythonScorer
    from annotate.scorers.likelihood import CausalModel, Likelihood
    from annotate.scorers.probe import Probe, shipped_probes
    from annotate.scorers.probe_file import EncoderHashes, Feature, Head, ProbeCard, load_probe, save_probe
    from annotate.scorers.reward_model import RewardModel
    from annotate.scorers.testing import FakeScorer

_HOMES = {
    "CausalModel": "annotate.scorers.likelihood",
    "Classifier": "annotate.scorers.classifier",
    "Encoder": "annotate.scorers.encoder",
    "EncoderHashes": "annotate.scorers.probe_file",
    "FakeScorer": "annotate.scorers.testing",
    "Feature": "annotate.scorers.probe_file",
    "Head": "annotate.scorers.probe_file",
    "Isotonic": "annotate.curves",
    "Likelihood": "annotate.scorers.likelihood",
    "Platt": "annotate.curves",
    "Probe": "annotate.scorers.probe",
    "ProbeCard": "annotate.scorers.probe_file",
    "PythonScorer": "annotate.scorers.function",
    "RewardModel": "annotate.scorers.reward_model",
    "check_anchors": "annotate.scorers.anchors",
    "column_scorer": "annotate.scorers.column",
    "load_probe": "annotate.scorers.probe_file",
    "probe_features": "annotate.scorers.encoder",
    "save_probe": "annotate.scorers.probe_file",
    "shipped_probes": "annotate.scorers.probe",
}

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
    "column_scorer",
    "load_probe",
    "probe_features",
    "save_probe",
    "shipped_probes",
]

__getattr__ = attributes(__name__, _HOMES)
