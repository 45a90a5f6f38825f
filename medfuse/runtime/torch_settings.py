"""Compute under torch's and NumPy's default settings, whatever the calling program has set for its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from medfuse.runtime.forked import after_fork
from medfuse.runtime.thread_count import threads_here


@contextmanager
def default_settings() -> Iterator[None]:
    """Compute without gradients, on the CPU where nothing else is said, in the precision asked for; also a decorator.

    Inference mode, autocast, another default device and NumPy's error handling are set aside. All of these belong to
    the calling thread, so that no other thread notices, and are the caller's again at the end. The default dtype is one
    for the whole process: nothing here changes it, and every tensor is made with a dtype of its own.

    The thread that went on in a forked process computes alone: torch's other threads did not come with it, and to wait
    for them would never end.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if after_fork() and torch.get_num_threads() > 1:
            stack.enter_context(threads_here(1))
        yield
