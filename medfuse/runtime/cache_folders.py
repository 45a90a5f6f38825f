"""Find folders where this user can keep files from run to run, whatever the machine lacks."""

from __future__ import annotations

import getpass
import os
import stat
import sys
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
    found = (Path(first) if first else None), _user_folder("XDG_CACHE_HOME", ".cache")
    yield from (folder / "medfuse" for folder in found if folder is not None)
    private = _private_folder(create)
    if private is not None:
        yield private


def log_folders() -> Iterator[Path]:
    """Folders that may hold logs, best first; whether one can be written is to be tried.

    Yields
    ------
    Path
        Where the platform keeps logs: ``medfuse/log`` in ``XDG_STATE_HOME`` or else in ``.local/state`` of the home
        folder; on macOS ``Library/Logs/medfuse`` there; on Windows ``medfuse/Logs`` in ``LOCALAPPDATA``. Then a folder
        of the user's own in the temporary one, unless somebody else made it.
    """
    if sys.platform == "darwin":
        found = _user_folder("", "Library/Logs"), "medfuse"
    elif sys.platform == "win32":
        found = _user_folder("LOCALAPPDATA", "AppData/Local"), "medfuse/Logs"
    else:
        found = _user_folder("XDG_STATE_HOME", ".local/state"), "medfuse/log"
    folder, name = found
    if folder is not None:
        yield folder / name
    private = _private_folder(create=True)
    if private is not None:
        yield private / "log"


def provide_user() -> None:
    """Set environment variables that other libraries need where the user has no name or no home that can be written.

    MONAI and torch stop as they are imported where the user id is in no passwd file; Matplotlib complains where it
    finds no home to write to. Where there are both, nothing is set.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    homes = _user_folder("XDG_CONFIG_HOME", ".config"), _user_folder("XDG_CACHE_HOME", ".cache")
    if "MPLCONFIGDIR" not in os.environ and not all(home and _takes_files(home) for home in homes):
        private = _private_folder(create=True)
        if private is not None:
            os.environ["MPLCONFIGDIR"] = str(private / "matplotlib")


def _user_folder(variable: str, name: str) -> Path | None:
    """A folder of the user's that a variable may name, which may be absent; None where there is no home."""
    # Unlike `Path.home`, it raises nothing where there is no home: ~ stays as it is.
    folder = Path(os.environ.get(variable) or Path(os.path.expanduser("~"), name))  # noqa: PTH111
    return folder if folder.is_absolute() else None


def _takes_files(folder: Path) -> bool:
    """Whether a folder can be written, or else created."""
    # Unlike `Path.exists`, it raises nothing where a folder above must not be entered.
    there = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110
    return os.access(there, os.W_OK)


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
