"""Run work on several threads: a parallel map of one-thread jobs, and a bounded one over a stream of items.

PyTorch's own threads wait for one another after each operation. Where operations are small, or other programs use the
cores, that costs more than it gains; and sums would depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

from medfuse.runtime.thread_count import set_threads_here, threads_here

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = min(4, os.cpu_count() or 1)
"""Packing and writing leave Python's lock free for much of their time; more threads than this gain nothing."""

_cores: ContextVar[int | None] = ContextVar("_cores", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread here; `parallel_map` still uses as many as it was allowed before."""
    token = _cores.set(_cores.get() or torch.get_num_threads())
    try:
        with threads_here(1):
            yield
    finally:
        _cores.reset(token)


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of ``work`` on each item, in order; within `one_thread`, on as many threads as PyTorch had."""
    cores = _cores.get() or 1
    if cores == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(cores, initializer=set_threads_here, initargs=(1,)) as pool:
        return list(pool.map(work, items))


def for_each_bounded(work: Callable[[Item], None], items: Iterable[Item], finished: Callable[[int], None]) -> None:
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
