"""Fills the templates with values, all from one file.

    python infra/render.py infra/values.toml rendered

A template says `@name@` where a value goes. A value that no template has, and a name without a value, are errors.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"
_PLACE = re.compile(r"@([a-z_]+)@")
_SAFE = re.compile(r"[A-Za-z0-9_./:*?+=-]+")


def render(values: dict[str, str | int], templates: dict[str, str]) -> dict[str, str]:
    """Fill templates, by file name.

    Raises:
        ValueError: a value is missing, is not used, or has a sign that would mean something in YAML or a shell.
    """
    used = {name for text in templates.values() for name in _PLACE.findall(text)}
    if wrong := sorted(used ^ values.keys()):
        raise ValueError(f"names without a value, or values that no template uses: {', '.join(wrong)}")
    for name, value in values.items():
        if not _SAFE.fullmatch(str(value)):
            raise ValueError(f"{name} is {value!r}; only letters, digits and _./:*?+=- can stand in the files")
    return {file: _PLACE.sub(lambda place: str(values[place[1]]), text) for file, text in templates.items()}


def main(values: Path, folder: Path) -> None:
    """Render all templates into a folder."""
    templates = {path.name: path.read_text("utf-8") for path in sorted(TEMPLATES.iterdir())}
    rendered = render(tomllib.loads(values.read_text("utf-8")), templates)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered.items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python infra/render.py VALUES.toml FOLDER")
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
