"""Print results, progress and errors of every command, and turn errors into exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medfuse.cli.guard import EXIT_FAULTS, EXIT_NOT_COMPLETE, EXIT_NOT_SENT, GuardedGroup, report_refusal
from medfuse.cli.streams import print_json, stderr, stdout
from medfuse.errors import CohortError, ExportError, MedfuseError
from medfuse.provenance import DISCLAIMER, software
from medfuse.runtime.progress import Progress

if TYPE_CHECKING:
    from medfuse.volume import Grid

__all__ = [
    "EXIT_CODES",
    "EXIT_FAULTS",
    "EXIT_NOT_COMPLETE",
    "EXIT_NOT_SENT",
    "Json",
    "Overwrite",
    "app",
    "describe",
    "print_json",
    "refusing",
    "refusing_options",
    "stderr",
    "stdout",
    "steps",
]

EXIT_CODES = (
    "Exit codes: 0 done · 2 usage · 3 input refused · 4 not aligned, or the pictures cannot tell · 5 export failed · "
    "6 faults found · 7 not everything sent · 8 not every study done · 70 fault of medfuse · 74 output lost."
)

app = typer.Typer(
    cls=GuardedGroup,
    help=f"Fuse an MRI with its CT, PET or SPECT. {DISCLAIMER}",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local values, which may be a patient's
)


def _show_version(asked: bool) -> None:
    if asked:
        stdout.print(software(), highlight=False)
        raise typer.Exit


@app.callback()
def answer_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what is asked of medfuse itself, before any subcommand; the help is the application's own."""


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")]


def describe(grid: Grid | None) -> dict[str, Any]:
    """Say where a grid lies, in the words of ``--json``; None for what is no volume."""
    if grid is None:
        return {"shape": None, "spacing_mm": None, "axes": None, "centre_mm": None, "affine": None}
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(length, 6) for length in grid.spacing],
        "axes": grid.axcodes,
        "centre_mm": [round(float(place), 3) for place in grid.centre],
        "affine": grid.affine.tolist(),
    }


@contextmanager
def steps() -> Iterator[Progress]:
    """Show one progress bar a step on standard error, where that is a terminal; say everywhere what is compiled."""
    from rich import progress as rich

    done = (rich.TextColumn("{task.description:8}"), rich.BarColumn(), rich.TextColumn("{task.percentage:>3.0f}%"))
    times = (rich.TimeElapsedColumn(), rich.TextColumn("left"), rich.TimeRemainingColumn())
    note = rich.TextColumn("{task.fields[note]}")
    # Standard output is for results: what is written there must not end up among the bars.
    silent = not stderr.is_terminal
    with rich.Progress(*done, *times, note, console=stderr, redirect_stdout=False, disable=silent) as bars:
        tasks: dict[str, Any] = {}

        def tell(step: str, share: float, note: str = "") -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0, note="")
                if step == "compile":
                    stderr.print("compiling the engine for this machine, once: about 15 s", soft_wrap=True)
            bars.update(tasks[step], completed=share, note=note)

        yield tell


@contextmanager
def refusing_options() -> Iterator[None]:
    """Turn errors of what is asked for into wrong usage, where nothing was to be planned or written yet."""
    try:
        yield
    except (CohortError, ExportError) as error:
        raise typer.BadParameter(str(error)) from None


@contextmanager
def refusing(as_json: bool) -> Iterator[None]:
    """Turn medfuse's errors into one sentence on standard error and an exit code."""
    try:
        yield
    except MedfuseError as error:
        raise typer.Exit(report_refusal(error, as_json)) from None
