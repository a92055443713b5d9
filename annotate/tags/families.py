"""Families of tags that are made together: for the grades of a score, or for the values of a column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from annotate.arguments import as_tuple
from annotate.errors import ConfigError
from annotate.tags.vocabulary import Tag


def graded(
    name: str,
    axis: str,
    *,
    bins: int = 0,
    cuts: Sequence[float] = (),
    names: Sequence[str] = (),
    by: Sequence[str] = (),
) -> tuple[Tag, ...]:
    """Make tags of one family for the grades of a score, from the lowest grade to the highest.

        TagScheme(tags=graded("niceness", "niceness", bins=4))

    Args:
        name: of the family.
        axis: the axis whose score is graded.
        bins: how many grades of equal mass there are. They differ by one score at most, if no two scores are equal.
        cuts: in place of `bins`, the raw scores at which a grade ends, ascending. A score that is equal to one is in
            the lower grade.
        names: of the tags. Without, they are `<name>_0`, `<name>_1` and so on.
        by: columns of the corpus. The bins are then of equal mass among the documents with the same values in them.

    Raises:
        ConfigError: there are both bins and cuts, or neither; cuts that do not ascend; cuts with `by`; too many or too
            few names; or a string in place of a list.
    """
    cuts, names, by = as_tuple(cuts, "cuts"), as_tuple(names, "names"), as_tuple(by, "by")
    if bins < 0 or not all(isinstance(cut, int | float) and math.isfinite(cut) for cut in cuts):
        raise ConfigError(f"grades of {name!r} need bins, or cuts that are numbers; got bins={bins}, cuts={list(cuts)}")
    if (bins > 0) == bool(cuts):
        raise ConfigError(f"grades of {name!r} need bins or cuts, and not both; got bins={bins}, cuts={list(cuts)}")
    if bins == 1 or any(b <= a for a, b in itertools.pairwise(cuts)):
        raise ConfigError(
            f"grades of {name!r} overlap: bins must be at least 2, cuts must rise; got bins={bins}, cuts={list(cuts)}"
        )
    if cuts and by:
        raise ConfigError(f"grades of {name!r} by {', '.join(by)} need bins: cuts are the same for all documents")
    # Rounded down: a share rounded up could give a quantile of one rank more. See `annotate.tags.quantiles`.
    shares = [f"0.{k * 10**12 // bins:012d}".rstrip("0") for k in range(1, bins)]
    groups = "".join(f", by={column}" for column in by)
    edges = [f"q({axis}, {share}{groups})" for share in shares] or [repr(float(cut)) for cut in cuts]
    grades = names or tuple(f"{name}_{k}" for k in range(len(edges) + 1))
    if len(grades) != len(edges) + 1:
        raise ConfigError(f"{len(edges) + 1} grades of {name!r} need as many names, got {len(grades)}")
    rules = [f"{axis} <= {edges[0]}", *(f"{a} < {axis} <= {b}" for a, b in itertools.pairwise(edges))]
    rules.append(f"{axis} > {edges[-1]}")
    return tuple(Tag(name=grade, rule=rule, family=name) for grade, rule in zip(grades, rules, strict=True))


def by_column(name: str, column: str, values: Mapping[str, str], *, other: str | None = None) -> tuple[Tag, ...]:
    """Make tags of one family for the values of a column of the corpus.

        TagScheme(tags=by_column("source", "source", {"wikipedia": "wiki"}, other="web"))

    Args:
        name: of the family.
        column: of the corpus.
        values: the tag of each value.
        other: the tag of all other values; a null gets none. None: they get no tag.
    """
    tags = [Tag(name=tag, rule=f'{column} == "{value}"', family=name) for value, tag in values.items()]
    if other is not None:
        tags.append(Tag(name=other, rule="else", family=name))
    return tuple(tags)
