"""Everything that this package raises on purpose, and the exit code that the command line gives it.

* AnnotateError        base of all                                              exit 1
  x ConfigError        wrong before any work starts: pipeline, parameter, model exit 2
  x InputError         a corpus, or a file of it, cannot be read                exit 3
  x StorageError       the work directory: not writable, full, a damaged part   exit 4
  x WorkError          a work unit failed again and again                       exit 5

A single bad row raises nothing: it goes to quarantine with its reason.
"""

from __future__ import annotations

from annotate.installed import check_ours

check_ours()  # here, since all other modules import this one


class AnnotateError(Exception):
    """Base class; `hint` says what the user can do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nHint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors travel from workers to the driver.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[AnnotateError], message: str, hint: str | None) -> AnnotateError:
    return kind(message, hint=hint)


class ConfigError(AnnotateError):
    """Wrong before any work starts: a pipeline file, a parameter, a model, a tag scheme."""

    exit_code = 2


class InputError(AnnotateError):
    """A corpus, or one file of it, cannot be read."""

    exit_code = 3


class StorageError(AnnotateError):
    """The work directory cannot be used, or what lies in it is damaged."""

    exit_code = 4


class WorkError(AnnotateError):
    """A work unit failed on every attempt; what is committed stays."""

    exit_code = 5
