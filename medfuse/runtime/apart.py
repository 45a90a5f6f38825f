"""Run a program of ours in a process of its own, which a damaged file may end, or exhaust, without harm to this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


class CannotRunApartError(RuntimeError):
    """There is no Python interpreter to run another program by."""


def run_apart(program: Path, arguments: Sequence[str], most_seconds: float) -> subprocess.CompletedProcess[bytes]:
    """Run a module's file as a program, and return how it ended; what it prints on standard output is kept.

    Raises
    ------
    CannotRunApartError
        If there is no interpreter, as in programs that are frozen into one file.
    subprocess.TimeoutExpired
        If it takes longer, and is ended.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        raise CannotRunApartError("this program has no Python interpreter")
    # What this process imports, that one does too, and nothing from the folder that it happens to stand in.
    searched = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        env=os.environ | {"PYTHONPATH": searched, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # of which damaged files make as much as they like
        timeout=most_seconds,
        check=False,
    )


def limit_memory(most: int, process: int = 0) -> None:
    """Let what claims more bytes than this end a process instead of taking the machine's memory.

    For one that runs apart: itself (0), or where the system can (Linux) another that was started just now. No image of
    the memory is kept either, for it may hold a patient's. Windows has no such limit.
    """
    try:
        import resource
    except ImportError:
        return
    if process and not hasattr(resource, "prlimit"):
        return
    for limit, value in ((resource.RLIMIT_AS, most), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        wanted = (value if hard == resource.RLIM_INFINITY else min(value, hard), hard)
        if process:
            with suppress(ProcessLookupError):  # it has ended
                resource.prlimit(process, limit, wanted)
        else:
            resource.setrlimit(limit, wanted)
