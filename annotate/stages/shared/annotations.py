"""Annotations: what all stages that give spans scores have in common, whether a model scores or a file has scores."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

from annotate.curves import Curve
from annotate.errors import ConfigError
from annotate.graph import Documents, Stage
from annotate.stages.near_duplicates import NearDuplicates
from annotate.stages.split import Split

RESERVED = ("row", "span", "truncated", "text", "start", "end", "id")
"""Names of other columns, which no axis may have."""


class Annotations(Stage):
    """Scores of the spans of kept documents, from any origin. Rules read them.

    Attributes:
        spans: what has scores.
        skip: verdicts; documents that are not kept have no scores.
    """

    spans: Split
    skip: NearDuplicates | None

    name: ClassVar[str] = "annotations"
    schema: ClassVar[str] = "annotations"

    @property
    @abc.abstractmethod
    def axes(self) -> tuple[str, ...]:
        """The axes on which spans get scores."""

    @property
    def curves(self) -> Mapping[str, Curve]:
        """The curves that turn scores into probabilities, by axis, of the axes that have one."""
        return {}

    @property
    def inputs(self) -> Mapping[str, Stage]:
        """Spans, the corpus for their text, and verdicts if any."""
        skip: Mapping[str, Stage] = {"verdicts": self.skip} if self.skip is not None else {}
        return {"spans": self.spans, "corpus": self.corpus, **skip}

    @property
    def corpus(self) -> Documents:
        """The corpus that was split."""
        return self.spans.corpus

    @property
    def label(self) -> str:
        """With the axes, and the name of the stage that has the documents, unless it is a corpus."""
        of = "" if self.corpus.name == "corpus" else f" of {self.corpus.name}"
        return f"annotations{of} ({', '.join(self.axes)})"


def check_axis_columns(axes: Sequence[str]) -> None:
    """Check that axes can be columns of annotations.

    Raises:
        ConfigError: there is none, two are equal, or one is no name, or that of another column.
    """
    bad = [axis for axis in axes if not axis.isidentifier() or axis in RESERVED]
    if bad or len(set(axes)) != len(axes) or not axes:
        raise ConfigError(
            f"axes must be different names, at least one, got {list(axes)}",
            hint="A name has letters, digits and _, and does not begin with a digit. These are names of other "
            f"columns: {', '.join(RESERVED)}.",
        )


def check_skip(spans: Split, skip: NearDuplicates | None) -> None:
    """Check that verdicts are of the documents that were split.

    Raises:
        ConfigError: they are of another corpus, or are no verdicts.
    """
    if not isinstance(skip, NearDuplicates | None):
        raise ConfigError(
            f"skip must be verdicts, or None to score all documents, got {skip!r}",
            hint="Give skip=NearDuplicates(corpus).",
        )
    if skip is not None and skip.corpus != spans.corpus:
        raise ConfigError(
            f"the spans are of the corpus {spans.corpus.place}, the verdicts of skip= of {skip.corpus.place}",
            hint="Make one Corpus(...), and give it to both NearDuplicates and Split.",
        )
