"""Compile the engine before it is needed: ``medfuse warm-up``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from medfuse.cli.console import EXIT_CODES, Json, app, print_json, refusing, stdout, steps
from medfuse.cli.options.command import CheckedCommand
from medfuse.gesenet.engines import AUTO, ENGINE_NAMES


@app.command("warm-up", cls=CheckedCommand, epilog=EXIT_CODES)
def warm_up(
    engine: Annotated[str, typer.Option(help=f"auto, {', '.join(ENGINE_NAMES)}.")] = AUTO,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Compile the engine and keep its code on disk, so that later runs start at once: for containers and workers."""
    from medfuse.errors import ExportError
    from medfuse.gesenet.engines.registry import ENGINES, compiled_code_folder, load_engine

    with refusing(as_json), steps() as progress:
        started = time.perf_counter()
        ready = load_engine(engine, device, progress=progress)
        seconds = time.perf_counter() - started
        folder = compiled_code_folder(ready.name)
        if folder is None and ENGINES[ready.name].compiled_by:
            raise ExportError("no folder takes the compiled code, so every run compiles; name one in NUMBA_CACHE_DIR.")
    found = {
        "engine": ready.name,
        "device": str(ready.device),
        "seconds": round(seconds, 2),
        "cache": None if folder is None else str(folder),
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        stdout.print(f"{name:8} {'nothing to keep' if value is None else value}", highlight=False, soft_wrap=True)
