"""Set how many threads torch computes on for one calling thread alone; the rest of the process notices nothing.

`torch.set_num_threads` changes what other threads get too: the number that a thread starts with, and MKL's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch


@contextmanager
def threads_here(count: int) -> Iterator[None]:
    """Let torch compute on ``count`` threads in this thread, until the block ends."""
    before = torch.get_num_threads()
    mkl_before = set_threads_here(count)
    try:
        yield
    finally:
        set_threads_here(before, mkl_before)


def set_threads_here(count: int, mkl_count: int | None = None) -> int:
    """Let torch compute on ``count`` threads in this thread from now on; MKL on another number, if that is given.

    Returns
    -------
    int
        MKL's number for this thread before, 0 where it had none of its own.
    """
    torch.get_num_threads()  # a thread's first look takes the number from the process
    openmp, mkl = _setters()
    openmp(count)
    return mkl(count if mkl_count is None else mkl_count)


@cache
def _setters() -> tuple[Callable[[int], object], Callable[[int], int]]:
    """What sets the number for one thread: OpenMP's (5.0, 3.2.1: each has its own *nthreads-var*), and MKL's.

    Where torch was built without OpenMP, its own function is all there is.
    """
    try:
        library = ctypes.CDLL(torch._C.__file__)  # symbols are looked for in what it depends on, too
        openmp = library.omp_set_num_threads
    except (OSError, AttributeError):
        return torch.set_num_threads, lambda count: 0
    openmp.restype = None
    return openmp, getattr(library, "MKL_Set_Num_Threads_Local", lambda count: 0)
