"""Keep the ledger of a cohort: JSON lines, appended whole under a lock, from which all counts are read."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from medfuse.errors import CohortError, ExportError
from medfuse.runtime.output.file_lock import FileLock
from medfuse.runtime.output.flush import flush_folder

NAME = "ledger.jsonl"

Result = Literal["done", "refused", "failed", "killed", "skipped"]

RESULTS: tuple[Result, ...] = ("done", "refused", "failed", "killed", "skipped")
"""What can become of a study; each has exactly one of them in the end."""

COMPLETE: tuple[Result, ...] = ("done", "skipped")
"""Those that count as success."""

RATEABLE: tuple[Result, ...] = ("done", "skipped", "refused")
"""Those that say something of the study; what failed or was killed leaves what was there before."""

OPEN = ("running", "interrupted", "waiting")
"""States of a study without a result: under way, begun by a process that is no more, and not begun."""

MOST_SECONDS = 60.0
"""How long to wait for others that append; each holds the lock for milliseconds."""

FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
FULL_TRIES = 20
"""A study that fails on a full disk gives back what it had written; the ledger waits for that."""


def now() -> str:
    """The time as the ledger says it: UTC, ISO 8601, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class History:
    """What a ledger says.

    Parameters
    ----------
    plan
        Names of all studies of the latest run's plan, in its order.
    last
        The last line about each study.
    runs
        Lines about runs that began, in order.
    damaged
        How many lines are none, which is what a process leaves that ended while it wrote.
    digests
        What each study's present result was made of: the digest of the last time that it was done, skipped or refused.
    alignments
        Studies that were run again with another alignment: which, and a digest of the one that was to be used instead.
    """

    plan: tuple[str, ...] = ()
    last: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ()
    damaged: int = 0
    digests: Mapping[str, str] = field(default_factory=dict)
    alignments: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def state(self, study: str) -> str:
        """The result of a study; ``started`` where it only began, ``waiting`` where it did not."""
        line = self.last.get(study)
        if line is None:
            return "waiting"
        return str(line["result"]) if line["event"] == "result" else "started"

    def counts(self, running: Iterable[str] = ()) -> dict[str, int]:
        """How many studies of the plan are in each state; the numbers add up to the plan.

        Parameters
        ----------
        running
            Those that a living process holds: who else began one, and wrote no result, was interrupted.
        """
        running = set(running)
        found: Counter[str] = Counter()
        for study in self.plan:
            state = self.state(study)
            if state == "started" or study in running:
                state = "running" if study in running else "interrupted"
            found[state] += 1
        return {state: found[state] for state in (*RESULTS, *OPEN)}


class Tail:
    """Which studies of a ledger are under way, read on from where the last look ended."""

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        self._path, self._running = path, dict[str, None]()
        # What earlier runs wrote says nothing about this one.
        self._place = path.stat().st_size if path.exists() else 0

    def running(self) -> list[str]:
        """Those that have begun and have no result."""
        with suppress(OSError), self._path.open("rb") as stream:
            stream.seek(self._place)
            for text in stream:
                if not text.endswith(b"\n"):
                    break
                self._place += len(text)
                line = _line(text)
                if line is not None and line["event"] == "started":
                    self._running[line["study"]] = None
                elif line is not None and line["event"] == "result":
                    self._running.pop(line["study"], None)
        return list(self._running)


class Ledger:
    """The ledger of a folder; any number of processes may append to it and read it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def append(self, *lines: Mapping[str, Any], durable: bool = True) -> None:
        """Append lines, each with the time, and bring them to the disk before this returns unless not ``durable``.

        A line that another process did not finish is closed first, so that it damages no other. Where the disk is full,
        what was begun is taken back.

        Raises
        ------
        ExportError
            If the file cannot be written, or others hold it for a minute.
        """
        with self._held() as descriptor:
            _append(descriptor, lines, durable)

    def settle(self, line: Mapping[str, Any]) -> Mapping[str, Any]:
        """Append a study's result, unless the same run has one already; return the one that holds."""
        with self._held() as descriptor:
            former = self.result(line["study"], line["run"], descriptor)
            if former is not None:
                return former
            _append(descriptor, [line])
            return line

    def result(self, study: str, run: str, descriptor: int | None = None) -> Mapping[str, Any] | None:
        """The line about what became of a study in a run; None where nobody has said."""
        for line in self.lines(descriptor):
            if line["event"] == "result" and (line["study"], line["run"]) == (study, run):
                return line
        return None

    def read(self) -> History:
        """Read what it says, at any time, also while it is written.

        Raises
        ------
        CohortError
            If there is none, or it cannot be read.
        """
        plan: tuple[str, ...] = ()
        last: dict[str, Mapping[str, Any]] = {}
        runs: list[Mapping[str, Any]] = []
        digests: dict[str, str] = {}
        alignments: dict[str, tuple[str, str]] = {}
        damaged = 0
        for line in self.lines(with_damaged=True):
            if line["event"] == "run":
                plan = tuple(line["plan"])
                runs.append(line)
                alignments.update(_alignments(line))
            elif line["event"] in ("started", "result"):
                last[line["study"]] = line
                if line.get("result") in RATEABLE and isinstance(line.get("digest"), str):
                    digests[line["study"]] = line["digest"]
            else:
                damaged += 1
        return History(plan, last, tuple(runs), damaged, digests, alignments)

    def lines(self, descriptor: int | None = None, *, with_damaged: bool = False) -> Iterator[dict[str, Any]]:
        """Each line; what is none is passed over, or has the event ``damaged``."""
        try:
            with self.path.open("rb") if descriptor is None else os.fdopen(os.dup(descriptor), "rb") as stream:
                stream.seek(0)
                for text in stream:
                    if not text.endswith(b"\n") and descriptor is None:
                        return  # somebody is writing it
                    line = _line(text)
                    if line is not None:
                        yield line
                    elif with_damaged and text.strip():
                        yield {"event": "damaged"}
        except OSError as error:
            raise CohortError(
                f"expected the ledger of a cohort in {self.path}, found none that can be read: {error.strerror}; give "
                "the folder that was --out of `medfuse cohort run`."
            ) from None

    @contextmanager
    def _held(self) -> Iterator[int]:
        """Hold the file alone, made if it is missing."""
        end = time.monotonic() + MOST_SECONDS
        try:
            is_new = not self.path.exists()
            while (lock := FileLock.taken(self.path, create=True)) is None:
                if time.monotonic() > end:
                    raise ExportError(
                        f"other processes have held {self.path} for {MOST_SECONDS:.0f} s; find out which, and run the "
                        "command again, which goes on from there."
                    )
                time.sleep(random.uniform(0.001, 0.01))
            with lock:
                yield lock.descriptor
            if is_new:
                flush_folder(self.path.parent)
        except OSError as error:
            raise ExportError(
                f"cannot write {self.path}: {error.strerror}. Free space there, or correct its permissions, and run "
                "the command again, which goes on from there."
            ) from error


def _append(descriptor: int, lines: Iterable[Mapping[str, Any]], durable: bool = True) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    texts = [json.dumps({"time": now(), **line}, ensure_ascii=True, allow_nan=False) + "\n" for line in lines]
    if end:
        os.lseek(descriptor, -1, os.SEEK_END)
        if os.read(descriptor, 1) != b"\n":
            texts.insert(0, "\n")
    content = "".join(texts).encode("ascii")
    for attempt in range(FULL_TRIES + 1):
        os.lseek(descriptor, end, os.SEEK_SET)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if durable:
                os.fsync(descriptor)
            return
        except OSError as error:
            os.ftruncate(descriptor, end)
            if error.errno not in FULL or attempt == FULL_TRIES:
                raise
            time.sleep(0.25)


def _alignments(line: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The studies that a run aligned in another way than its plan and settings say."""
    found = line.get("alignments")
    for study, said in found.items() if isinstance(found, dict) else ():
        if isinstance(said, list) and len(said) == 2 and all(isinstance(one, str) for one in said):
            yield study, (said[0], said[1])


def _line(text: bytes) -> dict[str, Any] | None:
    """A line that the ledger writes, or None."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    if line.get("event") == "run":
        plan = line.get("plan")
        known = isinstance(plan, list) and all(isinstance(name, str) for name in plan)
    else:
        known = line.get("event") == "started" or (line.get("event") == "result" and line.get("result") in RESULTS)
        known = known and isinstance(line.get("study"), str)
    return line if known and isinstance(line.get("run"), str) else None
