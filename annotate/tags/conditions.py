"""What a rule is made of: values, comparisons of them, and conditions that join comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Number:
    """A number, as it is written."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True)
class Axis:
    """The raw score of an axis."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, order=True)
class Quantile:
    """A quantile of the scores of an axis, as a raw score.

    Attributes:
        axis: empty until the whole comparison is read, if the rule does not name it.
        q: in [0, 1].
        by: columns of the corpus, sorted. The documents with the same values in them have a quantile of their own.
    """

    axis: str
    q: float
    by: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"q({', '.join([*([self.axis] if self.axis else []), repr(self.q), *(f'by={c}' for c in self.by)])})"


@dataclass(frozen=True)
class Probability:
    """The probability that a fitted curve gives to the score of an axis."""

    axis: str

    def __str__(self) -> str:
        return f"p({self.axis})"


Value = Number | Axis | Quantile | Probability


@dataclass(frozen=True)
class Comparison:
    """`left sign right`. A chain, as `0.2 < niceness <= 0.5`, is several comparisons in an `All`."""

    left: Value
    sign: str
    right: Value


@dataclass(frozen=True)
class Equality:
    """A column of the corpus is equal to a text (`==`), or not (`!=`)."""

    column: str
    sign: str
    text: str


@dataclass(frozen=True)
class Else:
    """Holds where no other tag of the family does, and no score or column that their rules read is missing."""


@dataclass(frozen=True)
class All:
    """Holds when all parts do."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """Holds when a part does."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Not:
    """Holds when the part does not."""

    part: Condition


Condition = Comparison | Equality | Else | All | AnyOf | Not


def values_of(condition: Condition) -> Iterator[Value]:
    """The values that a condition compares, in the order they are written."""
    for part in parts_of(condition):
        if isinstance(part, Comparison):
            yield from (part.left, part.right)


def parts_of(condition: Condition) -> Iterator[Comparison | Equality | Else]:
    """The comparisons that a condition joins, in the order they are written."""
    match condition:
        case Not(part):
            yield from parts_of(part)
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from parts_of(part)
        case _:
            yield condition
