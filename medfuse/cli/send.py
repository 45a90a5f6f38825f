"""Send an export to an archive and print what became of every instance: ``medfuse send``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from medfuse.archive.destination import Destination
from medfuse.archive.transfer import CALLING_AET, Options
from medfuse.cli.console import (
    EXIT_CODES,
    EXIT_NOT_SENT,
    Json,
    app,
    print_json,
    refusing,
    refusing_options,
    stdout,
    steps,
)
from medfuse.cli.options.command import CheckedCommand
from medfuse.errors import counted


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def send(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The export to send.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="HOST:PORT or HOST:PORT/AET for C-STORE; https://… for STOW-RS.", show_default=False)
    ],
    retries: Annotated[int, typer.Option(min=0, help="How often failed instances are sent again.")] = 3,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to connect, or to send one instance and get its answer.")
    ] = 30.0,
    aet: Annotated[str, typer.Option(help="Our own application entity title, at most 16 characters.")] = CALLING_AET,
    tls: Annotated[bool, typer.Option("--tls", help="C-STORE over TLS.")] = False,
    ca: Annotated[Path | None, typer.Option(help="PEM file of authorities to trust.", metavar="FILE")] = None,
    as_json: Json = False,
) -> None:
    """Send DIR to an archive. The same command resumes an interrupted transfer."""
    with refusing_options():
        options = Options(aet, timeout, tls, ca)
        Destination.parse(to)
    from medfuse.archive.send import send as deliver

    with refusing(as_json), steps() as progress:
        delivery = deliver(folder, to, retries=retries, options=options, progress=progress)
    if as_json:
        print_json(delivery.to_dict())
    else:
        from rich.table import Table

        table = Table("series", "instances", "verdict")
        for uid, one in delivery.to_dict()["series"].items():
            verdict = "sent" if one["sent"] else f"not sent: {one['arrived']} of {one['instances']} arrived"
            table.add_row(uid, str(one["instances"]), verdict)
        stdout.print(table)
        # A lost connection fails every instance for the same reason: one line for all.
        alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for transfer in delivery.transfers:
            if transfer.status != "sent":
                alike[transfer.status, transfer.series, transfer.detail].append(transfer.number or "without number")
        for (status, series, detail), numbers in alike.items():
            which = f"instance {numbers[0]}" if len(numbers) == 1 else counted(len(numbers), "instance")
            text = f"{status}: {which} of {series}: {detail}"
            stdout.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    if not delivery.complete:
        raise typer.Exit(EXIT_NOT_SENT)
