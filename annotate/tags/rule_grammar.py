"""The language of rules, and its parser.

    rule       = "else" | either
    either     = all { "or" all }
    all        = one { "and" one }
    one        = "not" one | "(" either ")" | comparison | equality
    comparison = value ( ">=" | ">" | "<=" | "<" ) value { ( ">=" | ">" | "<=" | "<" ) value }
    value      = number | axis | "q" "(" [ axis "," ] number { "," "by" "=" column } ")" | "p" "(" axis ")"
    equality   = column ( "==" | "!=" ) text

- `niceness` is the raw float32 score. A number beside it is rounded to float32, as stored scores are.
- `q(0.7)` is a quantile, as a raw score, of the axis that it is compared with.
- `q(0.7, by=source)` is the quantile of those spans whose documents have the same value in the column `source` of the
  corpus. Null is a value too.
- `p(niceness)` is a probability, float64, from a curve that was fitted on labels.
- `source == "wiki"` reads a column of the corpus. Text is in double quotes.
- `else` holds where no other tag of its family does.

Nothing is evaluated as Python. What the grammar does not list is an error that points at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

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
)

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


def parse_condition(text: str) -> Condition:
    """Read a rule.

    Raises:
        ConfigError: the rule is not in the grammar, compares two constants, compares a probability with a raw score, or
            asks for a quantile outside [0, 1]. The message shows the rule, with a caret under the place.
    """
    return _Parser(text).rule()


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """A recursive descent parser, with a method for each line of the grammar."""

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
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Condition:
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
        """Read a comparison of a column with a text, if that is what comes next."""
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


def _float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(value)
