"""What identifies a user's function or class: its source text and that of what it reaches, or a declared version."""

from annotate.source.functions import source_identity

__all__ = ["source_identity"]
