"""End what waits for a peer when its time is up, whatever the peer does meanwhile.

A socket's own time limit starts anew with each byte, so that a peer that sends a byte at a time is never too late.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer


class Watchdog:
    """Shuts down the sockets that it watches when a limit passes; whoever waits on one of them then finds it closed."""

    def __init__(self) -> None:
        self.passed = False
        self._end = float("inf")
        self._lock = Lock()
        self._watched: list[socket.socket] = []

    def watch(self, connection: socket.socket) -> None:
        """Watch a connection from now on; a copy of its handle, because TLS takes the first one over."""
        with self._lock:
            self._watched.append(connection.dup())
        if self.passed:
            self._shut()

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least a hundredth."""
        return max(self._end - time.monotonic(), 0.01)

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Let what is done in the block take no longer."""
        timer = Timer(seconds, self._pass)
        timer.daemon = True
        self._end = time.monotonic() + seconds
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._end = float("inf")

    def close(self) -> None:
        """Let go of the handles."""
        with self._lock:
            for connection in self._watched:
                connection.close()
            self._watched.clear()

    def _pass(self) -> None:
        self.passed = True
        self._shut()

    def _shut(self) -> None:
        with self._lock:
            for connection in self._watched:
                with suppress(OSError):  # not connected yet, or no longer
                    connection.shutdown(socket.SHUT_RDWR)
