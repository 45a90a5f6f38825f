"""How small work is spread over the cores: jobs of one thread each, side by side.

PyTorch's own threads wait for one another after each operation. Where operations are small, or other programs use the
cores, that costs more than it gains; and sums would depend on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_cores: ContextVar[int | None] = ContextVar("_cores", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread; `side_by_side` still uses as many as it was allowed before."""
    threads = torch.get_num_threads()
    token = _cores.set(_cores.get() or threads)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _cores.reset(token)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of ``work`` on each item, in order; within `one_thread`, on as many threads as PyTorch had."""
    cores = _cores.get() or 1
    if cores == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(work, items))
