"""A process that ends is told apart: by what it died, or that nobody wanted its answer any more."""

import os
import signal
import threading

import pytest

pytest.importorskip("psutil")

from medfuse.cohort.running.children import ChildDiedError, Children, RunEndedError

QUESTION = {"work": "do", "request": {"name": "sub-01"}}
LIMIT = 2**40


class Asked(threading.Thread):
    """Ask a process, which has been stopped and so never answers, and keep what is raised."""

    def __init__(self, every):
        super().__init__(daemon=True)
        self.every, self.raised = every, None
        self.start()

    def run(self):
        try:
            self.every.ask("worker", 1, QUESTION, LIMIT)
        except (ChildDiedError, RunEndedError) as error:
            self.raised = error


@pytest.fixture
def busy():
    """The processes of a worker, of which one was asked, and that one."""
    every = Children()
    every.start("worker", 1)
    (child,) = every._idle["worker"]
    os.kill(child._process.pid, signal.SIGSTOP)
    asked = Asked(every)
    while child not in every._busy:
        pass
    yield every, child, asked
    every.close("worker")


def test_a_worker_that_ends_ends_its_process_and_nothing_has_become_of_the_study(busy):
    every, child, asked = busy
    every.close("worker")
    asked.join(20)
    assert isinstance(asked.raised, RunEndedError)
    assert not child.alive


def test_a_process_that_others_kill_has_died(busy):
    _, child, asked = busy
    os.kill(child._process.pid, signal.SIGKILL)
    asked.join(20)
    assert isinstance(asked.raised, ChildDiedError)
    assert str(asked.raised) == "signal 9 (SIGKILL)"
