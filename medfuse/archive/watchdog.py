"""End what waits for a peer when its time is up, whatever the peer does meanwhile.

A socket's own time limit starts anew with each byte, so that a peer that sends a byte at a time is never too late; and
a host of many addresses gets one for each of them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread, Timer
from typing import Any


class Watchdog:
    """Shuts down the sockets that it watches when a limit passes; whoever waits on one of them then finds it closed."""

    def __init__(self) -> None:
        self.passed = False
        self._end = float("inf")
        self._lock = Lock()
        self._watched: list[socket.socket] = []
        self._told: list[Callable[[], None]] = []

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first of a host's addresses that can be reached, and watch the connection.

        Raises
        ------
        TimeoutError
            If the limit passes before.
        OSError
            If the host has no address, or none that takes connections.
        """
        addresses = self._addresses(host, port)
        raised: OSError = OSError("the host has no address")
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # An address that never answers leaves time for the others.
                connection.settimeout(self.remaining / (len(addresses) - number))
                connection.connect(address)
                connection.settimeout(None)
                self.watch(connection)
            except OSError as error:
                connection.close()
                raised = error
                if self._has_passed():
                    break
            else:
                return connection
        raise raised

    def watch(self, connection: socket.socket) -> None:
        """Watch a connection from now on; a copy of its handle, because TLS takes the first one over."""
        with self._lock:
            self._watched.append(connection.dup())
        if self.passed:
            self.shut()

    def tell(self, told: Callable[[], None]) -> None:
        """Call a function, too, when a limit passes: for who waits on something else than a socket."""
        with self._lock:
            self._told.append(told)
        if self.passed:
            told()

    @property
    def remaining(self) -> float:
        """Seconds that are left, at least a hundredth, and no more than a socket can be told."""
        return min(max(self._end - time.monotonic(), 0.01), 1e6)

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

    def shut(self) -> None:
        """Shut all connections down."""
        with self._lock:
            for connection in self._watched:
                with suppress(OSError):  # no longer connected
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the handles."""
        with self._lock:
            for connection in self._watched:
                connection.close()
            self._watched.clear()
            self._told.clear()

    def _has_passed(self) -> bool:
        """Whether the time is up, be it that the timer's thread is late to say so."""
        self.passed = self.passed or time.monotonic() >= self._end
        return self.passed

    def _pass(self) -> None:
        self.passed = True
        self.shut()
        with self._lock:
            told = list(self._told)
        for one in told:
            one()

    def _addresses(self, host: str, port: int) -> list[Any]:
        """Look a name up; in a thread that is left behind where the name service is slower than the limit."""
        answers: SimpleQueue[list[Any] | OSError] = SimpleQueue()

        def look_up() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)
            except UnicodeError:  # a part of the name is too long for any
                answers.put(socket.gaierror("no name of a host"))

        Thread(target=look_up, daemon=True).start()
        try:
            found = answers.get(timeout=self.remaining)
        except Empty:
            self._has_passed()
            raise TimeoutError("the host's name was not found in time") from None
        if isinstance(found, OSError):
            raise found
        return found
