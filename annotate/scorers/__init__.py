"""Scorers: they give spans a score on one or more axes. A kind of scorer is one file here.

    classifier        a label of a sequence classifier
    reward_model      the one logit of a reward model
    likelihood        how probable a causal language model finds a span
    probe             a linear head on an encoder's hidden states
    function          a Python function
    column            a column of the corpus, as a score that is there already
    testing           a hash of the text, for tests of pipelines

`base` says what a scorer is, `anchors` checks that it measures in the right direction, and `sequence_scorer` is what
classifiers and reward models share. `model_check` finds out which kind of scorer a model is for. The models that kinds
hold are in `annotate.models`, what is read and written of probes in `annotate.probes`.

A new kind is one file: a frozen dataclass with the members of `base.Scorer`. Its `backbone` is one of
`annotate.models`, the `Encoder` of probes, or one of its own. Nothing else knows the kinds: `score` takes any object
that has these members, one of a pipeline file too. To be a public name, a kind is registered below: its import, its
line in `_HOMES`, its line in `__all__`; a test compares the three.
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.models.causal_model import CausalModel
    from annotate.models.encoder_with_head import EncoderWithHead
    from annotate.probes.encoder import Encoder
    from annotate.scorers.anchors import check_anchors
    from annotate.scorers.classifier import Classifier
    from annotate.scorers.column import column_scorer
    from annotate.scorers.function import PythonScorer
    from annotate.scorers.likelihood import Likelihood
    from annotate.scorers.model_check import ModelCheck, ModelTrial, check_model
    from annotate.scorers.probe import Probe, shipped_probes
    from annotate.scorers.reward_model import RewardModel
    from annotate.scorers.testing import fake_scorer

_HOMES = {
    "CausalModel": "annotate.models.causal_model",
    "Classifier": "annotate.scorers.classifier",
    "Encoder": "annotate.probes.encoder",
    "EncoderWithHead": "annotate.models.encoder_with_head",
    "fake_scorer": "annotate.scorers.testing",
    "Likelihood": "annotate.scorers.likelihood",
    "Probe": "annotate.scorers.probe",
    "PythonScorer": "annotate.scorers.function",
    "RewardModel": "annotate.scorers.reward_model",
    "ModelCheck": "annotate.scorers.model_check",
    "ModelTrial": "annotate.scorers.model_check",
    "check_anchors": "annotate.scorers.anchors",
    "check_model": "annotate.scorers.model_check",
    "column_scorer": "annotate.scorers.column",
    "shipped_probes": "annotate.scorers.probe",
}

__all__ = [
    "CausalModel",
    "Classifier",
    "Encoder",
    "EncoderWithHead",
    "Likelihood",
    "ModelCheck",
    "ModelTrial",
    "Probe",
    "PythonScorer",
    "RewardModel",
    "check_anchors",
    "check_model",
    "column_scorer",
    "fake_scorer",
    "shipped_probes",
]

__getattr__ = attributes(__name__, _HOMES)
