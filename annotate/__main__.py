"""`python -m annotate` is `annotate`."""

from annotate.cli import entry

entry()
