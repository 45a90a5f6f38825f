"""Kill the command and its workers at random moments: each study is done once, and results are those of a quiet run."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from cohort_runs import tree, write_cohort

from medfuse.cohort.running.ledger import NAME, Ledger
from medfuse.cohort.running.status import read_status

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MEDFUSE_KILLS", "3"))
STUDIES = 2 * max(3, (KILLS + 1) // 2)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "settings.yaml").write_text("align: header\nengine: masked\nreport: false\n")
    return write_cohort(folder, ["PT", "CT"] * (STUDIES // 2), coarsen=6)


@pytest.fixture(scope="module")
def quiet(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("quiet") / "out"
    assert command(inputs, out).wait() == 0
    return tree(out)


def command(plan, out, *more):
    words = ["cohort", "run", plan, "--out", out, "--workers", "2", "--settings", plan.parent / "settings.yaml", *more]
    arguments = [sys.executable, "-m", "medfuse", *map(str, words)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers_of(process):
    try:
        return [one for one in psutil.Process(process.pid).children() if "child" in " ".join(one.cmdline())]
    except psutil.Error:
        return []


def began(out, count, process):
    """Wait until so many studies have begun, or the command has ended."""
    while process.poll() is None:
        path = out / NAME
        if path.exists() and path.read_text().count('"event": "started"') >= count:
            return
        time.sleep(0.02)


def require_sums(out):
    status = read_status(out)
    assert status.planned == STUDIES
    assert sum(status.counts.values()) == STUDIES
    return status


def times_done(out):
    lines = [line for line in Ledger(out).lines() if line["event"] == "result" and line["result"] == "done"]
    return sorted(line["study"] for line in lines)


def test_workers_are_killed(inputs, quiet, tmp_path):
    draw = random.Random(1)
    out = tmp_path / "out"
    process = command(inputs, out)
    killed = 0
    for kill in range(KILLS):
        began(out, kill + 1, process)
        time.sleep(draw.uniform(0, 0.5))
        for one in draw.sample(alive := workers_of(process), min(1, len(alive))):
            one.kill()
            killed += 1
        require_sums(out)
    code = process.wait()
    status = require_sums(out)
    lost = [study for study in status.studies if study["state"] == "killed"]
    assert len(lost) <= killed
    assert all(study["message"] == "signal 9 (SIGKILL)" for study in lost)
    assert status.counts["done"] + status.counts["killed"] == STUDIES
    assert code == (8 if lost else 0)
    assert command(inputs, out).wait() == 0
    assert times_done(out) == sorted({*times_done(out)})
    assert tree(out) == quiet


def test_the_command_is_killed(inputs, quiet, tmp_path):
    """At any moment, also while it starts, plans, or has studies done; how long a start takes shows the first time."""
    draw = random.Random(2)
    out = tmp_path / "out"
    begin = time.monotonic()
    took, killed = 0.0, 0
    for _ in range(KILLS):
        process = command(inputs, out)
        first = not took
        if first:
            began(out, 1, process)
            took = time.monotonic() - begin
        time.sleep(draw.uniform(0, 1.0 if first else took + 1.0))
        orphans = workers_of(process)
        if process.poll() is not None:
            break  # the machine has become quicker than it was at first
        process.send_signal(signal.SIGKILL)
        killed += 1
        process.wait()
        psutil.wait_procs(orphans, timeout=20)
        assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in orphans)
        if out.exists():
            assert require_sums(out).counts["running"] == 0
    assert killed
    assert command(inputs, out).wait() == 0
    status = require_sums(out)
    assert status.complete
    assert times_done(out) == sorted({*times_done(out)})
    assert tree(out) == quiet
    assert not list(out.rglob(".medfuse-*"))


def test_a_command_that_is_asked_to_end_leaves_studies_open(inputs, quiet, tmp_path):
    """Nobody has killed a study that was under way: it was interrupted."""
    out = tmp_path / "out"
    process = command(inputs, out)
    began(out, 1, process)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    counts = require_sums(out).counts
    assert (counts["killed"], counts["failed"], counts["running"]) == (0, 0, 0)
    assert counts["interrupted"] + counts["waiting"] + counts["done"] == STUDIES
    assert counts["interrupted"]
    assert command(inputs, out).wait() == 0
    assert tree(out) == quiet


def test_two_shards_and_two_people_at_once(inputs, quiet, tmp_path):
    out = tmp_path / "out"
    runs = [command(inputs, out, "--shard", shard) for shard in ("1/2", "2/2", "1/1")]
    assert [one.wait() for one in runs] == [0, 0, 0]
    assert require_sums(out).complete
    assert times_done(out) == sorted({*times_done(out)})
    assert len(times_done(out)) == STUDIES
    assert tree(out) == quiet


def test_a_full_disk_in_the_middle(inputs, quiet, tmp_path):
    """Files may grow to a few bytes only, as on a disk that is full: no result, no half, and a run that goes on."""
    out = tmp_path / "out"
    limited = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); sys.argv[0] = 'medfuse'; "
    limited += "from medfuse.cli import main; main()"
    words = ["cohort", "run", inputs, "--out", out, "--workers", "2", "--settings", inputs.parent / "settings.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", limited, *map(str, words), "--json"], capture_output=True, text=True, check=False
    )
    said = json.loads(done.stdout)
    assert done.returncode == 8
    assert said["counts"]["failed"] == STUDIES
    assert all("cannot write" in study["message"] for study in said["studies"])
    assert tree(out) == {}
    assert command(inputs, out).wait() == 0
    assert tree(out) == quiet
