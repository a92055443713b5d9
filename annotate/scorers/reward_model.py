"""Reward models: sequence classifiers with one logit, which is the score as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotate.errors import ConfigError
from annotate.models.base import Json
from annotate.models.chat_template import DATE
from annotate.models.encoder_with_head import EncoderWithHead
from annotate.models.sequence_classifier import Inputs, SequenceClassifier
from annotate.scorers.sequence_scorer import SequenceScorer

if TYPE_CHECKING:
    from annotate.models.sequence_forward import Readout


@dataclass(frozen=True, kw_only=True)
class RewardModel(SequenceScorer):
    """Scores spans as a reward model scores answers: one logit, never squashed.

        RewardModel(model="my/reward-model", axis="helpfulness", prompt="Explain this to me.")

    The span is the answer; the prompt is fixed, or comes with each span.

    Attributes:
        model: a directory or a hub id.
        axis: name of what is measured.
        inputs: "chat": by the model's chat template; "pair": prompt and span as a pair of texts; "text": the span
            alone.
        prompt: what the user is supposed to have said, the same for all spans.
        prompt_column: instead of `prompt`, a column of the corpus that says it. Where prompt and span together are too
            long, the prompt loses its start and the span its end, each down to half of the room.
        date: what a chat template gets for today, `YYYY-MM-DD`.
        sign: -1 where a low reward means more of the axis.
        anchors: `{axis: (text that must score low, text that must score high)}`.
        revision: branch, tag or commit of a hub id.
        max_length: tokens of prompt, span and template at most; None: what the model takes, at most 4,096.
        dtype: "float32", "bfloat16" or "float16".
        batch_tokens: padded tokens of a batch at most.
        trust_remote_code: whether Python files that come with the model may run.
    """

    inputs: Inputs = "chat"
    prompt: str | None = None
    prompt_column: str | None = None
    date: str = DATE

    def __post_init__(self) -> None:
        if isinstance(self.model, EncoderWithHead):
            raise ConfigError(
                "a reward model reads a prompt and an answer, an encoder with a head one text",
                hint="use Classifier(EncoderWithHead(...), axis=...)",
            )
        super().__post_init__()

    @property
    def backbone(self) -> SequenceClassifier:
        """The model and what it reads."""
        return self._reading(self.inputs, self.prompt, self.prompt_column, self.date)

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
