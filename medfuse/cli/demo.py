"""Make a phantom study and fuse it, for people without a study at hand: ``medfuse demo``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

import medfuse
from medfuse.cli.console import EXIT_CODES, Json, Overwrite, app, refusing, stdout, steps
from medfuse.cli.options.choices import PARTNER_NAMES, DicomChoices, Format, PartnerModality, partner_named
from medfuse.cli.options.command import CheckedCommand
from medfuse.cli.output.results import RESULTS, print_result, summary, write_results
from medfuse.runtime.output.atomic_output import atomic_entries
from medfuse.runtime.progress import part_of


@app.command(cls=CheckedCommand, epilog=EXIT_CODES)
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for study and results.")] = Path("medfuse-demo"),
    partner: Annotated[
        PartnerModality,
        typer.Option(
            help="Which partner to simulate.", parser=partner_named, metavar=PARTNER_NAMES, show_default="PET"
        ),
    ] = PartnerModality["PT"],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a phantom study, fuse it, and write DICOM, NIfTI and a picture into OUT."""
    from medfuse import dicom
    from medfuse.phantom import phantom_study

    owned = (*RESULTS, "study", "picture.png")
    with refusing(as_json), steps() as progress, atomic_entries(out, overwrite, owned) as folder:
        progress("phantom", 0.0)
        phantom_study(partner.value).write_dicom(folder / "study")
        progress("phantom", 1.0)
        mri = medfuse.load(folder / "study" / "mri", progress=part_of(progress, 0, 0.5, "MRI"))
        other = medfuse.load(folder / "study" / "partner", progress=part_of(progress, 0.5, 1, "partner"))
        study = medfuse.fuse(mri, other, progress=progress)
        write_results(study, folder, Format.BOTH, progress, DicomChoices(dicom.DicomOptions()))
        study.write_picture(folder / "picture.png")
        written = [entry.name for entry in folder.iterdir()]
    print_result(summary(study, out, written), as_json)
    if not as_json:
        places = " ".join(quote(str(out / "study" / name)) for name in ("mri", "partner"))
        stdout.print(
            f"For a page to judge it by: medfuse fuse {places} --out {quote(str(out / 'fused'))} --report",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
