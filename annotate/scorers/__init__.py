"""Scorers: they give spans a score on one or more axes. A kind of scorer is one file here.

    classifier        a label of a sequence classifier
    reward_model      the one logit of a reward model
    likelihood        how probable a causal language model finds a span
    probe             a linear head on an encoder's hidden states
    function          a Python function
    column            a column of the corpus, as a score that is there already
    testing           a hash of the text, for tests of pipelines

`base` says what a scorer is, `anchors` checks that it measures in the right direction, and `sequence_scorer` is what
classifiers and reward models share. The models that kinds hold are in `annotate.models`, what is read and written of
probes in `annotate.probes`.

A new kind is one file: a frozen dataclass with the members of `base.Scorer`, whose `backbone` is one of
`annotate.models`, `annotate.probes.Encoder`, or one of its own. Nothing else knows kinds: `Score` takes any object that
has these members, a class of a pipeline file too. To be public, a kind is registered below: its import, and its name
with its module in `_HOMES`.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.curves import Isotonic, Platt
    from annotate.models.causal_model import CausalModel
    from annotate.probes.encoder import Encoder, probe_features
    from annotate.probes.file import EncoderHashes, Feature, Head, ProbeCard, load_probe, save_probe
    from annotate.scorers.anchors import check_anchors
    from annotate.scorers.classifier import Classifier
    from annotate.scorers.column import column_scorer
    from annotate.scorers.function import PythonScorer
    from annotate.scorers.likelihood import Likelihood
    from annotate.scorers.probe import Probe, shipped_probes
    from annotate.scorers.reward_model import RewardModel
    from annotate.scorers.testing import fake_scorer

_HOMES = {
    "CausalModel": "annotate.models.causal_model",
    "Classifier": "annotate.scorers.classifier",
    "Encoder": "annotate.probes.encoder",
    "EncoderHashes": "annotate.probes.file",
    "fake_scorer": "annotate.scorers.testing",
    "Feature": "annotate.probes.file",
    "Head": "annotate.probes.file",
    "Isotonic": "annotate.curves",
    "Likelihood": "annotate.scorers.likelihood",
    "Platt": "annotate.curves",
    "Probe": "annotate.scorers.probe",
    "ProbeCard": "annotate.probes.file",
    "PythonScorer": "annotate.scorers.function",
    "RewardModel": "annotate.scorers.reward_model",
    "check_anchors": "annotate.scorers.anchors",
    "column_scorer": "annotate.scorers.column",
    "load_probe": "annotate.probes.file",
    "probe_features": "annotate.probes.encoder",
    "save_probe": "annotate.probes.file",
    "shipped_probes": "annotate.scorers.probe",
}

__all__ = [
    "CausalModel",
    "Classifier",
    "Encoder",
    "EncoderHashes",
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
    "fake_scorer",
    "load_probe",
    "probe_features",
    "save_probe",
    "shipped_probes",
]

__getattr__ = attributes(__name__, _HOMES)
