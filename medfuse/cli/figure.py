"""Draw slices of a pair and of its fusion as a figure for papers: ``medfuse figure``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import medfuse
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, print_json, refusing, stdout, steps
from medfuse.cli.options.choices import (
    DifferentPatients,
    Force,
    JoinName,
    MethodName,
    PartnerOption,
    PlaneName,
    Way,
    method_given,
)
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.options.fusion import (
    AlignHow,
    Device,
    Join,
    MriPath,
    MriSeries,
    PaletteName,
    PartnerPath,
    PartnerSeries,
    Weights,
    WindowShown,
    alignment_given,
    alignment_of,
    load_pair,
)
from medfuse.cli.options.inputs import require_apart
from medfuse.cli.options.pair import chosen_pair
from medfuse.errors import GeometryError
from medfuse.gesenet.engines import AUTO
from medfuse.gesenet.weights import DEFAULT
from medfuse.methods.names import GESENET
from medfuse.provenance import DISCLAIMER
from medfuse.report.figure_names import COLUMNS, FIGURE_PLANES, SUFFIXES, VIEWS
from medfuse.runtime.output.atomic_output import require_file_place

if TYPE_CHECKING:
    from medfuse.report.figure_names import Column

FigurePlaneName = Enum("FigurePlaneName", {name: name for name in FIGURE_PLANES}, type=str)  # type: ignore[misc]
"""Planes whose slices a figure shows."""
AXIAL = FigurePlaneName("axial")

ViewName = Enum("ViewName", {name: name for name in VIEWS}, type=str)  # type: ignore[misc]
"""Where the patient's left is."""
RADIOLOGICAL = ViewName("radiological")


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def figure(
    mri: MriPath,
    out: Annotated[Path, typer.Option("--out", help=f"File: {', '.join(SUFFIXES)}.", show_default=False)],
    partner: PartnerPath = None,
    slices: Annotated[
        str,
        typer.Option(
            help="How many, evenly spaced; or their numbers in the plane, from 0, as 40,52,64.", metavar="N,…"
        ),
    ] = "3",
    plane: Annotated[
        FigurePlaneName, typer.Option(help="Which slices; orthogonal: one of each plane through one point.")
    ] = AXIAL,
    at: Annotated[
        str | None, typer.Option(help="Draw the slice through this point, and mark it: mm, RAS+.", metavar="X,Y,Z")
    ] = None,
    columns: Annotated[str, typer.Option(help=f"Which of {', '.join(COLUMNS)}.", metavar="NAME,…")] = ",".join(COLUMNS),
    view: Annotated[ViewName, typer.Option(help="radiological: the patient's left on the right.")] = RADIOLOGICAL,
    dark: Annotated[bool, typer.Option("--dark", help="White on black.")] = False,
    dpi: Annotated[int, typer.Option(min=30, max=1200, help="Dots an inch of a PNG.")] = 300,
    modality: PartnerOption = None,
    align: AlignHow = "auto",
    force: Force = False,
    window: WindowShown = None,
    palette: PaletteName = None,
    join: Join = JoinName.OKLAB,
    method: MethodName = GESENET,
    weights: Weights = DEFAULT,
    device: Device = "auto",
    mri_series: MriSeries = None,
    partner_series: PartnerSeries = None,
    different_patients: DifferentPatients = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw MRI, PARTNER and their fusion with letters, positions, scale bar and colour bars."""
    from medfuse.pipeline.figure import require_shown

    method_given(method, weights=weights, engine=AUTO, join=join)
    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"expected --out with {', '.join(SUFFIXES)} at its end; found {out.name!r}.")
    numbers, point = _whole_numbers(slices), _point(at)
    with refusing(as_json), steps() as progress:
        given = {"MRI": mri, "PARTNER": partner}
        given |= {"--align": Path(align)} if align not in list(Way) else {}
        require_apart([out], given)
        require_file_place(out, overwrite)
        named = modality and modality.value
        pair = chosen_pair(mri, partner, mri_series, partner_series, named, (False, False))
        alignment = alignment_given(align)
        loaded, other = load_pair(pair, named, (None, None), False, (False, False), progress)
        shown = cast("list[Column]", columns.split(","))
        with _wrong_usage():  # before the pair is aligned, which takes longest
            require_shown(loaded, numbers, plane=plane.value, columns=shown, at=point, view=view.value)
        study = medfuse.fuse(
            loaded,
            other,
            method=method,
            align=alignment_of(alignment, loaded, other),
            force=force,
            window=window,
            palette=palette,
            join=join.value,
            plane=PlaneName.NATIVE.value,
            weights=weights,
            device=device,
            different_patients=different_patients,
            lazy=True,
            progress=progress,
        )
        drawn = study.figure(numbers, plane=plane.value, columns=shown, at=point, view=view.value, dark=dark)
        study.write_figure(out, drawn, overwrite=overwrite, dpi=dpi)
    if as_json:
        print_json({"out": str(out), "alignment": study.provenance.alignment, "disclaimer": DISCLAIMER})
        return
    stdout.print(f"{out}: {study.provenance.alignment}", highlight=False, markup=False, soft_wrap=True)
    stdout.print(DISCLAIMER, style="dim")


@contextmanager
def _wrong_usage() -> Iterator[None]:
    """Turn what the MRI has no slice, point or column for into a usage error, which says what it has."""
    try:
        yield
    except GeometryError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _whole_numbers(text: str) -> int | list[int]:
    """A count, or, with commas, numbers of slices."""
    try:
        numbers = [int(each) for each in text.split(",") if each.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise typer.BadParameter(f"expected --slices as a count or as numbers such as 40,52; found {text[:40]!r}.")
    return numbers[0] if len(numbers) == 1 and "," not in text else numbers


def _point(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        x, y, z = (float(each) for each in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"expected --at as X,Y,Z in mm, RAS+; found {text[:40]!r}.") from None
    return [x, y, z]
