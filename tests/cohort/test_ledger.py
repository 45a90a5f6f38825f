"""Check that the ledger holds every line, whoever appends, however a process ends, and that counts add up."""

import os
import resource
import signal

import pytest

from medfuse.cohort.running.ledger import NAME, History, Ledger, Tail
from medfuse.errors import CohortError, ExportError


def begun(*names, run="r"):
    return {"event": "run", "run": run, "plan": list(names)}


def result(study, outcome, run="r", **more):
    return {"event": "result", "run": run, "study": study, "result": outcome, **more}


def started(study, run="r"):
    return {"event": "started", "run": run, "study": study}


def test_counts_add_up_to_the_plan_at_any_time(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a", "b", "c", "d", "e"))
    for line in (started("a"), result("a", "done"), started("b"), result("c", "refused"), started("d")):
        ledger.append(line)
        assert sum(ledger.read().counts(running={"d"}).values()) == 5
    counts = ledger.read().counts(running={"d"})
    assert {state: count for state, count in counts.items() if count} == {
        "done": 1,
        "refused": 1,
        "running": 1,
        "interrupted": 1,
        "waiting": 1,
    }


def test_the_latest_plan_counts_and_what_left_it_does_not(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a", "b"), result("a", "done"), result("b", "done"), begun("b", "c", run="s"))
    assert ledger.read().plan == ("b", "c")
    assert ledger.read().counts()["done"] == 1
    assert ledger.read().counts()["waiting"] == 1


@pytest.mark.parametrize(("cut", "damaged"), [(1, 0), (5, 1), (20, 1)])
def test_a_line_that_was_cut_short_damages_no_other(tmp_path, cut, damaged):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a", "b"), result("a", "done"))
    whole = ledger.path.read_bytes()
    ledger.append(result("b", "done"))
    ledger.path.write_bytes(ledger.path.read_bytes()[:-cut])
    assert ledger.read().state("b") == "waiting"
    ledger.append(result("b", "failed"))
    assert ledger.path.read_bytes().startswith(whole)
    assert (ledger.read().state("a"), ledger.read().state("b"), ledger.read().damaged) == ("done", "failed", damaged)


@pytest.mark.parametrize(
    "text", [b"\xff\xfe\n", b"[]\n", b'{"event": "run", "run": "r", "plan": 7}\n', b"[" * 5000 + b"\n", b'{"a":1}\n']
)
def test_lines_that_nobody_wrote_are_counted_and_passed_over(tmp_path, text):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a"))
    with ledger.path.open("ab") as stream:
        stream.write(text)
    ledger.append(result("a", "done"))
    assert (ledger.read().damaged, ledger.read().state("a")) == (1, "done")


def test_many_processes_append_at_once(tmp_path):
    ledger = Ledger(tmp_path)
    names = [f"{process}-{number}" for process in range(4) for number in range(25)]
    ledger.append(begun(*names))
    children = []
    for process in range(4):
        child = os.fork()
        if child == 0:
            for number in range(25):
                Ledger(tmp_path).append(result(f"{process}-{number}", "done", text="x" * 300))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert ledger.read().counts()["done"] == 100
    assert ledger.read().damaged == 0


def test_one_run_gives_a_study_one_result(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a"), result("a", "done"))
    assert ledger.settle(result("a", "killed"))["result"] == "done"
    assert ledger.settle(result("a", "killed", run="later"))["result"] == "killed"
    assert ledger.read().state("a") == "killed"


def test_a_disk_that_is_full_leaves_whole_lines(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a"))
    before = ledger.path.read_bytes()
    monkeypatch.setattr("medfuse.cohort.running.ledger.FULL_TRIES", 1)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(ExportError, match=r"cannot write .*Free space there"):
            ledger.append(result("a", "done"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert ledger.path.read_bytes() == before


def test_what_is_no_cohort_is_said_in_a_sentence(tmp_path):
    with pytest.raises(CohortError, match="expected the ledger of a cohort"):
        Ledger(tmp_path).read()
    assert History().counts()["done"] == 0


def test_a_tail_knows_what_is_under_way(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append(begun("a", "b"), started("a"))
    tail = Tail(tmp_path)
    ledger.append(started("b"))
    assert tail.running() == ["b"]
    with (tmp_path / NAME).open("a") as stream:
        stream.write('{"event": "resu')
    assert tail.running() == ["b"]
    ledger.append(result("b", "done"))
    assert tail.running() == []
