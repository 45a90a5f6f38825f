"""Run a command outside of Slicer's Python, and tell how far it is."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of the cursor on a terminal."""

BAR = re.compile(r"^\s*(?P<step>[\w-]+)\s.*?(?P<percent>\d{1,3})%")
"""A line of progress, as medfuse draws it on a terminal."""

LED_ASTRAY = re.compile(r"^(PYTHON.*|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_.*|QT_.*|VIRTUAL_ENV|CONDA_PREFIX|Slicer_.*)$")
"""Variables by which Slicer finds its own libraries; another Python would find them, too, and fail."""

STOP_S = 10.0
"""Seconds that a process gets to leave by itself when it is stopped."""


class Progress(NamedTuple):
    """How far a command is: its step, and the share of it from 0 to 1; None where a line says something else."""

    text: str
    share: float | None


class Ended(NamedTuple):
    """What a process left: its exit code, and what it printed."""

    code: int
    output: str
    errors: str


Tell = Callable[[Progress], None]


class Runner(Protocol):
    """What runs commands: `Process`, or a stand-in for tests."""

    def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], tell: Tell | None = None) -> Ended:
        """Run a command to its end."""


class Process:
    """Runs one command at a time, from any thread; another thread may `stop` it."""

    def __init__(self) -> None:
        self._running: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], tell: Tell | None = None) -> Ended:
        """Run a command to its end.

        Parameters
        ----------
        arguments
            The program and its arguments; no shell looks at them.
        environment
            All of its variables.
        tell
            Called, in a thread of its own, with each line of progress.

        Raises
        ------
        OSError
            If the program cannot be started.
        """
        self._stopped.clear()
        # No console window on Windows.
        hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
        errors: list[str] = []
        with subprocess.Popen(
            list(arguments),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            creationflags=hidden,
        ) as process:
            self._running = process
            # Both pipes are read at the same time: a full one would stop the process.
            reading = threading.Thread(target=_read_errors, args=(process, errors, tell), daemon=True)
            reading.start()
            try:
                assert process.stdout is not None
                output = process.stdout.read()
                code = process.wait()
                reading.join()
            finally:
                self._running = None
        return Ended(code, output, "\n".join(errors))

    @property
    def stopped(self) -> bool:
        """Whether the command that ran last was stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the command that runs, if one does; medfuse leaves nothing half-written then."""
        process = self._running
        if process is None:
            return
        self._stopped.set()
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _read_errors(process: subprocess.Popen[str], errors: list[str], tell: Tell | None) -> None:
    """Keep what is said on standard error, and tell progress as it comes."""
    assert process.stderr is not None
    for line in process.stderr:
        for part in re.split(r"[\r\n]+", ANSI.sub("", line)):
            said = progress_of(part)
            if said is None:
                continue
            if said.share is None:
                errors.append(said.text)
            if tell is not None:
                tell(said)


def progress_of(line: str) -> Progress | None:
    """What a line of standard error says; None for an empty one.

    >>> progress_of("register  ━━━━━━━╸━━━━  62% 0:00:03 left 0:00:02")
    Progress(text='register', share=0.62)
    """
    text = ANSI.sub("", line).strip()
    if not text:
        return None
    bar = BAR.match(text)
    if bar is None:
        return Progress(text, None)
    return Progress(bar["step"], min(int(bar["percent"]), 100) / 100)


def clean_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for a Python that is not Slicer's: those of a program without what points at its own libraries.

    >>> found = clean_environment({"LANG": "C", "PYTHONHOME": "Slicer/lib/Python", "PYTHONPATH": "x"})
    >>> "LANG" in found, "PYTHONHOME" in found
    (True, False)
    """
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if not LED_ASTRAY.match(name)}
    # Bars of progress are drawn for terminals alone; and text is UTF-8, whatever the system's language.
    return kept | {"FORCE_COLOR": "1", "COLUMNS": "120", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, behind all links."""
    return folder.resolve() in path.resolve().parents
