"""Run a cohort and print what became of each study: ``medfuse cohort run``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from medfuse.cli.cohort.app import cohort_app
from medfuse.cli.cohort.progress import counted_by_result, showing, tell
from medfuse.cli.console import EXIT_CODES, EXIT_NOT_COMPLETE, Json, print_json, refusing, refusing_options, stdout
from medfuse.cli.options.choices import Way
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.values import that_is_there

RatedName = Enum("RatedName", {name: name for name in ("accepted", "doubtful", "rejected")}, type=str)  # type: ignore[misc]
"""How results may be rated, of which studies are chosen."""


@cohort_app.command("run", cls=CheckedCommand, epilog=EXIT_CODES)
def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE|PLAN.csv",
            help="A BIDS dataset, a tree of DICOM, or a plan that `medfuse cohort plan --out` wrote.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for results and ledger.", show_default=False)],
    workers: Annotated[
        int, typer.Option(min=0, help="Processes on this machine; 0 for as many as cores and memory allow.")
    ] = 0,
    memory: Annotated[
        str, typer.Option(help="The most that a worker takes, such as 8GiB; by default its share.", metavar="BYTES")
    ] = "",
    scheduler: Annotated[
        str, typer.Option(help="Address of a Dask scheduler whose workers do the studies.", metavar="tcp://HOST:PORT")
    ] = "",
    shard: Annotated[
        str, typer.Option(help="Do only every N-th study, from the I-th: for job arrays.", metavar="I/N")
    ] = "1/1",
    settings: Annotated[
        Path | None, typer.Option(help="YAML file of settings for all studies.", metavar="FILE", callback=that_is_there)
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="YAML file of the rules by which SOURCE is planned.", metavar="FILE", callback=that_is_there),
    ] = None,
    only: Annotated[
        list[RatedName] | None,
        typer.Option(help="Run only studies whose results were rated so; may be given more than once."),
    ] = None,
    ratings: Annotated[
        Path | None,
        typer.Option(help="With --only: what the cohort's page saved; by default DIR/ratings.tsv.", metavar="FILE.tsv"),
    ] = None,
    align: Annotated[
        Way | None, typer.Option(help="With --only: align these studies so, now and when the cohort is run again.")
    ] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write DICOM series, too.")] = False,
    as_json: Json = False,
) -> None:
    """Fuse every study of SOURCE, each once. The same command goes on where it was interrupted."""
    if scheduler and workers:
        raise typer.BadParameter("give --scheduler or --workers, not both: the scheduler has workers of its own.")
    if not only and (ratings is not None or align is not None):
        raise typer.BadParameter(
            "expected --only with --ratings or --align, found none; add --only rejected; --settings says how "
            "all studies are aligned."
        )
    with refusing(as_json):
        from medfuse.cohort.running.run import require_dask

        require_dask()
        from medfuse import cohort
        from medfuse.cohort.running.children import bytes_of
        from medfuse.cohort.running.ledger import Ledger, Tail
        from medfuse.cohort.running.ratings import Only
        from medfuse.cohort.running.run import Shard, run_plan
        from medfuse.cohort.running.settings import Settings
        from medfuse.cohort.running.where import Where

        with refusing_options():
            part = Shard.parse(shard)
            where = Where(scheduler=scheduler, workers=workers, memory=bytes_of(memory) if memory else 0)
        chosen = (Settings.read(settings) if settings else Settings()).with_dicom(dicom)
        plan = cohort.plan(source, rules=rules)
        names = part.of_names([*(row.name for row in plan.rows), *(fault.name for fault in plan.faults)])
        selected = Only.of([one.value for one in only or ()], ratings, align.value if align else "")
        if selected:
            rated = selected.names(out, Ledger(out).read())
            names = [name for name in names if name in rated]
        with showing(len(names), Tail(out)) as shown:
            for outcome in run_plan(
                plan.rows, plan.faults, out, settings=chosen, where=where, shard=part, only=selected
            ):
                tell(shown, outcome)
    counts = counted_by_result(shown.ended)
    complete = all(outcome.complete for outcome in shown.ended) and len(shown.ended) == len(names)
    if as_json:
        print_json(
            {
                "out": str(out),
                "planned": len(names),
                "counts": dict(counts),
                "complete": complete,
                "studies": [_described(outcome) for outcome in shown.ended],
            }
        )
    else:
        said = ", ".join(f"{count} {result}" for result, count in counts.items() if count) or "nothing to do"
        stdout.print(f"{len(shown.ended)} of {len(names)} studies: {said}", highlight=False, soft_wrap=True)
        if names:
            stdout.print(_where(out), highlight=False, markup=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(EXIT_NOT_COMPLETE)


def _where(out: Path) -> str:
    """Where the outcomes can be looked at; the page may be of an earlier moment, where there was no space."""
    table, page, ledger = (out / name for name in ("cohort.tsv", "index.html", "ledger.jsonl"))
    if page.exists() and page.stat().st_mtime_ns >= ledger.stat().st_mtime_ns:
        return f"{table} has a row for each; {page} shows them"
    return (
        f"{page} is older than the ledger: others still run, or there was no space; renew it: medfuse cohort page {out}"
    )


def _described(outcome: Any) -> dict[str, Any]:
    return {
        "study": outcome.study,
        "result": outcome.result,
        "message": outcome.message,
        "log": outcome.log or None,
        **({"row": dict(outcome.row)} if outcome.row else {}),
    }
