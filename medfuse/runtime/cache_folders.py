"""Find folders where this user can keep files from run to run, whatever the machine lacks."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folders(first: str = "", *, create: bool = False) -> Iterator[Path]:
    """Folders that may hold files kept from run to run, best first; whether one can be written is to be tried.

    Parameters
    ----------
    first
        A folder that comes before all others, if not empty.
    create
        Create the one in the temporary folder where it is absent; else it is left out.

    Yields
    ------
    Path
        ``first``; ``medfuse`` in the user's cache (``XDG_CACHE_HOME``, or ``.cache`` of the home folder), if there is a
        home; a folder of the user's own in the temporary one, unless somebody else made it.
    """
    if first:
        yield Path(first) / "medfuse"
    # Unlike `Path.home`, it raises nothing where there is no home: ~ stays as it is.
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~"), ".cache"))  # noqa: PTH111
    if user.is_absolute():
        yield user / "medfuse"
    private = _private_folder(create)
    if private is not None:
        yield private


def _private_folder(create: bool) -> Path | None:
    """A folder that nobody else can read or write; None where there is none."""
    user = os.getuid() if hasattr(os, "getuid") else None  # Windows' temporary folder is the user's own
    try:
        folder = Path(tempfile.gettempdir(), "medfuse" if user is None else f"medfuse-{user}")
        if create:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    trusted = user is None or (found.st_uid == user and stat.S_IMODE(found.st_mode) & 0o077 == 0)
    return folder if trusted and stat.S_ISDIR(found.st_mode) else None
