"""Keep processes that do studies, give each a question at a time, and say how one ended that did not answer."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from medfuse.errors import CohortError

LOOK_SECONDS = 0.1
"""How often a process's memory is looked at."""

MOST_NUMBER = 1e15

END_SECONDS = 10.0
"""How long to wait for the system to say how a process ended."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def threads_said() -> int:
    """On how many threads to compute by what the environment says (``OMP_NUM_THREADS``); 0 where it is silent."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isascii() and said.isdecimal() else 0


class ChildDiedError(Exception):
    """A process ended before it answered; the message says by what."""


class RunEndedError(Exception):
    """A process was ended before it answered, because its worker ends: nothing has become of the study."""


class Child:
    """One process that does studies, one after the other; see `medfuse.cohort.study.child`.

    Parameters
    ----------
    threads
        On which it computes.
    """

    def __init__(self, threads: int) -> None:
        own = {name: str(threads) for name in THREAD_VARIABLES}
        environment = {**os.environ, **own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "medfuse.cohort.study.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
        )
        self._about = psutil.Process(self._process.pid)
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._closed = False
        threading.Thread(target=self._listen, daemon=True).start()
        self.peak = 0
        """The most memory that it held while it did the last study, bytes."""

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put(None)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: dict[str, Any], limit: int) -> dict[str, Any]:
        """Ask, and wait for the answer; a process that takes more than ``limit`` bytes is ended.

        Raises
        ------
        ChildDiedError
            If it ends before it answers.
        RunEndedError
            If `close` ended it meanwhile.
        """
        self.peak, killed_before = 0, _killed_for_memory()
        assert self._process.stdin is not None
        with suppress(OSError):  # it ended: the answer says so
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        while True:
            with suppress(queue.Empty):
                answer = self._answers.get(timeout=LOOK_SECONDS)
                if answer is None and self._closed:
                    raise RunEndedError
                if answer is None:
                    raise ChildDiedError(self._cause(killed_before))
                return dict(json.loads(answer))
            self.peak = max(self.peak, self._memory())
            if self.peak > limit:
                self.close()
                raise ChildDiedError(
                    f"memory: it took {said_of(self.peak)}, more than the {said_of(limit)} of a worker; give workers "
                    "more (--memory), or take fewer of them (--workers)"
                )

    def _memory(self) -> int:
        with suppress(psutil.Error):
            return int(self._about.memory_info().rss)
        return 0

    def _cause(self, killed_before: int) -> str:
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.close()
            return "it closed its answers and did not end"
        if code >= 0:
            return f"it ended with the exit code {code}"
        if -code == signal.SIGKILL and _killed_for_memory() > killed_before:
            return f"memory: the system ended it, which then held {said_of(self.peak)}"
        with suppress(ValueError):
            return f"signal {-code} ({signal.Signals(-code).name})"
        return f"signal {-code}"

    def close(self) -> None:
        """End the process."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _killed_for_memory() -> int:
    """How many processes the system has ended because memory ran out: of this control group, else of the machine."""
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
        said = Path("/sys/fs/cgroup", group, "memory.events").read_text().split()
        return int(said[said.index("oom_kill") + 1])
    with suppress(OSError, ValueError, IndexError):
        said = Path("/proc/vmstat").read_text().split()
        return int(said[said.index("oom_kill") + 1])
    return 0


class Children:
    """The processes of the workers in this process, those that wait for work included."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Child]] = defaultdict(list)
        self._busy: dict[Child, str] = {}
        self._ahead: list[Child] = []
        self._lock = threading.Lock()

    def ask(self, owner: str, threads: int, question: dict[str, Any], limit: int) -> dict[str, Any]:
        """Ask a process of a worker, which is started if none waits; see `Child.ask`."""
        with self._lock:
            idle = self._idle[owner]
            child = idle.pop() if idle else None
        if child is None or not child.alive:
            child = Child(threads)
        self._busy[child] = owner
        try:
            answer = child.ask(question, limit)
        except BaseException:
            child.close()
            raise
        finally:
            self._busy.pop(child, None)
        with self._lock:
            self._idle[owner].append(child)
        return answer

    def start(self, owner: str, threads: int) -> None:
        """Give a worker a process before its first question: one that was started ahead, or a new one."""
        with self._lock:
            if not self._idle[owner]:
                self._idle[owner].append(self._ahead.pop() if self._ahead else Child(threads))

    @contextmanager
    def ahead(self, count: int, threads: int) -> Iterator[None]:
        """Start the processes of workers that are about to be made, so that both come up at once."""
        started = [Child(threads) for _ in range(count)]
        with self._lock:
            self._ahead += started
        try:
            yield
        finally:
            with self._lock:
                left = [child for child in started if child in self._ahead]
                self._ahead = [child for child in self._ahead if child not in left]
            for child in left:
                child.close()

    def close(self, owner: str) -> None:
        """End the processes of a worker, those that work, too."""
        with self._lock:
            every = [*self._idle.pop(owner, ()), *(child for child, other in self._busy.items() if other == owner)]
        for child in every:
            child.close()


children = Children()
"""Those of this process."""


UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    """Read how many bytes a text says; `CohortError` where it says none.

    >>> bytes_of("1.5 GiB"), bytes_of("2GB")
    (1610612736, 2000000000)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)", text.strip(), re.ASCII)
    if found is None or found[2].upper() not in UNITS or not 0 < float(found[1]) < MOST_NUMBER:
        raise CohortError(f"expected memory as a number with its unit, such as 8GiB or 500MB; found {text[:40]!r}.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def said_of(number: float) -> str:
    """Bytes for people.

    >>> said_of(3 * 2**30)
    '3.0 GiB'
    """
    return f"{number / 2**30:.1f} GiB"
