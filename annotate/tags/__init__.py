"""The tag scheme: tags, their rules, where they are placed, and how they are laid into text.

What a scheme is:

    scheme             the scheme: families of tags, dropout, control
    scheme_file        the same as TOML; `presets/` has those that ship, `toml_lines` finds the line of an error
    vocabulary         a tag, a family, an alias, and their names
    families           makes the families of grades, and of the values of a column
    rule_grammar       the language of rules, and its parser
    conditions         what the parser makes
    rules              the same as Polars expressions
    layouts            the table of layouts: where the tag of a span stands

From scores to tagged text:

    quantiles          the scores at which quantiles lie; `group_quantiles` by group
    states             which tag of each family a span has: rules, dropout, controls
    placing            from states to placements
    span_words         where words begin, for tags inside a span
    placements         the table of placements
    forgery            text that spells a tag
    gaps               ranges that are left out of a text
    rendering          placements are laid into text, and taken out
    in_force           how long tags count, for text that is cut
    buffers            the buffers of an Arrow string array

For people:

    in_words           explains a scheme
    sample_text        a scheme on sample text
"""

from typing import TYPE_CHECKING

from annotate.lazy import attributes

if TYPE_CHECKING:
    from annotate.tags.families import by_column, graded
    from annotate.tags.in_words import explain
    from annotate.tags.sample_text import sample
    from annotate.tags.scheme import DEFAULT_SCHEME, TagScheme
    from annotate.tags.scheme_file import load_scheme, preset, presets
    from annotate.tags.vocabulary import Alias, Family, Tag

_HOMES = {
    "Alias": "annotate.tags.vocabulary",
    "DEFAULT_SCHEME": "annotate.tags.scheme",
    "Family": "annotate.tags.vocabulary",
    "Tag": "annotate.tags.vocabulary",
    "TagScheme": "annotate.tags.scheme",
    "by_column": "annotate.tags.families",
    "explain": "annotate.tags.in_words",
    "graded": "annotate.tags.families",
    "load_scheme": "annotate.tags.scheme_file",
    "preset": "annotate.tags.scheme_file",
    "presets": "annotate.tags.scheme_file",
    "sample": "annotate.tags.sample_text",
}

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

__getattr__ = attributes(__name__, _HOMES)
