"""Hold the commands of ``medfuse cohort``."""

from __future__ import annotations

import typer

from medfuse.cli.console import EXIT_CODES, app

cohort_app = typer.Typer(
    help="Fuse many studies: plan what is fused with what, run it, and see what became of each.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
)

app.add_typer(cohort_app, name="cohort")
