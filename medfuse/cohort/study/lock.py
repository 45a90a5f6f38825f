"""Let one process at a time work on a study, also across runs and machines that share the folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medfuse.cohort.running.ledger import now
from medfuse.runtime.output.file_lock import FileLock

FOLDER = Path(".cohort", "locks")


def lock_path(folder: Path, name: str) -> Path:
    """The file whose lock a study's process holds; it stays, so that two processes never lock two files."""
    return folder / FOLDER / name


@contextmanager
def study_lock(folder: Path, name: str) -> Iterator[FileLock | None]:
    """Hold a study; None where another process holds it. The system frees it however its holder ends."""
    path = lock_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock.taken(path, create=True)
    if lock is None:
        yield None
        return
    with lock:
        yield lock


def held(folder: Path, name: str) -> bool:
    """Whether a living process works on a study; never disturbs it."""
    try:
        lock = FileLock.taken(lock_path(folder, name))
    except OSError:
        return False
    if lock is None:
        return True
    with lock:
        return False


def begun_by(lock: FileLock) -> dict[str, Any]:
    """Who began the study that the lock is of, and never said how it ended: ``run``, host and process.

    Else ``ended``, the run for which somebody said it, or nothing.
    """
    os.lseek(lock.descriptor, 0, os.SEEK_SET)
    with suppress(ValueError):
        said = json.loads(os.read(lock.descriptor, 4096) or b"{}")
        if isinstance(said, dict):
            return said
    return {}


def note_begin(lock: FileLock, run: str) -> None:
    """Note in the lock's file who begins."""
    _write(lock, json.dumps({"run": run, "host": platform.node(), "process": os.getpid(), "time": now()}).encode())


def note_end(lock: FileLock, run: str) -> None:
    """Note that the ledger says how the study ended in a run; on a full disk, at least that nobody is at work."""
    with suppress(OSError):
        _write(lock, json.dumps({"ended": run}).encode())


def _write(lock: FileLock, content: bytes) -> None:
    os.lseek(lock.descriptor, 0, os.SEEK_SET)
    os.ftruncate(lock.descriptor, 0)
    os.write(lock.descriptor, content)
