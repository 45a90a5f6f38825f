"""Time a cohort against the same studies one command each, one worker against two, and what the engine itself costs.

    python benchmarks/cohort.py [--source SOURCE] [--studies N] [--coarsen F] [--align HOW] [--repeats N]

Without ``--source`` the studies are phantoms as NIfTI, aligned as the command does it if it is not told otherwise, and
each takes about as long as one of the public soft-tissue sarcoma cohort. ``--coarsen 4 --align header`` gives smaller
ones, of which a run's start is a larger share. SOURCE is anything that ``medfuse cohort plan`` takes; of it the first N
fusions are run. One that is refused counts with the time that it took, in each way alike.

All ratios are of one run, in which what is compared alternates. ``--simulate`` looks at no pixels: it gives so many
studies to so many workers that do nothing but write the ledger, and prints what limits a cohort of that size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from distributed import Client, LocalCluster

import medfuse
from medfuse import nifti
from medfuse.cohort.manifest import Plan, PlannedFusion, read_manifest, write_manifest
from medfuse.cohort.running import children
from medfuse.cohort.running.ledger import Ledger
from medfuse.cohort.running.run import Where, run_plan

NOT_ALL_DONE, REFUSED = 8, 4
"""Exit codes of a cohort with studies that were refused, and of a command that refuses its study."""

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="a BIDS data set, DICOM tree or manifest, instead of phantoms")
    parser.add_argument("--studies", type=int, default=24, help="how many phantoms, or at most of the source")
    parser.add_argument("--coarsen", type=float, default=2.0, help="factor on the phantoms' voxel sizes")
    parser.add_argument("--align", default="auto", help="how the phantoms are aligned")
    parser.add_argument("--repeats", type=int, default=1, help="how often each way is timed")
    parser.add_argument("--simulate", type=int, default=0, metavar="N", help="only simulate N studies")
    parser.add_argument("--workers", type=int, default=200, help="of the simulation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.simulate:
            simulate(Path(folder), arguments.simulate, arguments.workers)
        else:
            made = Path(folder, "in")
            made.mkdir()
            if arguments.source:
                plan = planned(made, arguments.source, arguments.studies)
            else:
                plan = phantoms(made, arguments.studies, arguments.coarsen, arguments.align)
            measure(Path(folder), plan, arguments.repeats)


def measure(folder: Path, plan: Path, repeats: int) -> None:
    fusions = read_manifest(plan).rows
    studies = len(fusions)
    # The command writes no page of a study unless it is asked to.
    (folder / "settings.yaml").write_text("report: false\n")
    warm = folder / "in" / "warm.csv"
    write_manifest(Plan(fusions[:1]), warm)
    timed(folder / "warm", "run", warm, "--workers", "1")  # compiles the engine, if nobody has
    ways: dict[str, list[float]] = {"commands": [], "one worker": [], "two workers": []}
    peaks = {}
    spans: dict[str, list[list[tuple[float, float]]]] = {"one worker": [], "two workers": []}
    for repeat in range(repeats):
        ways["commands"].append(sum(command(folder / f"command{repeat}", row) for row in fusions))
        for count, name in ((1, "one worker"), (2, "two workers")):
            out = folder / f"{name}{repeat}"
            ways[name].append(timed(out, "run", plan, "--workers", str(count)))
            peaks[name] = [line["row"]["peak_mib"] for line in lines_of(out) if "peak_mib" in (line.get("row") or {})]
            spans[name].append(spans_of(out))
    for name, seconds in ways.items():
        print(f"{name:12} {min(seconds):7.1f} s for {studies} studies (best of {repeats})")
    spent = [end - begin for begin, end in spans["one worker"][0]]
    print(f"a study takes {mean(spent):.1f} s; {results_of(folder / 'one worker0')}")
    print(f"one command each, against two workers: {min(ways['commands']) / min(ways['two workers']):.2f} times")
    print(f"one worker against two, a thread each: {min(ways['one worker']) / min(ways['two workers']):.2f} times")
    shortest = {name: min(map(whole_of, runs)) for name, runs in spans.items()}
    print(f"the same without the start of each run: {shortest['one worker'] / shortest['two workers']:.2f} times")
    overhead = min(map(overhead_of, spans["one worker"]))
    # Two at each end: kinds of partners take turns, and need different amounts.
    first, last = mean(peaks["one worker"][:2]), mean(peaks["one worker"][-2:])
    print(
        f"memory of one worker: {first:.0f} MiB over its first two studies, {last:.0f} MiB over its last of {studies}"
    )
    print(f"between two studies of a worker: {1000 * overhead[0]:.0f} ms, {100 * overhead[1]:.2f} % of a study")


def timed(out: Path, *words: object) -> float:
    started = time.perf_counter()
    words = (*words, "--settings", out.parent / "settings.yaml", "--out", out)
    run([sys.executable, "-m", "medfuse", "cohort", *map(str, words)], NOT_ALL_DONE)
    return time.perf_counter() - started


def command(out: Path, fusion: PlannedFusion) -> float:
    started = time.perf_counter()
    words = ["fuse", fusion.mri[0], fusion.partner[0], "--align", fusion.align or "auto"]
    if fusion.modality:
        words += ["--modality", fusion.modality]
    words += ["--format", "nifti", "--with-partner", "--out", out / fusion.name]
    run([sys.executable, "-m", "medfuse", *map(str, words)], REFUSED)
    return time.perf_counter() - started


def run(words: list[str], else_allowed: int) -> None:
    """Run a command, which may end with one exit code other than 0."""
    ended = subprocess.run(words, env=ONE_THREAD, capture_output=True, text=True)
    if ended.returncode not in (0, else_allowed):
        raise SystemExit(f"{' '.join(words)} ended with {ended.returncode}:\n{ended.stderr}")


def results_of(out: Path) -> str:
    """How many studies had which result."""
    return ", ".join(f"{number} {result}" for result, number in Ledger(out).read().counts().items() if number)


def lines_of(out: Path) -> list[dict[str, object]]:
    return list(Ledger(out).lines())


def spans_of(out: Path) -> list[tuple[float, float]]:
    """When each study began and ended, s."""
    from datetime import datetime

    moments: dict[object, list[float]] = {}
    for line in lines_of(out):
        if line["event"] in ("started", "result"):
            moments.setdefault(line["study"], []).append(datetime.fromisoformat(str(line["time"])).timestamp())
    return [(begin, end) for begin, end in moments.values()]


def whole_of(spans: list[tuple[float, float]]) -> float:
    """From the first study's begin to the last one's end, s: a run without its start."""
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def overhead_of(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """Time of one worker between one study's end and the next one's begin: mean seconds, and share of a study."""
    worked = sum(end - begin for begin, end in spans)
    idle = max(0.0, whole_of(spans) - worked) / max(1, len(spans) - 1)
    return idle, idle / (worked / len(spans))


def phantoms(folder: Path, studies: int, coarsen: float, align: str) -> Path:
    """Write so many phantoms, PET and CT in turn; the manifest of them."""
    rows = ["subject,mri,partner,modality,align"]
    for number in range(studies):
        kind = ("PT", "CT")[number % 2]
        study = medfuse.phantom_study(kind, seed=number, coarsen=coarsen)
        nifti.write_measured(study.mri, folder / f"mri{number}.nii.gz", {})
        nifti.write_measured(study.partner, folder / f"partner{number}.nii.gz", {})
        rows.append(f"{number:03d},mri{number}.nii.gz,partner{number}.nii.gz,{kind},{align}")
    plan = folder / "plan.csv"
    plan.write_text("\n".join(rows) + "\n")
    return plan


def planned(folder: Path, source: Path, most: int) -> Path:
    """The manifest of the first fusions of a source."""
    plan = folder / "plan.csv"
    write_manifest(Plan(medfuse.cohort.plan(source).rows[:most]), plan)
    return plan


class Idle:
    """Stands for a process that does studies: answers at once, and writes what the ledger has of a study."""

    alive = True
    peak = 0

    def __init__(self, threads: int) -> None:
        pass

    def ask(self, question: dict, limit: int) -> dict:
        request = question["request"]
        if question["work"] == "look":
            return {"memory": 1, "modality": "PT"}
        about = {"run": request["run"], "study": request["name"]}
        line = {"event": "result", **about, "result": "done", "row": {"seconds": 1.0, "verdict": "aligned"}}
        ledger = Ledger(Path(request["out"]))
        ledger.append({"event": "started", **about}, durable=False)
        ledger.append(line)
        return json.loads(json.dumps({"result": line}))

    def close(self) -> None:
        pass


def simulate(folder: Path, studies: int, workers: int) -> None:
    children.Child = Idle
    plan = folder / "plan.csv"
    rows = [f"{number:05d},mri{number}.nii.gz,partner{number}.nii.gz,PT" for number in range(studies)]
    plan.write_text("\n".join(["subject,mri,partner,modality", *rows]) + "\n")
    started = time.perf_counter()
    fusions = read_manifest(plan)
    read = time.perf_counter() - started
    started = time.perf_counter()
    hosts = max(1, workers // 25)
    with (
        LocalCluster(
            n_workers=hosts, threads_per_worker=workers // hosts, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        started = time.perf_counter()
        where = Where(client=client, memory=2**40)
        outcomes = list(run_plan(fusions.rows, fusions.faults, folder / "out", where=where))
        whole = time.perf_counter() - started
    assert [outcome.result for outcome in outcomes] == ["done"] * studies
    started = time.perf_counter()
    history = Ledger(folder / "out").read()
    counted = time.perf_counter() - started
    assert history.counts()["done"] == studies
    started = time.perf_counter()
    for _ in range(100):
        Ledger(folder).append({"event": "started", "run": "r", "study": "s"})
    append = (time.perf_counter() - started) / 100
    rate = studies / whole
    print(f"{studies} studies without pixels on {workers} workers: {whole:.1f} s, {1000 / rate:.1f} ms a study")
    print(f"reading the plan {read:.2f} s; counting from the ledger {counted:.2f} s")
    print(f"one line of the ledger {1000 * append:.2f} ms, brought to the disk")
    print(f"so {workers} workers are kept busy as long as a study takes {workers / rate:.1f} s or more;")
    print(f"for 1 % of overhead on one scheduler, a study of a worker takes {100 / rate:.1f} s or more")


if __name__ == "__main__":
    main()
