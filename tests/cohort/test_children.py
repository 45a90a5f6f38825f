"""A process that ends is told apart: by what it died, or that nobody wanted its answer any more."""

import os
import signal
import threading
from contextlib import nullcontext

import pytest

pytest.importorskip("psutil")

from medfuse.cohort.running.children import ChildDiedError, Children, RunEndedError, children, threads_said
from medfuse.cohort.running.run import _client
from medfuse.cohort.running.where import Where

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


def test_processes_that_were_started_ahead_go_to_workers_and_those_that_none_took_end():
    every = Children()
    with every.ahead(2, 1):
        taken, left = every._ahead[1], every._ahead[0]
        every.start("worker", 1)
        assert every._idle["worker"] == [taken]
    assert taken.alive
    assert not left.alive
    every.close("worker")
    assert not taken.alive


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", 0), ("0", 0), ("two", 0), ("²", 0)])
def test_the_environment_says_on_how_many_threads_to_compute(said, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads_said() == threads


def test_one_worker_on_this_machine_computes_on_the_threads_that_the_environment_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked = []
    monkeypatch.setattr(children, "ahead", lambda count, threads: asked.append((count, threads)) or nullcontext())
    with _client(Where(workers=1), 5) as (_, threads):
        assert threads == 1
    assert asked == [(1, 1)]
