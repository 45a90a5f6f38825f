"""Check an export with every reader installed: ``medfuse verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfuse.cli.console import EXIT_CODES, EXIT_FAULTS, Json, app, print_json, refusing, stdout
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.values import all_there
from medfuse.errors import counted


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The export to check.", show_default=False)],
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a series it was made from; may be given several times.", metavar="DIR", callback=all_there
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Open DIR with every reader installed and say what each sees, what it loses, and what is wrong."""
    from medfuse.verify import verify as check

    with refusing(as_json):
        report = check(folder, source or ())
    if as_json:
        print_json(report.to_dict())
    else:
        from rich.table import Table

        table = Table("series", "kind", "reader", "verdict", "sees", "loses")
        for one in report.readings:
            table.add_row(one.series, one.kind, one.reader, one.verdict, one.detail, ", ".join(one.loses) or "–")
        stdout.print(table)
        for note in report.notes:
            stdout.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
        for fault in report.faults:
            stdout.print(f"fault: {fault}", style="red", highlight=False, markup=False, soft_wrap=True)
        stdout.print(counted(len(report.faults), "fault") if report.faults else "nothing is wrong", highlight=False)
    if not report.passed:
        raise typer.Exit(EXIT_FAULTS)
