"""Remember whether this process was forked, and which of its threads that was.

OpenMP's threads do not live on in a forked process, and the thread that called `fork` would wait for them for ever.
Threads that are started later have their own.
"""

from __future__ import annotations

import os
import threading

_survivor: int | None = None


def after_fork() -> bool:
    """Whether this thread is the one that went on in a forked process."""
    return threading.get_ident() == _survivor


def _note() -> None:
    global _survivor
    _survivor = threading.get_ident()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_note)
