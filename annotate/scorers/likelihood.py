"""Likelihood: how probable a causal language model finds a span."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from annotate.curves import Curve
from annotate.models.axes import check_axes, check_sign
from annotate.models.base import Json
from annotate.models.causal_model import CausalModel


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Mean natural-log probability per token of the span, at most 0; higher is more usual text.

        score(spans, scorers=[Likelihood(model=CausalModel("gpt2"))])

    A span without tokens has no score.

    Attributes:
        model: the causal model, as `CausalModel("gpt2")`.
        axis: name of what is measured.
        sign: -1 for surprisal.
        anchors: `{axis: (text that must score low, text that must score high)}`.
    """

    model: CausalModel
    axis: str = "likelihood"
    sign: int = 1
    anchors: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_axes(self.axes, self.anchors)
        check_sign(self.sign)

    @property
    def axes(self) -> tuple[str, ...]:
        """The one axis."""
        return (self.axis,)

    @property
    def curves(self) -> Mapping[str, Curve]:
        """None: a likelihood is no probability of a label."""
        return {}

    @property
    def backbone(self) -> CausalModel:
        """The model."""
        return self.model

    def resolved(self) -> Likelihood:
        """The same scorer with its model pinned."""
        return dataclasses.replace(self, model=self.model.resolved())

    def identity(self) -> Json:
        """The model's identity and the sign."""
        return {"kind": "likelihood", "model": self.model.identity(), "axes": [self.axis], "sign": self.sign}
