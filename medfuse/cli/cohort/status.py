"""Print what became of each study of a cohort: ``medfuse cohort status``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medfuse.cli.cohort.app import cohort_app
from medfuse.cli.console import EXIT_CODES, EXIT_NOT_COMPLETE, Json, print_json, refusing, stdout
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.streams import printable

if TYPE_CHECKING:
    from medfuse.cohort import Status

OUTCOMES = {
    "done": "done",
    "skipped": "done before, and nothing has changed since",
    "refused": "medfuse refuses its inputs; the sentence says why",
    "failed": "something else went wrong; the log says what",
    "killed": "its process ended: memory, a signal, or a lost worker",
    "running": "a process works on it now",
    "interrupted": "a process that is no more had begun it",
    "waiting": "nobody has begun it",
}


@cohort_app.command("status", cls=CheckedCommand, epilog=EXIT_CODES)
def status(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What was --out of `medfuse cohort run`.", show_default=False)
    ],
    ratings: Annotated[
        Path | None,
        typer.Option(
            help="Ratings that the cohort's page saved; by default DIR/ratings.tsv, if it is there.", metavar="FILE.tsv"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how many studies of DIR are done, running, refused and so on, and how they were rated, at any time."""
    with refusing(as_json):
        from medfuse.cohort.running.status import read_status

        found = read_status(folder, ratings)
    if as_json:
        print_json(found.to_dict())
    else:
        from rich.table import Table

        table = Table("outcome", "studies", "meaning")
        for state, count in found.counts.items():
            table.add_row(state, str(count), OUTCOMES[state], style=None if count else "dim")
        table.add_section()
        table.add_row("planned", str(found.planned), "")
        stdout.print(table)
        for study in found.studies:
            if study["state"] not in ("done", "skipped", "waiting"):
                log = f" (log: {study['log']})" if study["log"] else ""
                text = f"{study['state']}: {study['study']}{': ' * bool(study['message'])}{study['message']}{log}"
                stdout.print(printable(text), highlight=False, markup=False, soft_wrap=True)
        if found.ratings:
            _print_ratings(found)
    if not found.complete:
        raise typer.Exit(EXIT_NOT_COMPLETE)


def _print_ratings(found: Status) -> None:
    """How many results were rated how, what people say of those that they do not accept, and rows that say nothing."""
    from rich.table import Table

    assert found.ratings is not None
    table = Table("rating", "studies")
    for word, count in found.ratings.counts([study["study"] for study in found.studies]).items():
        table.add_row(word, str(count), style=None if count else "dim")
    stdout.print(table)
    told = [
        f"{study['rating']}: {study['study']}{': ' * bool(study['comment'])}{study['comment']}"
        for study in found.studies
        if study.get("rating") in ("doubtful", "reject")
    ]
    told += [f"rated before it was done anew: {study}" for study in found.ratings.outdated]
    told += [f"{found.ratings.path.name}, {fault}" for fault in found.ratings.faults]
    for text in told:
        stdout.print(printable(text), highlight=False, markup=False, soft_wrap=True)
