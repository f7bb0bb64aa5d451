"""The templates that ship with the product, read from files."""

from __future__ import annotations

import re
from pathlib import Path

from .message import PARTS

_KEY = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_SHARED = ("layouts", "partials")


class FileTemplates:
    """`<key>/<channel>.<part>.hbs`, and for all keys `layouts/<channel>.<name>.hbs` and
    `partials/<channel>.<name>.hbs`.

    All files are read at once, when the object is made: a key that a caller names is looked up and never becomes a
    path.
    """

    def __init__(self, root: Path) -> None:
        """`root` is the folder. Raises FileNotFoundError if there is none, ValueError for a file that is no part."""
        self._parts: dict[tuple[str, str], dict[str, str]] = {}
        self._partials: dict[str, dict[str, str]] = {channel: {} for channel in PARTS}
        for folder in sorted(root.iterdir()):
            if folder.is_dir():
                for file in sorted(folder.glob("*.hbs")):
                    self._read(folder.name, file)

    def _read(self, folder: str, file: Path) -> None:
        channel, _, name = file.stem.partition(".")
        source = file.read_text(encoding="utf-8")
        if channel in PARTS and folder in _SHARED and _KEY.fullmatch(name):
            self._partials[channel][f"{folder}/{name}"] = source
        elif channel in PARTS and name in PARTS[channel] and _KEY.fullmatch(folder):
            self._parts.setdefault((folder, channel), {})[name] = source
        else:
            raise ValueError(f"{file} is not named after a channel and one of its parts")

    def parts(self, key: str, channel: str) -> dict[str, str] | None:
        """Part names to sources, or None if there is no such template."""
        found = self._parts.get((key, channel))
        return dict(found) if found else None

    def partials(self, channel: str) -> dict[str, str]:
        """Names such as `layouts/default` to sources."""
        return dict(self._partials.get(channel, {}))

    def keys(self) -> list[tuple[str, str]]:
        """Every template as (key, channel)."""
        return sorted(self._parts)
