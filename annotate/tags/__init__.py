"""The tag scheme: tags, their rules, where they are placed, and how they are laid into text."""

from annotate.tags.scheme import DEFAULT_SCHEME, Tag, TagScheme

__all__ = ["DEFAULT_SCHEME", "Tag", "TagScheme"]
