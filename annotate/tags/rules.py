"""Rules: when a tag holds. They are read as `annotate.tags.rule_grammar` says, and become Polars expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from annotate.errors import ConfigError
from annotate.tags.conditions import (
    All,
    AnyOf,
    Axis,
    Comparison,
    Condition,
    Else,
    Equality,
    Not,
    Number,
    Probability,
    Quantile,
    Value,
    parts_of,
    values_of,
)
from annotate.tags.rule_grammar import parse_condition

ThresholdValues = Mapping[Quantile, Any]
"""The raw score of each quantile: a float; of a quantile by group float32 `[n_spans]`, that of each span's group."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that has been read. `parse_rule` makes it."""

    text: str
    condition: Condition

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes whose scores the rule reads, sorted. An axis of which it only takes a quantile is not among them."""
        return tuple(sorted({v.name if isinstance(v, Axis) else v.axis for v in self._scores()}))

    @property
    def quantiles(self) -> tuple[Quantile, ...]:
        """Quantiles that the rule compares with, sorted."""
        return tuple(sorted({v for v in values_of(self.condition) if isinstance(v, Quantile)}))

    @property
    def curves(self) -> tuple[str, ...]:
        """Axes that the rule reads as a probability, sorted."""
        return tuple(sorted({v.axis for v in values_of(self.condition) if isinstance(v, Probability)}))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the corpus that the rule reads, sorted."""
        return tuple(sorted({part.column for part in parts_of(self.condition) if isinstance(part, Equality)}))

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """The texts that columns of the corpus are compared with, as (column, text), in order."""
        return tuple((part.column, part.text) for part in parts_of(self.condition) if isinstance(part, Equality))

    @property
    def numbers(self) -> tuple[tuple[str, float], ...]:
        """The numbers that raw scores are compared with, as (axis, number), in order."""
        found = []
        for part in parts_of(self.condition):
            if isinstance(part, Comparison):
                for one, other in ((part.left, part.right), (part.right, part.left)):
                    if isinstance(one, Axis) and isinstance(other, Number):
                        found.append((one.name, other.value))
        return tuple(found)

    @property
    def is_else(self) -> bool:
        """Whether the rule is `else`: the other rules of the family decide where it holds."""
        return isinstance(self.condition, Else)

    def readable(self) -> pl.Expr:
        """An expression that is true where no score and no column that the rule reads is missing."""
        read = [pl.col(v.name if isinstance(v, Axis) else f"p:{v.axis}") for v in self._scores()]
        there = [c.is_not_null() & c.is_not_nan() for c in read]
        there += [pl.col(f"c:{name}").is_not_null() for name in self.columns]
        return pl.all_horizontal(*there) if there else pl.lit(True)

    def expression(self, thresholds: ThresholdValues) -> pl.Expr:
        """Compile to a boolean Polars expression without nulls.

        It reads these columns of a frame: for each axis a Float32 column of its name; for each curve a Float64 column
        `p:<axis>`; for each column of the corpus a String column `c:<name>`; for each quantile by group a Float32
        column named as the rule writes it.

        Where something is missing the whole rule is false, also under `not`: a score that is null or NaN, a null in a
        column of the corpus, or a threshold that is NaN, since there are no scores to take a quantile of. `else`
        depends on the other rules of the family; here it is never true.

        Args:
            thresholds: the raw score of each of `quantiles`. Those by group are read from the frame.

        Raises:
            ConfigError: a threshold is missing.
        """
        for quantile in self.quantiles:
            if quantile not in thresholds:
                known = ", ".join(map(str, sorted(thresholds))) or "none"
                raise ConfigError(f"rule `{self.text}` needs the threshold {quantile}; thresholds given: {known}.")
        if any(np.isnan(thresholds[quantile]) for quantile in self.quantiles if not quantile.by):
            return pl.lit(False)
        fitted = [pl.col(str(quantile)).is_not_nan() for quantile in self.quantiles if quantile.by]
        return pl.all_horizontal(self.readable(), *fitted, _compile(self.condition, thresholds)).fill_null(False)

    def _scores(self) -> list[Axis | Probability]:
        return list(dict.fromkeys(v for v in values_of(self.condition) if isinstance(v, Axis | Probability)))


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ConfigError: as `parse_condition`.
    """
    return Rule(text=text, condition=parse_condition(text))


def _compile(condition: Condition, thresholds: ThresholdValues) -> pl.Expr:
    match condition:
        case Else():
            return pl.lit(False)
        case Equality(column, sign, text):
            same = pl.col(f"c:{column}") == pl.lit(text)
            return same if sign == "==" else ~same
        case Not(part):
            return ~_compile(part, thresholds)
        case All(parts):
            return pl.all_horizontal(*(_compile(part, thresholds) for part in parts))
        case AnyOf(parts):
            return pl.any_horizontal(*(_compile(part, thresholds) for part in parts))
        case Comparison(left, sign, right):
            # A number takes the type of what it is compared with, so that `x >= 0.7` holds for the float32 nearest 0.7.
            exact = pl.Float64 if Probability in (type(left), type(right)) else pl.Float32
            low, high = (_operand(v, exact, thresholds) for v in (left, right))
            match sign:
                case ">=":
                    return low >= high
                case ">":
                    return low > high
                case "<=":
                    return low <= high
                case _:
                    return low < high


def _operand(value: Value, dtype: type[pl.DataType], thresholds: ThresholdValues) -> pl.Expr:
    match value:
        case Axis(name):
            return pl.col(name)
        case Probability(axis):
            return pl.col(f"p:{axis}")
        case Quantile(by=by):
            return pl.col(str(value)) if by else pl.lit(float(thresholds[value]), dtype=dtype)
        case Number(number):
            return pl.lit(number, dtype=dtype)
