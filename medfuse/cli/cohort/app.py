"""Group the commands for cohorts: ``medfuse cohort``."""

from __future__ import annotations

import typer

from medfuse.cli.console import EXIT_CODES, app

cohort_app = typer.Typer(
    help="Plan the fusions of many studies, and why each; run them.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(cohort_app, name="cohort")
