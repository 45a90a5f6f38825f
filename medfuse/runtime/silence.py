"""Silence what a library remarks in this thread, by warnings and in its log, and leave all other threads alone.

`warnings.catch_warnings` exchanges one list for the whole process: two threads that do so at the same time leave it
changed, and silence each other.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_thread = threading.local()


class _InSilence:
    """Takes the place of a pattern in a filter of warnings, and of a filter of log records."""

    def match(self, module: str) -> bool:
        """Whether a warning is raised in a thread that asked for silence."""
        return getattr(_thread, "depth", 0) > 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        return getattr(_thread, "depth", 0) == 0


_in_silence: Any = _InSilence()
_ignoring: Any = ("ignore", None, Warning, _in_silence, 0)

_lock = threading.Lock()
_active = 0
_lists: list[Any] = []
"""Where the filter was put: `catch_warnings` of the calling program may exchange the list meanwhile."""


@contextmanager
def silence(logger: str) -> Iterator[None]:
    """Drop this thread's warnings, and what it logs under a name; afterwards filters and logger are as before."""
    global _active
    records = logging.getLogger(logger)
    with _lock:
        _active += 1
        records.addFilter(_in_silence)
        filters: Any = warnings.filters
        if not filters or filters[0] is not _ignoring:
            filters.insert(0, _ignoring)
            _lists.append(filters)
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        yield
    finally:
        _thread.depth -= 1
        with _lock:
            _active -= 1
            if not _active:
                _remove(records)


def _remove(records: logging.Logger) -> None:
    records.removeFilter(_in_silence)
    for filters in (*_lists, warnings.filters):
        with suppress(ValueError):
            while True:
                filters.remove(_ignoring)
    _lists.clear()


def _renew() -> None:
    """In a forked process, nobody is left who would open the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)
