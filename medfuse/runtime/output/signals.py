"""Hold back signals that end the process; only the main thread can, and elsewhere nothing changes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def held_signals() -> Iterator[None]:
    """Let what would end the process do so when the block is left; signals that are ignored stay so."""
    came: list[int] = []
    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for each in ENDING_SIGNALS:
                # None: a handler that Python did not install, and could not put back.
                if signal.getsignal(each) not in (None, signal.SIG_IGN):
                    before[each] = signal.signal(each, lambda number, _: came.append(number))
        yield
    finally:
        # Ctrl-C comes last: its exception must not leave another signal held.
        for each, handler in reversed(before.items()):
            signal.signal(each, handler)
        with ExitStack() as each_takes_effect:
            for number in dict.fromkeys(came):
                each_takes_effect.callback(signal.raise_signal, number)
