"""Check that a path can take output: the system's limits, and what is there already."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from medfuse.errors import ExportError

MOST_SHOWN = 120


def require_place(path: Path) -> None:
    """Raise `ExportError` if no file or folder can ever be written at ``path``.

    It is refused where its name is too long, is ``-`` or holds a NUL, where links lead in a circle, where a file stands
    above it, and where a device, a pipe or a socket is there: such a one would be replaced by a file.
    """
    if str(path) == "-":
        raise ExportError("expected a file or folder for the results, found '-': none is written to standard output.")
    if "\0" in str(path):
        raise ExportError("expected a path for the results, found one with a NUL character; leave that out.")
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        _require_names(path)
        return
    except OSError as error:
        raise ExportError(f"cannot write {shown(path)}: {error.strerror}. Choose another place.") from None
    if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
        raise ExportError(
            f"{shown(path)} is a device, a pipe or a socket, which is never replaced; give another place."
        )


def _require_names(path: Path) -> None:
    """Look at the names that are still to be made: the system does not, below a folder that is absent."""
    there = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        most = os.pathconf(there, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, and file systems that do not say
        return
    longest = max(len(os.fsencode(name)) for name in path.absolute().relative_to(there).parts)
    if longest > most:
        raise ExportError(f"cannot write {shown(path)}: a name has {longest} bytes, and {most} are the most there.")


def resolved(path: Path) -> Path:
    """The absolute path behind all links; where they lead in a circle, as far as they lead. Raises nothing for that."""
    return Path(os.path.realpath(path))  # `Path.resolve` raises a RuntimeError for a circle


def shown(path: Path | str) -> str:
    """A path, or what was given as one, of a length that people read."""
    text = str(path)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}…{text[-MOST_SHOWN // 3 :]}"
