"""The errors that this package raises on purpose, each with the exit code of the command line.

* AnnotateError        the base class                                            exit 1
  x ConfigError        a pipeline, parameter, model or tag scheme is wrong       exit 2
  x InputError         a corpus, or a file of it, can't be read                  exit 3
  x StorageError       the work directory can't be used, or is damaged           exit 4
  x WorkError          a work unit failed on every attempt                       exit 5
  x InternalError      there is a mistake in annotate: please report it          exit 6
  x BudgetError        the budget of a run is spent                              exit 7
  x HeadLostError      the Ray cluster is lost during a run                      exit 8

A single bad row raises no error: it goes to quarantine with its reason.
"""

from __future__ import annotations

from annotate.credentials import redacted
from annotate.installed import check_ours

check_ours()  # called here, because all other modules import this one


class AnnotateError(Exception):
    """The base class of this package's errors.

        try:
            pipeline.run("out")
        except AnnotateError as error:
            print(error.message, error.hint, error.exit_code)

    Attributes:
        message: what is wrong, with the value and where it was found, without credentials.
        hint: what the user can do; None if nothing is known.
        exit_code: that of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message, hint = redacted(message), redacted(hint)
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nHint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Errors are pickled on the way from a worker to the driver, and the default way loses keyword-only arguments.
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[AnnotateError], message: str, hint: str | None) -> AnnotateError:
    return kind(message, hint=hint)


class ConfigError(AnnotateError):
    """A pipeline file, a parameter, a model or a tag scheme is wrong. It is found before any work starts."""

    exit_code = 2


class InputError(AnnotateError):
    """A corpus, or one file of it, can't be read."""

    exit_code = 3


class StorageError(AnnotateError):
    """The work directory can't be used, or a file in it is damaged."""

    exit_code = 4


class WorkError(AnnotateError):
    """A work unit failed on every attempt. Units that are committed stay."""

    exit_code = 5


class InternalError(AnnotateError):
    """A mistake in annotate itself: no input, setting or file of the user is the cause."""

    exit_code = 6

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        hint = hint or "This is a mistake in annotate. Report it, with this message. What is committed stays."
        super().__init__(message, hint=hint)


class BudgetError(AnnotateError):
    """The budget of a run is spent. Units that are committed stay."""

    exit_code = 7


class HeadLostError(AnnotateError):
    """The Ray cluster was lost during a run: its head, or Ray's process on this node. Units that are committed stay."""

    exit_code = 8
