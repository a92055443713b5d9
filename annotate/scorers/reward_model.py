"""Reward models: sequence classifiers with one logit, which is the score as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from annotate.errors import ConfigError
from annotate.scorers.base import Json
from annotate.scorers.checks import check_axes
from annotate.scorers.classifier import check_sign
from annotate.scorers.sequence import Inputs, Readout, SequenceClassifier
from annotate.scorers.textmodel import Dtype
from annotate.scorers.tokens import BATCH_TOKENS


@dataclass(frozen=True)
class RewardModel:
    """Scores spans as a reward model scores answers: one logit, never squashed.

    The span is the answer; the prompt is fixed, or comes with each span.

    Attributes:
        model: a directory or a hub id.
        axis: name of what is measured.
        inputs: "chat": by the model's chat template; "pair": prompt and span as a pair of texts; "text": the span
            alone.
        prompt: what the user is supposed to have said, the same for all spans.
        prompt_column: or a column of the span table that says it.
        sign: -1 where a low reward means more of the axis.
        anchors: `{axis: (text that must score low, text that must score high)}`.
        revision: branch, tag or commit of a hub id.
        max_length: tokens of prompt, span and template at most; None: what the model takes, at most 4,096.
        dtype: "float32" or "bfloat16".
        batch_tokens: padded tokens of a batch at most.
        trust_remote_code: whether Python files that come with the model may run.
    """

    model: str
    _: KW_ONLY
    axis: str
    inputs: Inputs = "chat"
    prompt: str | None = None
    prompt_column: str | None = None
    sign: int = 1
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    revision: str | None = None
    max_length: int | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_axes(self.axes, self.anchors)
        check_sign(self.sign)
        _ = self.backbone

    @property
    def axes(self) -> tuple[str, ...]:
        """The one axis."""
        return (self.axis,)

    @property
    def backbone(self) -> SequenceClassifier:
        """The model and what it reads."""
        return SequenceClassifier(
            self.model,
            revision=self.revision,
            max_length=self.max_length,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
            inputs=self.inputs,
            prompt=self.prompt,
            prompt_column=self.prompt_column,
        )

    def resolved(self) -> RewardModel:
        """The same scorer with its directory made absolute or its revision a commit.

        Raises:
            ConfigError: the model is missing, or has more than one logit.
        """
        backbone = self.backbone.resolved()
        resolved = dataclasses.replace(self, model=backbone.model, revision=backbone.revision)
        resolved.readout()
        return resolved

    def identity(self) -> Json:
        """The model's identity and the sign."""
        return {"kind": "reward_model", "model": self.backbone.identity(), "axes": [self.axis], "sign": self.sign}

    def readout(self) -> Readout:
        """The one logit.

        Raises:
            ConfigError: there are more.
        """
        labels = self.backbone.labels()
        if len(labels) != 1:
            raise ConfigError(
                f"model {self.model!r} has {len(labels)} labels ({labels}); a reward model has one logit",
                hint="use Classifier(..., label=...)",
            )
        sign = float(self.sign)
        return lambda logits: logits[:, 0] * sign
