"""Rules: when a tag holds, as a small language of its own and a Polars expression.

    rule       = "else" | either
    either     = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" either ")" | comparison | equality
    comparison = value ( ">=" | ">" | "<=" | "<" ) value { ( ">=" | ">" | "<=" | "<" ) value }
    value      = number | axis | "q" "(" [ axis "," ] number { "," "by" "=" column } ")" | "p" "(" axis ")"
    equality   = column ( "==" | "!=" ) text

`niceness` is the raw float32 score; a number beside it is rounded to float32, so that a rule compares what is stored.
`q(0.7)` is a quantile of the axis beside it in the comparison, as a raw score; `q(0.7, by=source)` that of the spans
whose documents have the same value in this column of the corpus, null being a value. `p(niceness)` is a probability
from a fitted curve, float64. `source == "wiki"` reads a column of the corpus; text is in double quotes. `else` holds
where no other tag of its family does. Nothing is evaluated as Python: what the grammar does not list is an error that
points at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import polars as pl

from annotate.errors import ConfigError

ALLOWED = (
    "a rule compares scores, as in `niceness >= q(0.7) and not tone < 0.5`. It may hold: the name of an axis (its raw "
    "score), numbers, q(0.7) or q(axis, 0.7) for a quantile, q(0.7, by=source) for one of each group, p(axis) for a "
    "probability, the comparisons >= > <= <, "
    'and, or, not, parentheses around comparisons, and a column of the corpus and a text, as in `source == "wiki"`. Or '
    "it is `else`, for where no other tag of the family holds."
)
RESERVED = frozenset({"and", "or", "not", "q", "p", "else"})
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[^\W\d]\w*)|(?P<sign>>=|<=|==|!=|[-<>(),=])"
    r'|"(?P<text>[^"]*)"'
)


@dataclass(frozen=True)
class Number:
    """A number as written."""

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
    """A quantile of the scores of an axis, as a raw score; `axis` is empty until the comparison is read.

    `by` are columns of the corpus, sorted: each group of equal values in them has a quantile of its own.
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
Thresholds = Mapping[Quantile, Any]
"""Raw score by quantile, a float or float32; of one by group float32 `[n]`, that of each span's group."""


@dataclass(frozen=True)
class Comparison:
    """`left sign right`; a chain is several of them under `All`."""

    left: Value
    sign: str
    right: Value


@dataclass(frozen=True)
class Equality:
    """A column of the corpus is a text, or is another one."""

    column: str
    sign: str
    text: str


@dataclass(frozen=True)
class Else:
    """Holds where no other tag of the family does, though all that their rules read is there."""


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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that has been read; made by `parse_rule`."""

    text: str
    condition: Condition

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes whose scores the rule reads, sorted; an axis that it only takes a quantile of is not read."""
        return tuple(sorted({v.name if isinstance(v, Axis) else v.axis for v in self._scores()}))

    @property
    def quantiles(self) -> tuple[Quantile, ...]:
        """Quantiles that the rule compares with, sorted."""
        return tuple(sorted({v for v in _values(self.condition) if isinstance(v, Quantile)}))

    @property
    def curves(self) -> tuple[str, ...]:
        """Axes that the rule reads as a probability, sorted."""
        return tuple(sorted({v.axis for v in _values(self.condition) if isinstance(v, Probability)}))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the corpus that the rule compares with texts, sorted."""
        return tuple(sorted({part.column for part in _parts(self.condition) if isinstance(part, Equality)}))

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """The texts that columns of the corpus are compared with, as (column, text), in order."""
        return tuple((part.column, part.text) for part in _parts(self.condition) if isinstance(part, Equality))

    @property
    def numbers(self) -> tuple[tuple[str, float], ...]:
        """The numbers that raw scores are compared with, as (axis, number), in order."""
        found = []
        for part in _parts(self.condition):
            if isinstance(part, Comparison):
                for one, other in ((part.left, part.right), (part.right, part.left)):
                    if isinstance(one, Axis) and isinstance(other, Number):
                        found.append((one.name, other.value))
        return tuple(found)

    @property
    def is_else(self) -> bool:
        """Whether the rule is `else`, which the other rules of its family decide."""
        return isinstance(self.condition, Else)

    def readable(self) -> pl.Expr:
        """Compile to whether all that the rule reads is there."""
        read = [pl.col(v.name if isinstance(v, Axis) else f"p:{v.axis}") for v in self._scores()]
        there = [c.is_not_null() & c.is_not_nan() for c in read]
        there += [pl.col(f"c:{name}").is_not_null() for name in self.columns]
        return pl.all_horizontal(*there) if there else pl.lit(True)

    def expression(self, thresholds: Thresholds) -> pl.Expr:
        """Compile to a boolean Polars expression without nulls.

        The frame has a Float32 column for each axis, named as the axis, a Float64 column `p:<axis>` for each curve, a
        String column `c:<name>` for each column of the corpus, and a Float32 column for each quantile by group, named
        as it is written. A score that is null or NaN makes the whole rule false, also under `not`, and so does a null
        of the corpus, and a threshold that is NaN, the quantile of no scores. `else` can't be compiled by itself: it is
        never true here.

        Args:
            thresholds: raw score by quantile, for all of `quantiles`; those by group are read from the frame.

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
        return list(dict.fromkeys(v for v in _values(self.condition) if isinstance(v, Axis | Probability)))


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        ConfigError: the rule is not in the grammar, compares two constants or a probability with a raw score, or asks
            for a quantile outside [0, 1]; the message shows the rule with a caret under the place.
    """
    return Rule(text=text, condition=_Parser(text).rule())


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent, one method a line of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._tokenize())
        self._next = 0
        self._depth = 0

    def rule(self) -> Condition:
        condition = Else() if self._take("else") else self._either()
        if self._token.kind != "end":
            self._fail(f"expected `and`, `or` or the end of the rule, found {self._found()}")
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"the rule is nested more than {MAX_DEPTH} deep")
        condition: Condition
        if self._take("not"):
            condition = Not(self._one())
        elif self._take("("):
            condition = self._either()
            self._expect(")")
        else:
            condition = self._equality() or self._comparison()
        self._depth -= 1
        return condition

    def _equality(self) -> Condition | None:
        """A column and a text, if that is what follows."""
        token, after = self._token, self._tokens[min(self._next + 1, len(self._tokens) - 1)]
        if after.text not in ("==", "!=") or after.kind != "sign":
            return None
        if token.kind != "name" or token.text in RESERVED:
            self._fail(f"`{after.text}` compares a column of the corpus with a text, found {self._found()}")
        self._next += 2
        if self._token.kind != "text":
            self._fail(
                f'expected a text in double quotes, as in `{token.text} {after.text} "wiki"`, found {self._found()}'
            )
        return Equality(token.text, after.text, self._advance().text)

    def _comparison(self) -> Condition:
        places, values, signs = [self._token], [self._value()], list[_Token]()
        while self._token.kind == "sign" and self._token.text in (">=", ">", "<=", "<"):
            signs.append(self._advance())
            places.append(self._token)
            values.append(self._value())
        if not signs:
            self._fail(f"expected a comparison (>= > <= <) after `{values[0]}`, found {self._found()}")
        values = self._name_quantiles(values, places)
        for sign, left, right in zip(signs, values, values[1:], strict=False):
            self._check_pair(left, right, sign)
        parts = [Comparison(v, s.text, w) for v, s, w in zip(values, signs, values[1:], strict=False)]
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _name_quantiles(self, values: list[Value], places: list[_Token]) -> list[Value]:
        """Give each bare q(0.7) the axis that it is compared with."""
        named = list(values)
        for i, value in enumerate(values):
            if isinstance(value, Quantile) and not value.axis:
                beside = {v.name for v in values[max(i - 1, 0) : i + 2] if isinstance(v, Axis)}
                if len(beside) != 1:
                    named_axis = replace(value, axis="axis")
                    self._fail(f"{value} is not compared with one axis; write {named_axis}", places[i])
                named[i] = replace(value, axis=beside.pop())
        return named

    def _check_pair(self, left: Value, right: Value, sign: _Token) -> None:
        pair = (left, right)
        if all(isinstance(v, Number | Quantile) for v in pair):
            self._fail(f"`{left} {sign.text} {right}` compares two constants: one side must read an axis", sign)
        if not any(isinstance(v, Probability) for v in pair):
            if any(isinstance(v, Number) and not np.isfinite(_float32(v.value)) for v in pair):
                self._fail("the number is too large for a float32 score", sign)
            return
        for other in pair:
            if isinstance(other, Axis | Quantile):
                self._fail(f"`{left} {sign.text} {right}` compares a probability with a raw score", sign)
            if isinstance(other, Number) and not 0 <= other.value <= 1:
                self._fail(f"a probability is compared with {other}, which is outside [0, 1]", sign)

    def _value(self) -> Value:
        token = self._token
        if token.kind == "number" or token.text == "-":
            return Number(self._number())
        if token.text == "q":
            return self._quantile()
        if token.text == "p":
            self._advance()
            self._expect("(")
            axis = self._axis()
            self._expect(")")
            return Probability(axis)
        return Axis(self._axis())

    def _quantile(self) -> Quantile:
        self._advance()
        self._expect("(")
        axis = ""
        if self._token.kind == "name":
            axis = self._axis()
            self._expect(",")
        at = self._token
        q = self._number()
        if not 0 <= q <= 1:
            self._fail(f"a quantile must lie in [0, 1], got {q}", at)
        by = list[str]()
        while self._take(","):
            if not self._take("by"):
                self._fail(f"expected `by=` and a column of the corpus, found {self._found()}")
            self._expect("=")
            if self._token.kind != "name" or self._token.text in by:
                self._fail(f"expected the name of another column of the corpus, found {self._found()}")
            by.append(self._advance().text)
        self._expect(")")
        return Quantile(axis, q, tuple(sorted(by)))

    def _axis(self) -> str:
        if self._token.kind != "name" or self._token.text in RESERVED:
            self._fail(f"expected the name of an axis or a value, found {self._found()}")
        return self._advance().text

    def _number(self) -> float:
        sign = -1.0 if self._take("-") else 1.0
        if self._token.kind != "number":
            self._fail(f"expected a number, found {self._found()}")
        return sign * float(self._advance().text)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _advance(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _take(self, text: str) -> bool:
        if self._token.text != text or self._token.kind == "text":
            return False
        self._advance()
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._fail(f"expected `{text}`, found {self._found()}")

    def _found(self) -> str:
        return "the end" if self._token.kind == "end" else f"`{self._token.text}`"

    def _tokenize(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            if self._text[at].isspace():
                at += 1
                continue
            match = _TOKEN.match(self._text, at)
            if match is None:
                self._fail(f"`{self._text[at]}` is not part of the language", _Token("unknown", "", at))
            kind = str(match.lastgroup)
            yield _Token(kind, match.group(kind), at)
            at = match.end()
        yield _Token("end", "", len(self._text))

    def _fail(self, message: str, token: _Token | None = None) -> NoReturn:
        at = (token or self._token).at
        shown = "".join(" " if c.isspace() else c for c in self._text)
        raise ConfigError(f"the rule can't be read: {message}.\n\n    {shown}\n    {' ' * at}^", hint=ALLOWED)


def _values(condition: Condition) -> Iterator[Value]:
    for part in _parts(condition):
        if isinstance(part, Comparison):
            yield from (part.left, part.right)


def _parts(condition: Condition) -> Iterator[Comparison | Equality | Else]:
    """What a condition is made of, in the order it is written."""
    match condition:
        case Not(part):
            yield from _parts(part)
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from _parts(part)
        case _:
            yield condition


def _float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(value)


def _compile(condition: Condition, thresholds: Thresholds) -> pl.Expr:
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


def _operand(value: Value, dtype: type[pl.DataType], thresholds: Thresholds) -> pl.Expr:
    match value:
        case Axis(name):
            return pl.col(name)
        case Probability(axis):
            return pl.col(f"p:{axis}")
        case Quantile(by=by):
            return pl.col(str(value)) if by else pl.lit(float(thresholds[value]), dtype=dtype)
        case Number(number):
            return pl.lit(number, dtype=dtype)
