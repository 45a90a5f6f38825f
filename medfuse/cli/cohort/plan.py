"""Say what would be fused with what, and why: ``medfuse cohort plan``."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medfuse.cli.cohort.app import cohort_app
from medfuse.cli.console import EXIT_CODES, EXIT_FAULTS, Json, Overwrite, print_json, refusing, stdout
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.values import that_is_there
from medfuse.cli.streams import printable
from medfuse.errors import counted
from medfuse.provenance import DISCLAIMER

if TYPE_CHECKING:
    from medfuse.cohort import LeftOut, Plan, PlannedFusion

SUFFIXES = (".csv", ".tsv")

MOST_SHOWN = 40
"""Left-out series that are listed one by one; of more, the reasons are counted."""


@cohort_app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def plan(
    source: Annotated[
        Path,
        typer.Argument(
            help="A BIDS dataset, a folder of DICOM in any layout, or a manifest.", metavar="SOURCE", show_default=False
        ),
    ],
    rules: Annotated[
        Path | None,
        typer.Option(
            help="YAML file that says which MRI and which partner are chosen.", metavar="FILE", callback=that_is_there
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the plan as a manifest, which can be edited and run.", metavar="PLAN.csv")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Say what in SOURCE would be fused with what, and why, and why the rest would not. Writes nothing but --out.

    Ends with 0 where something is planned, and with 6 where rows of a manifest cannot be read, or nothing is planned.
    """
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"expected --out with one of {', '.join(SUFFIXES)}; found {out.suffix!r}.")
    from medfuse import cohort

    with refusing(as_json):
        if out is not None:
            require_apart((out,), {"SOURCE": source, "--rules": rules})
        found = cohort.plan(source, rules=rules)
        if out is not None:
            cohort.write_manifest(found, out, overwrite)
    if as_json:
        print_json(_summary(found, source, out))
    else:
        _print(found, out)
    if found.faults or not found.rows:
        raise typer.Exit(EXIT_FAULTS)


def _summary(found: Plan, source: Path, out: Path | None) -> dict[str, Any]:
    """The plan in the words of ``--json``."""
    return {
        "source": str(source),
        "out": str(out) if out else None,
        "counts": {"planned": len(found.rows), "left_out": len(found.left_out), "faults": len(found.faults)},
        "planned": [
            asdict(row) | {"mri": [str(path) for path in row.mri], "partner": [str(path) for path in row.partner]}
            for row in found.rows
        ],
        "left_out": [asdict(one) | {"paths": [str(path) for path in one.paths]} for one in found.left_out],
        "faults": [asdict(fault) for fault in found.faults],
        "disclaimer": DISCLAIMER,
    }


def _print(found: Plan, out: Path | None) -> None:
    from rich.table import Table

    if found.rows:
        table = Table("fusion", "what with what, and why", show_lines=True)
        for row in found.rows:
            table.add_row(row.name, _explained(row, found.source))
        stdout.print(table, highlight=False, markup=False)
    if found.left_out:
        table = Table("left out", "why")
        for first, second in _left_out(found.left_out):
            table.add_row(first, second)
        stdout.print(table, highlight=False, markup=False)
    for fault in found.faults:
        _say(fault.message)
    subjects = len({row.subject for row in found.rows})
    faults = f", {counted(len(found.faults), 'row')} that cannot be" if found.faults else ""
    _say(
        f"{counted(len(found.rows), 'fusion')} of {counted(subjects, 'subject')} planned{faults}; "
        f"{len(found.left_out)} left out."
    )
    if out is not None:
        _say(f"The plan is in {out}; edit it, and run it with medfuse cohort run.")
    stdout.print(DISCLAIMER, style="dim")


def _explained(row: PlannedFusion, source: Path) -> Any:
    """Where the two lie, and the reason, a line for each part of it."""
    from rich.text import Text

    places = " + ".join(_place(paths, source) for paths in (row.mri, row.partner))
    parts = [part for part in row.reason.split("; ") if part]
    return Text("\n".join(map(printable, (places, *parts))))


def _place(paths: tuple[Path, ...], source: Path) -> str:
    """A path below the source, or the folder of several files and their number."""
    if len(paths) > 1:
        return f"{_below(Path(os.path.commonpath(paths)), source)} ({counted(len(paths), 'file')})"
    return _below(paths[0], source)


def _below(path: Path, source: Path) -> str:
    folder = source.absolute() if source.is_dir() else source.absolute().parent
    return str(path.relative_to(folder)) if path.is_relative_to(folder) and path != folder else str(path)


def _left_out(series: tuple[LeftOut, ...]) -> list[tuple[Any, Any]]:
    """Each series with its reason, or, of many, how many have each reason."""
    from rich.text import Text

    if len(series) <= MOST_SHOWN:
        rows = [(" ".join(filter(None, (_owner(one), one.series))), one.reason) for one in series]
    else:
        reasons = Counter(one.reason for one in series)
        rows = [(str(count), reason) for reason, count in reasons.most_common(MOST_SHOWN)]
        rows += [("…", "and others; --json lists each")]
    return [(Text(printable(first)), Text(printable(second))) for first, second in rows]


def _owner(one: LeftOut) -> str:
    return "_".join(f"{entity}-{label}" for entity, label in (("sub", one.subject), ("ses", one.session)) if label)


def _say(sentence: str) -> None:
    stdout.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)
