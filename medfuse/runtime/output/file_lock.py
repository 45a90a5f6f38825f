"""Lock a file against other processes; the system frees the lock however the process ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import TracebackType

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""How file systems without locks answer."""


class FileLock:
    """The lock of a file that its holder removes in the end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor, self.removed = path, descriptor, False

    @classmethod
    def taken(cls, path: Path, *, create: bool = False) -> FileLock | None:
        """Take the lock, making file and folder if told; None where another process holds it.

        On disks without locks every call takes it.
        """
        while True:
            if create:
                path.parent.mkdir(exist_ok=True)
            try:
                # A link would have it made elsewhere, or for ever in vain.
                flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, "O_NOFOLLOW", 0)
                descriptor = os.open(path, flags, 0o600)
            except FileNotFoundError:
                if not create:
                    raise
                continue  # its last holder has just removed the folder
            try:
                _lock(descriptor)
                # What was locked may have been removed meanwhile: then its lock means nothing.
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return cls(path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def remove(self) -> None:
        """Remove the file, while the lock is held where the system allows it."""
        if os.name == "nt":
            self.__exit__(None, None, None)
        self.path.unlink()
        self.removed = True

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _lock(descriptor: int) -> None:
    """Lock, or raise `BlockingIOError`."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise BlockingIOError from error
        if error.errno not in UNSUPPORTED:
            raise
