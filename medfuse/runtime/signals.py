"""Decide when signals that end the process take effect; only the main thread can, and elsewhere nothing changes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Ended(BaseException):
    """A signal that ends the process, on its way up through what cleans up."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold back what would end the process until the block is left."""
    came: list[int] = []
    try:
        with _handled(ENDING_SIGNALS, lambda number, frame: came.append(number)):
            yield
    finally:
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the process as Ctrl-C does: after what is staged has been deleted."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    usual = [each for each in ENDING_SIGNALS if signal.getsignal(each) is signal.SIG_DFL]
    try:
        with _handled(usual, end):
            yield
    except Ended as error:
        signal.raise_signal(error.number)


@contextmanager
def _handled(signals: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals handled in another way, in the main thread; those that are ignored stay so."""
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for each in signals:
                # None: a handler that Python did not install, and could not put back.
                if signal.getsignal(each) not in (None, signal.SIG_IGN):
                    before[each] = signal.signal(each, handler)
        yield
    finally:
        for each, former in before.items():
            signal.signal(each, former)
