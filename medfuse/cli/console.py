"""Print results, progress and errors of every command, and turn errors into exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from medfuse.errors import DeviceError, ExportError, MedfuseError, RegistrationError
from medfuse.provenance import DISCLAIMER
from medfuse.runtime.progress import Progress

if TYPE_CHECKING:
    from medfuse.volume import Grid

EXIT_USAGE, EXIT_INPUT, EXIT_NOT_ALIGNED, EXIT_EXPORT, EXIT_FAULTS, EXIT_NOT_SENT = 2, 3, 4, 5, 6, 7

EXIT_CODES = (
    "Exit codes: 0 done · 2 usage · 3 input refused · 4 not aligned · 5 export failed · 6 faults found · "
    "7 not everything sent."
)

app = typer.Typer(
    help=f"Fuse an MRI with its CT, PET or SPECT. {DISCLAIMER}",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local values, which may be a patient's
)

stdout = Console()
stderr = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")]


def print_json(found: dict[str, Any]) -> None:
    """Print what a command found as one JSON object."""
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


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
def refusing(as_json: bool) -> Iterator[None]:
    """Turn medfuse's errors into one sentence on standard error and an exit code."""
    try:
        yield
    except MedfuseError as error:
        _refuse(error, as_json)


EXITS = {RegistrationError: EXIT_NOT_ALIGNED, ExportError: EXIT_EXPORT, DeviceError: EXIT_USAGE}
"""Which exit code an error becomes; `EXIT_INPUT` where it is none of these."""


def _refuse(error: MedfuseError, as_json: bool) -> NoReturn:
    code = next((code for kind, code in EXITS.items() if isinstance(error, kind)), EXIT_INPUT)
    if as_json:
        failure: dict[str, object] = {"error": {"kind": type(error).__name__, "message": str(error), "exit_code": code}}
        if isinstance(error, RegistrationError) and error.found is not None:
            failure["refused"] = error.found
        print_json(failure)
    stderr.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)
