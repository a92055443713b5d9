"""Classifiers: one score of the logits of any `AutoModelForSequenceClassification`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from annotate.errors import ConfigError
from annotate.models.base import Json
from annotate.models.encoder_with_head import EncoderWithHead
from annotate.models.sequence_classifier import Inputs, SequenceClassifier, Squashing
from annotate.scorers.sequence_scorer import SequenceScorer

if TYPE_CHECKING:
    import torch

    from annotate.models.sequence_forward import Readout

Activation = Literal["none", "logit", "sigmoid", "softmax", "auto"]


@dataclass(frozen=True, kw_only=True)
class Classifier(SequenceScorer):
    """Scores spans with a classifier from the hub or a directory.

        Classifier(model="unitary/toxic-bert", axis="niceness", label="toxic", sign=-1)

    How logits become probabilities is read from the model's configuration, as Transformers does: by softmax where there
    are several labels, by sigmoid where `problem_type` says multi-label, not at all for a regression. The score is

    - activation "none" (default): raw. Under softmax that is the log-odds of the label against all others, so that
      `sigmoid(score)` is the model's probability; else it is the label's logit.
    - "logit": the label's own logit, whatever the model is; for a multi-label model whose config does not say so.
    - "sigmoid", "softmax": a probability. It saturates at 0 and 1, where float32 no longer tells spans apart.
    - "auto": the number that the Transformers pipeline reports. It is refused for a model with one label and no
      `problem_type`: the pipeline applies a sigmoid there, even to a reward model or a regression.

    With `weights` the score is the expected value over the labels: the sum of probability times weight.

    Attributes:
        model: a directory or a hub id; or an `EncoderWithHead`, which has the settings that follow `revision` itself.
        axis: name of what is measured.
        label: a label by name, or by index; None where the model has one only.
        weights: a value for each label, by name; instead of `label`.
        activation: see above.
        sign: -1 where the label means the opposite of the axis, as with "toxic" for niceness.
        anchors: `{axis: (text that must score low, text that must score high)}`.
        revision: branch, tag or commit of a hub id.
        pair_column: a column that is read before the span, for models that judge pairs.
        max_length: tokens of an input at most; None: what the model takes, at most 4,096.
        dtype: "float32", "bfloat16" or "float16".
        batch_tokens: padded tokens of a batch at most.
        trust_remote_code: whether Python files that come with the model may run.
    """

    label: str | int | None = None
    weights: Mapping[str, float] | None = field(default=None, hash=False)
    activation: Activation = "none"
    pair_column: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.model, EncoderWithHead) and self.pair_column is not None:
            raise ConfigError(f"an encoder with a head reads the text alone, got pair_column={self.pair_column!r}")
        if self.activation not in get_args(Activation):
            raise ConfigError(f"activation must be one of {get_args(Activation)}, got {self.activation!r}")
        if self.weights is not None and self.label is not None:
            raise ConfigError(f"label or weights, not both: got label={self.label!r} and weights={self.weights!r}")
        if self.weights is not None and self.activation == "logit":
            raise ConfigError("an expected value is of probabilities, got activation='logit' with weights")

    @property
    def backbone(self) -> SequenceClassifier | EncoderWithHead:
        """The model, shared by all scorers that read its logits."""
        if isinstance(self.model, EncoderWithHead):
            return self.model
        inputs: Inputs = "text" if self.pair_column is None else "pair"
        return self._reading(inputs, prompt_column=self.pair_column)

    def identity(self) -> Json:
        """The model's identity, and how the score is made of its logits."""
        return {
            "kind": "classifier",
            "model": self.backbone.identity(),
            "axes": [self.axis],
            "label": self._index() if self.weights is None else None,
            "weights": None if self.weights is None else self._weights(),
            "activation": self.activation,
            "sign": self.sign,
        }

    def readout(self) -> Readout:
        """Logits to scores.

        Raises:
            ConfigError: no such label, or an activation that does not fit the model.
        """
        import torch

        squashing = self._squashing()
        sign = float(self.sign)
        if self.weights is not None:
            weights = self._weights()

            def expected_value(logits: torch.Tensor) -> torch.Tensor:
                values = torch.tensor(weights, dtype=torch.float32, device=logits.device)
                return torch.mv(_probabilities(logits, squashing), values) * sign

            return expected_value
        index = self._index()
        if self.activation in ("none", "logit"):
            if self.activation == "none" and squashing == "softmax":
                return lambda logits: _log_odds(logits, index) * sign
            return lambda logits: logits[:, index] * sign
        return lambda logits: _probabilities(logits, squashing)[:, index] * sign

    def _squashing(self) -> Squashing:
        """What turns the logits into probabilities."""
        if self.activation in ("sigmoid", "softmax"):
            return "sigmoid" if self.activation == "sigmoid" else "softmax"
        if self.activation == "auto" and not self.backbone.says_squashing():
            raise ConfigError(
                f"model {self.model!r} has one label and does not say whether it is a probability or a regression; "
                "activation='auto' would squash it by a sigmoid",
                hint="choose activation='none' for the raw number (rewards, regressions) or activation='sigmoid'",
            )
        return self.backbone.squashing()

    def _index(self) -> int:
        """Position of the label among the model's outputs."""
        labels = self.backbone.labels()
        if self.label is None:
            if len(labels) == 1:
                return 0
            raise ConfigError(f"model {self.model!r} has the labels {labels}: name one", hint=f"label={labels[-1]!r}")
        if isinstance(self.label, int):
            if 0 <= self.label < len(labels):
                return self.label
        elif self.label in labels:
            return labels.index(self.label)
        raise ConfigError(f"model {self.model!r} has no label {self.label!r}; its labels are {labels}")

    def _weights(self) -> list[float]:
        labels = self.backbone.labels()
        weights = dict(self.weights or {})
        if sorted(weights) != sorted(labels):
            raise ConfigError(f"weights must give a value for each label of {labels}, got {weights}")
        return [float(weights[label]) for label in labels]


def _probabilities(logits: torch.Tensor, squashing: Squashing) -> torch.Tensor:
    if squashing == "none":
        return logits
    return logits.sigmoid() if squashing == "sigmoid" else logits.softmax(dim=1)


def _log_odds(logits: torch.Tensor, index: int) -> torch.Tensor:
    """`log(p / (1 - p))` of a softmax probability, without ever making the probability."""
    others = logits.clone()
    others[:, index] = float("-inf")
    return logits[:, index] - others.logsumexp(dim=1)
