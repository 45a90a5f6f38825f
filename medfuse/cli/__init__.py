"""Parse the command line, show progress, and end with an exit code; one module a command."""

from __future__ import annotations

import signal
import sys

from medfuse.cli import align, bench, demo, figure, fuse, inspect, score, send, train, verify, warm_up
from medfuse.cli.cohort import page as cohort_page
from medfuse.cli.cohort import plan as cohort_plan
from medfuse.cli.cohort import run as cohort_run
from medfuse.cli.cohort import status as cohort_status
from medfuse.cli.console import app
from medfuse.cli.export import commands as export_commands
from medfuse.cli.streams import prepare_streams
from medfuse.runtime.output.signals import ENDING_SIGNALS

__all__ = [
    "align",
    "app",
    "bench",
    "cohort_page",
    "cohort_plan",
    "cohort_run",
    "cohort_status",
    "demo",
    "export_commands",
    "figure",
    "fuse",
    "inspect",
    "main",
    "score",
    "send",
    "train",
    "verify",
    "warm_up",
]


def main() -> None:
    """Run the command."""
    prepare_streams()
    # Leave as on Ctrl-C, so that nothing half-written stays behind; under nohup, a hang-up stays ignored.
    for each in ENDING_SIGNALS:
        if signal.getsignal(each) is signal.SIG_DFL:
            signal.signal(each, lambda number, _: sys.exit(128 + number))
    app()
