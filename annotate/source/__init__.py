"""The identity of a user's function or class: its source and the source of what it uses, or a declared version."""

from annotate.source.functions import source_identity

__all__ = ["source_identity"]
