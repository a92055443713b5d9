"""What pip calls this package, and the other one that puts a module `annotate` in the same place.

On PyPI the name `annotate` belongs to a decorator library. Installed after this package, it replaces our `__init__.py`;
installed before, it loses its own, and to uninstall it then takes away ours.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTION = "annotate-corpora"
_OTHER = "annotate"
_FILES_OF_OTHER = ("_annotate.py", "__about__.py")


def warn_of_other() -> None:
    """Warn where the other package's files lie among ours: two looks for a file, when this package is imported."""
    if all((_folder() / name).is_file() for name in _FILES_OF_OTHER):
        warnings.warn(f"{_both()}. {_remedy()}", stacklevel=3)


def check_ours() -> None:
    """Check that `annotate` is this package.

    Raises:
        ImportError: the other package has replaced our `__init__.py`.
    """
    if not hasattr(sys.modules[_OTHER], "_HOMES"):
        raise ImportError(
            f"`import annotate` is not this package: {_both()}, and replaced its __init__.py. {_remedy()}"
        )


def _folder() -> Path:
    return Path(__file__).parent


def _both() -> str:
    try:
        named = f"{_OTHER} {version(_OTHER)}"
    except PackageNotFoundError:
        named = _OTHER
    where = f"is installed in the folder of {DISTRIBUTION}, {_folder()}"
    return f"the package {named} of PyPI, a decorator library, {where}"


def _remedy() -> str:
    return (
        f"Remedy: pip uninstall --yes {_OTHER} && pip install --force-reinstall --no-deps {DISTRIBUTION}, "
        "or an environment for each."
    )
