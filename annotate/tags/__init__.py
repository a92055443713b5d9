"""The tag scheme: tags, their rules, where they are placed, and how they are laid into text."""

from annotate.tags.made import by_column, graded
from annotate.tags.scheme import DEFAULT_SCHEME, Alias, Family, Tag, TagScheme
from annotate.tags.scheme_file import load_scheme, preset

__all__ = [
    "DEFAULT_SCHEME",
    "Alias",
    "Family",
    "Tag",
    "TagScheme",
    "by_column",
    "graded",
    "load_scheme",
    "preset",
]
