"""Several slices at once: while some are packed and written, the next are still being made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")

WORKERS = min(4, os.cpu_count() or 1)
"""Packing and writing leave Python's lock free for much of their time; more threads than this gain nothing."""


def abreast(work: Callable[[Item], None], items: Iterable[Item], finished: Callable[[int], None]) -> None:
    """Work on items as they come, a few at once, and hold no more than these.

    Parameters
    ----------
    work
        Called in threads, with one item each.
    items
        Taken in the calling thread, and no faster than they are worked on.
    finished
        Called in the calling thread with how many are done. The first error ends all, and is raised.
    """
    done = 0
    pending: set[Future[None]] = set()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                pending.add(pool.submit(work, item))
                if len(pending) > WORKERS:
                    done, pending = _collect(done, pending, finished)
            while pending:
                done, pending = _collect(done, pending, finished)
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def _collect(done: int, pending: set[Future[None]], finished: Callable[[int], None]) -> tuple[int, set[Future[None]]]:
    ready, rest = wait(pending, return_when=FIRST_COMPLETED)
    for future in ready:
        future.result()
        done += 1
        finished(done)
    return done, rest
