"""The command: argument parsing, progress, exit codes, and nothing else."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import medfuse
from medfuse import dicom, nifti
from medfuse.dicom.palettes import PALETTES
from medfuse.errors import DeviceError, ExportError, MedfuseError, RegistrationError, SeriesError
from medfuse.export import require_outside, whole_entries
from medfuse.fusion import Align, FusedStudy
from medfuse.fusion import Progress as Tell
from medfuse.grid import Grid
from medfuse.intensity import CT_WINDOWS_HU
from medfuse.phantom import phantom_study
from medfuse.provenance import DISCLAIMER
from medfuse.volume import Modality, grid_of

RESULTS = ("dicom", "fused.nii.gz", "fused.json", "dataset_description.json")

EXIT_USAGE, EXIT_INPUT, EXIT_NOT_ALIGNED, EXIT_EXPORT = 2, 3, 4, 5

EXIT_CODES = "Exit codes: 0 done · 2 usage · 3 input refused · 4 not aligned · 5 export failed."

app = typer.Typer(
    help=f"Fuse an MRI with its CT, PET or SPECT. {DISCLAIMER}",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local values, which may be a patient's
)

stdout = Console()
stderr = Console(stderr=True)


class Format(str, Enum):
    """What `fuse` writes."""

    DICOM = "dicom"
    NIFTI = "nifti"
    BOTH = "both"


class PlaneName(str, Enum):
    """Which slices are fused."""

    NATIVE = "native"
    AXIAL = "axial"
    CORONAL = "coronal"
    SAGITTAL = "sagittal"


class PartnerModality(str, Enum):
    """What the partner study is."""

    CT = "CT"
    PT = "PT"
    NM = "NM"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are there already.")]


@app.command(epilog=EXIT_CODES)
def fuse(
    mri: Annotated[Path, typer.Argument(help="The MRI: a DICOM folder or a NIfTI file.", show_default=False)],
    partner: Annotated[Path, typer.Argument(help="Its CT, PET or SPECT, likewise.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.", show_default=False)],
    format_: Annotated[Format, typer.Option("--format", help="What to write.")] = Format.BOTH,
    modality: Annotated[
        PartnerModality | None, typer.Option(help="The partner's modality; needed where it is NIfTI.")
    ] = None,
    align: Annotated[
        str, typer.Option(help="auto, header, rigid, or a registration FILE (.tfm, .txt).", metavar="HOW")
    ] = "auto",
    window: Annotated[
        str | None,
        typer.Option(
            help=f"Partner values shown: LEVEL,WIDTH, a largest value, or, for CT, one of {', '.join(CT_WINDOWS_HU)}."
        ),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(help=f"Colours of the partner: {', '.join(PALETTES)}. PET and SPECT: hot-iron; CT: none."),
    ] = None,
    plane: Annotated[PlaneName, typer.Option(help="Slices to fuse and write.")] = PlaneName.NATIVE,
    weights: Annotated[str, typer.Option(help="default, or a weights file.", metavar="FILE")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Slices at once; halved where memory runs out.")] = 4,
    mri_series: Annotated[
        str | None, typer.Option(help="Number or UID of the MRI series, where the folder holds several.")
    ] = None,
    partner_series: Annotated[str | None, typer.Option(help="The same for the partner.")] = None,
    different_patients: Annotated[
        bool, typer.Option("--different-patients", help="Accept headers that name different patients.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Fuse MRI and PARTNER into OUT/dicom/*.dcm and OUT/fused.nii.gz with OUT/fused.json."""
    with refusing(as_json), steps() as tell:
        started = time.perf_counter()
        alignment = _alignment(align)
        for entry in RESULTS:
            require_outside(out / entry, [mri, partner])
        with whole_entries(out, overwrite, RESULTS) as folder:
            mri_volume = medfuse.load(
                mri, "MR" if nifti.is_nifti(mri) else None, mri_series, progress=partial(tell, "MRI")
            )
            partner_volume = medfuse.load(
                partner,
                cast("Modality | None", modality and modality.value),
                partner_series,
                progress=partial(tell, "partner"),
            )
            if format_ is not Format.NIFTI and plane is PlaneName.NATIVE:
                dicom.require_slices(grid_of(mri_volume))  # before the minutes of fusion, not after
            study = medfuse.fuse(
                mri_volume,
                partner_volume,
                align=alignment,
                window=window,
                palette=palette,
                plane=plane.value,
                weights=weights,
                device=device,
                batch_size=batch_size,
                different_patients=different_patients,
                progress=tell,
            )
            _write(study, folder, format_, tell)
        result = _summary(study, out, format_) | {"seconds": round(time.perf_counter() - started, 2)}
    _report(result, as_json)


@app.command(epilog=EXIT_CODES)
def inspect(
    path: Annotated[Path, typer.Argument(help="A folder, or a DICOM or NIfTI file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """List the series under PATH, their geometry, and what is wrong with them."""
    with refusing(as_json):
        rows, ignored, damaged = _inspect_nifti(path) if nifti.is_nifti(path) else _inspect_dicom(path)
    if as_json:
        sys.stdout.write(
            json.dumps(
                {"path": str(path), "series": rows, "ignored_files": ignored, "damaged_files": damaged}, indent=2
            )
            + "\n"
        )
        return
    table = Table("series", "modality", "files", "size", "spacing (mm)", "axes", "verdict")
    problems = []
    for row in rows:
        size = " × ".join(map(str, row["shape"] or ())) or "–"
        spacing = " × ".join(f"{length:.3g}" for length in row["spacing_mm"] or ()) or "–"
        verdict = "volume"
        if row["problem"] is not None:
            problems.append(row["problem"])
            verdict = f"no volume ({len(problems)})"
        table.add_row(
            escape(str(row["number"])),
            escape(row["modality"]),
            str(row["files"]),
            size,
            spacing,
            row["axes"] or "–",
            verdict,
        )
    stdout.print(table)
    for number, problem in enumerate(problems, start=1):
        stdout.print(f"({number}) {problem}", highlight=False, markup=False)
    if ignored:
        stdout.print(f"{ignored} other files ignored")
    if damaged:
        stdout.print(f"{damaged} DICOM files cannot be read: cut short, damaged or locked")


@app.command(epilog=EXIT_CODES)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for study and results.")] = Path("medfuse-demo"),
    partner: Annotated[PartnerModality, typer.Option(help="Which partner to simulate.")] = PartnerModality.PT,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a phantom study, fuse it, and write DICOM, NIfTI and a picture into OUT."""
    owned = (*RESULTS, "study", "picture.png")
    with refusing(as_json), steps() as tell, whole_entries(out, overwrite, owned) as folder:
        tell("phantom", 0.0)
        phantom_study(partner.value).write_dicom(folder / "study")
        tell("phantom", 1.0)
        study = medfuse.fuse(
            medfuse.load(folder / "study" / "mri"), medfuse.load(folder / "study" / "partner"), progress=tell
        )
        _write(study, folder, Format.BOTH, tell)
        study.write_picture(folder / "picture.png")
    result = _summary(study, out, Format.BOTH)
    result |= {"study": str(out / "study"), "picture": str(out / "picture.png")}
    _report(result, as_json)


def _alignment(align: str) -> Align | medfuse.Registration:
    if align in ("auto", "header", "rigid"):
        return cast("Align", align)
    if not Path(align).is_file():
        raise typer.BadParameter(f"expected auto, header, rigid or a registration file; there is no file {align!r}.")
    return medfuse.Registration.load(Path(align))


def _write(study: FusedStudy, folder: Path, format_: Format, tell: Tell) -> None:
    if format_ in (Format.DICOM, Format.BOTH):
        study.write_dicom(folder / "dicom", progress=partial(tell, "write"))
    if format_ in (Format.NIFTI, Format.BOTH):
        study.write_nifti(folder / "fused.nii.gz")
        (folder / "dataset_description.json").write_text(json.dumps(nifti.dataset_description(), indent=2) + "\n")


def _summary(study: FusedStudy, out: Path, format_: Format) -> dict[str, Any]:
    grid = grid_of(study.image)
    written = {"out": str(out)}
    if format_ in (Format.DICOM, Format.BOTH):
        written["dicom"] = str(out / "dicom")
    if format_ in (Format.NIFTI, Format.BOTH):
        written |= {"nifti": str(out / "fused.nii.gz"), "sidecar": str(out / "fused.json")}
    return written | {"grid": _describe(grid), "provenance": study.provenance.to_dict()}


def _describe(grid: Grid | None) -> dict[str, Any]:
    if grid is None:
        return {"shape": None, "spacing_mm": None, "axes": None, "affine": None}
    return {
        "shape": list(grid.shape),
        "spacing_mm": [round(length, 6) for length in grid.spacing],
        "axes": grid.axcodes,
        "affine": grid.affine.tolist(),
    }


def _inspect_dicom(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    found = dicom.scan(path)
    if not found.series:
        raise SeriesError(
            f"expected DICOM series in {path}, found none among {found.ignored + found.damaged} files; check the path."
        )
    rows = []
    for series in found.series:
        row = {
            "number": series.number,
            "uid": series.uid,
            "modality": series.modality,
            "files": len(series.instances),
            "problem": series.problem,
        }
        rows.append(row | _describe(series.grid))
    return rows, found.ignored, found.damaged


def _inspect_nifti(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    row: dict[str, Any] = {"number": path.name, "uid": None, "modality": "not stated", "files": 1, "problem": None}
    grid = None
    try:
        grid = nifti.read_grid(path)
    except MedfuseError as error:
        row["problem"] = str(error)
    return [row | _describe(grid)], 0, 0


def _report(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return
    for name in ("study", "dicom", "nifti", "sidecar", "picture"):
        if name in result:
            stdout.print(f"{name:8} {result[name]}", soft_wrap=True, highlight=False, markup=False)
    registration = result["provenance"]["registration"]
    stdout.print(f"{'align':8} {registration['method']}", highlight=False)
    stdout.print(DISCLAIMER, style="dim")


@contextmanager
def steps() -> Iterator[Tell]:
    """Show one progress bar a step on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=stderr, disable=not stderr.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(step: str, share: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=share)

        yield tell


@contextmanager
def refusing(as_json: bool) -> Iterator[None]:
    """Turn medfuse's errors into one sentence on standard error and an exit code."""
    try:
        yield
    except MedfuseError as error:
        _refuse(error, as_json)


def _refuse(error: MedfuseError, as_json: bool) -> NoReturn:
    code = EXIT_INPUT
    if isinstance(error, RegistrationError):
        code = EXIT_NOT_ALIGNED
    elif isinstance(error, ExportError):
        code = EXIT_EXPORT
    elif isinstance(error, DeviceError):
        code = EXIT_USAGE
    if as_json:
        failure = {"error": {"kind": type(error).__name__, "message": str(error), "exit_code": code}}
        sys.stdout.write(json.dumps(failure, indent=2) + "\n")
    stderr.print(f"{type(error).__name__}: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def main() -> None:
    """Run the command."""
    # Leave as on Ctrl-C, so that nothing half-written stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    app()
