"""Group the commands that export a network: ``medfuse export``."""

from __future__ import annotations

import typer

from medfuse.cli.console import EXIT_CODES, app

export_app = typer.Typer(
    help="Write a fusion network for other programs: ONNX, torch.export, MONAI bundle.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(export_app, name="export")
