"""Answers that are lost on their way are asked for again, a few times."""

import pytest

pytest.importorskip("distributed")

from medfuse.cohort.running import distribute as module
from medfuse.cohort.running.distribute import MOST_ANSWERS_LOST
from medfuse.errors import CohortError


class Future:
    """One whose answer is lost."""

    status = "cancelled"

    def __init__(self, key):
        self.key = key

    def exception(self, timeout):
        raise TimeoutError

    def release(self):
        pass


class Client:
    future = Future

    def __init__(self, status):
        self.status, self.submitted = status, []

    def submit(self, function, work, request, again, key, **how):
        self.submitted.append((work, again))
        return self.future(key)


class Request:
    name, run = "sub-01", "r"

    def to_dict(self):
        return {}


class Ledger:
    def settle(self, line):
        return line


class Pending(list):
    """As distributed.as_completed, of futures that end in the order in which they come."""

    def add(self, future):
        self.append(future)


@pytest.fixture
def begun(monkeypatch):
    monkeypatch.setattr(module, "as_completed", Pending)
    return lambda client: module._Run(client, [Request()], Ledger())


def test_what_was_lost_is_asked_for_again_and_given_up_in_the_end(begun):
    client = Client("running")
    lines = list(begun(client).lines())
    assert client.submitted == [("look", False), *[("look", True)] * MOST_ANSWERS_LOST]
    assert [(line["study"], line["result"]) for line in lines] == [("sub-01", "killed")]


class EndedFuture(Future):
    """One of a worker that was ended while a study was done."""

    status = "finished"

    def result(self):
        return {"ended": True}


def test_a_worker_that_was_ended_gives_its_study_to_another(begun):
    client = Client("running")
    client.future = EndedFuture
    lines = list(begun(client).lines())
    assert client.submitted == [("look", False), *[("look", True)] * MOST_ANSWERS_LOST]
    assert [(line["study"], line["result"]) for line in lines] == [("sub-01", "killed")]


def test_without_a_scheduler_the_run_ends(begun):
    client = Client("closed")
    with pytest.raises(CohortError, match="scheduler was lost"):
        list(begun(client).lines())
    assert client.submitted == [("look", False)]
