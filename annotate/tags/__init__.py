"""The tag scheme: tags, their rules, where they are placed, and how they are laid into text."""

from annotate.tags.explain import explain
from annotate.tags.families import by_column, graded
from annotate.tags.sample_text import sample
from annotate.tags.scheme import DEFAULT_SCHEME, TagScheme
from annotate.tags.scheme_file import load_scheme, preset, presets
from annotate.tags.vocabulary import Alias, Family, Tag

__all__ = [
    "DEFAULT_SCHEME",
    "Alias",
    "Family",
    "Tag",
    "TagScheme",
    "by_column",
    "explain",
    "graded",
    "load_scheme",
    "preset",
    "presets",
    "sample",
]
