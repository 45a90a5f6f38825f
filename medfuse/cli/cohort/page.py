"""Write the page of a cohort anew: ``medfuse cohort page``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medfuse.cli.cohort.app import cohort_app
from medfuse.cli.console import EXIT_CODES, Json, print_json, refusing, stdout
from medfuse.cli.options.command import CheckedCommand


@cohort_app.command("page", cls=CheckedCommand, epilog=EXIT_CODES)
def page(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="What was --out of `medfuse cohort run`.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Write DIR/index.html anew: every study, worst first, to be looked at and rated. `run` does it at its end."""
    with refusing(as_json):
        from medfuse.cohort.running.page import write_page

        path = write_page(folder)
    if as_json:
        print_json({"page": str(path)})
    else:
        stdout.print(f"{path} shows the cohort", highlight=False, markup=False, soft_wrap=True)
