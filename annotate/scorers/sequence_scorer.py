"""What classifiers and reward models share: one score, made of the logits of a sequence classifier."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Self

from annotate.arguments import as_path
from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.models.axes import check_axes, check_sign
from annotate.models.base import Json
from annotate.models.batches import BATCH_TOKENS
from annotate.models.chat_template import DATE
from annotate.models.encoder_with_head import EncoderWithHead
from annotate.models.sequence_classifier import Inputs, SequenceClassifier
from annotate.models.text_model import Dtype, TextModel

if TYPE_CHECKING:
    from annotate.models.sequence_forward import Readout


@dataclass(frozen=True)
class SequenceScorer(ABC):
    """A scorer that makes one score of a sequence classifier's logits; `Classifier` and `RewardModel` say how."""

    model: str | PathLike[str] | EncoderWithHead
    _: KW_ONLY
    axis: str
    sign: int = 1
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)
    revision: str | None = None
    max_length: int | None = None
    dtype: Dtype = "float32"
    batch_tokens: int = BATCH_TOKENS
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.model, EncoderWithHead):
            self._check_settings()
        else:
            object.__setattr__(self, "model", as_path(self.model, "model"))
        check_axes(self.axes, self.anchors)
        check_sign(self.sign)
        _ = self.backbone  # its settings are checked there

    def _check_settings(self) -> None:
        """Refuse settings of the model here, where the model has its own."""
        for own in dataclasses.fields(TextModel):
            if own.name != "model" and (value := getattr(self, own.name)) != own.default:
                raise ConfigError(f"{own.name} is a setting of the encoder: give {own.name}={value!r} to it")

    @property
    def axes(self) -> tuple[str, ...]:
        """The one axis."""
        return (self.axis,)

    @property
    def curves(self) -> Mapping[str, Curve]:
        """None: how often a label is right is not known of a model."""
        return {}

    @property
    @abstractmethod
    def backbone(self) -> SequenceClassifier | EncoderWithHead:
        """The model and what it reads."""

    @abstractmethod
    def identity(self) -> Json:
        """The model's identity, and how the score is made of its logits."""

    @abstractmethod
    def readout(self) -> Readout:
        """Logits to scores.

        Raises:
            ConfigError: they are not what the scorer says of them.
        """

    def _reading(
        self, inputs: Inputs, prompt: str | None = None, prompt_column: str | None = None, date: str = DATE
    ) -> SequenceClassifier:
        """The model with these inputs."""
        assert not isinstance(self.model, EncoderWithHead)
        return SequenceClassifier(
            self.model,
            revision=self.revision,
            max_length=self.max_length,
            dtype=self.dtype,
            batch_tokens=self.batch_tokens,
            trust_remote_code=self.trust_remote_code,
            inputs=inputs,
            prompt=prompt,
            prompt_column=prompt_column,
            date=date,
        )

    def resolved(self) -> Self:
        """The same scorer with its directory made absolute or its revision a commit, checked against the config.

        Raises:
            ConfigError: the model is missing, or its logits are not what the scorer says of them.
        """
        backbone = self.backbone.resolved()
        if isinstance(backbone, EncoderWithHead):
            resolved = dataclasses.replace(self, model=backbone)
        else:
            resolved = dataclasses.replace(self, model=backbone.model, revision=backbone.revision)
        resolved.readout()
        return resolved
