"""Compute under torch's and NumPy's default settings, whatever the calling program has set for its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

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


@contextmanager
def training_settings() -> Iterator[None]:
    """Compute with gradients and in single precision, all else as `default_settings`; also a decorator.

    Layers that are drawn at random are made with torch's default dtype, which is one for the whole process.
    """
    with ExitStack() as stack:
        stack.enter_context(default_settings())
        stack.enter_context(torch.enable_grad())
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_SinglePrecision())
        yield


DEFAULT_DTYPE = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye, torch.linspace, torch.logspace}
)
"""What makes tensors of the default dtype, whatever its arguments are."""


class _SinglePrecision(TorchFunctionMode):
    """Make tensors of single precision in this thread where nothing says their dtype."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        if function in DEFAULT_DTYPE and named.get("dtype") is None:
            named["dtype"] = torch.float32
        return function(*arguments, **named)
