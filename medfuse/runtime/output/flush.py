"""Bring files to the disk, so that a loss of power does not undo what was said to be done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_FOLDERS = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.ENOTSUP}
"""How file systems answer that cannot bring a folder to the disk by itself."""


def flush(*paths: Path) -> None:
    """Bring files, and folders with all that they hold, to the disk; `OSError` where they do not get there."""
    for path in paths:
        if not path.is_dir():
            _flush(path)
            continue
        for folder, _, names in os.walk(path):
            for name in names:
                _flush(Path(folder, name))
            flush_folder(Path(folder))


def flush_folder(path: Path) -> None:
    """Bring the entries of a folder to the disk, not what they hold."""
    if os.name == "nt":
        return  # which opens no folders
    try:
        _flush(path)
    except OSError as error:
        if error.errno not in NO_FOLDERS:
            raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
