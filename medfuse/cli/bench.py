"""Time the engines on this machine: ``medfuse bench``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, print_json, refusing, stdout, steps
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.fusion import Weights
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.values import all_there
from medfuse.errors import counted
from medfuse.runtime.json_text import json_text
from medfuse.runtime.output.atomic_output import atomic_entries

OWNED = ("bench.json", "bench.png")


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def bench(
    engines: Annotated[
        str | None, typer.Option(help="Names of engines, separated by commas; by default all that run here.")
    ] = None,
    weights: Weights = "default",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "cpu",
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often each engine is timed, in turns with the others.")
    ] = 5,
    coarsen: Annotated[
        float, typer.Option(min=1, max=16, help="Factor on the voxel sizes of the phantom study; 1 is a full study.")
    ] = 2.0,
    pictures: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="An aligned MRI and partner to time instead of a slice of the phantom.",
            metavar="MRI PARTNER",
            callback=all_there,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for bench.json and bench.png.")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Time every engine on this machine: one slice, larger slices and batches, and a whole study step by step."""
    from medfuse.bench.engines import bench as measure
    from medfuse.report import figures

    with refusing(as_json), steps() as progress:
        names = engines.split(",") if engines else None
        if out is not None:
            given = dict(zip(("--pictures MRI", "--pictures PARTNER"), pictures or (), strict=False))
            require_apart([out / name for name in OWNED], {"--weights": Path(weights), **given})
        with nullcontext() if out is None else atomic_entries(out, overwrite, OWNED) as folder:
            found = measure(
                names,
                weights=weights,
                device=device,
                rounds=rounds,
                coarsen=coarsen,
                pictures=pictures,
                progress=progress,
            )
            if folder is not None:
                (folder / "bench.json").write_text(json_text(found, indent=1) + "\n")
                (folder / "bench.png").write_bytes(figures.bench_picture(found))
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    from medfuse.bench.engines import PUBLISHED

    baseline = found["slice"][PUBLISHED]
    size = " × ".join(str(side) for side in reversed(found["matrix"]))
    columns = "engine", "ms a slice", "times", "processor ms", "times", "black air, ms", "times", "largest difference"
    table = Table(*columns, title=size)
    for name, row in found["slice"].items():
        black = found["black_air"][name]["seconds"]
        difference = row.get("largest_difference")
        table.add_row(
            name,
            f"{1000 * row['seconds']:.1f}",
            f"{baseline['seconds'] / row['seconds']:.1f}×",
            f"{1000 * row['processor_seconds']:.1f}",
            f"{baseline['processor_seconds'] / row['processor_seconds']:.1f}×",
            f"{1000 * black:.1f}",
            f"{found['black_air'][PUBLISHED]['seconds'] / black:.1f}×",
            "" if difference is None else f"{difference:.1e}",
        )
    stdout.print(table)
    table = Table("engine", "slices", "ms a slice", "processor ms", "working MiB", title="volumes of more slices")
    for row in found["stacks"]:
        each = (1000 * row[clock] / row["slices"] for clock in ("seconds", "processor_seconds"))
        working = "" if row["working_mib"] is None else f"{row['working_mib']:.0f}"
        table.add_row(row["engine"], str(row["slices"]), *(f"{spent:.1f}" for spent in each), working)
    stdout.print(table)
    studies = found["study"]
    stages = list(studies[0]["seconds"])
    table = Table(
        "engine", *stages, "total s", "peak MiB", title=f"study of {counted(studies[0]['slices'], 'slice')}, seconds"
    )
    for row in studies:
        cells = (f"{row['seconds'].get(stage, 0):.1f}" for stage in stages)
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        table.add_row(row["engine"], *cells, f"{row['total_seconds']:.1f}", peak)
    stdout.print(table)
    work = found["work"]
    for name, gflop in work["gflop"].items():
        stdout.print(f"{name:20} {gflop:6.1f} GFLOP a slice", highlight=False)
    for kind, rate in work["matmul_gflop_per_second"].items():
        stdout.print(f"matrix product, {kind:9} {rate:6.0f} GFLOP/s", highlight=False)
