"""Choose what is fused where one folder is given that holds both the MRI and its partner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medfuse.cli.streams import stderr

if TYPE_CHECKING:
    from medfuse.dicom.scanning.find_files import Place


@dataclass(frozen=True)
class Pair:
    """Where the two studies lie, which series of each is meant, and why; no reason where the paths say it."""

    mri: Place
    partner: Place
    mri_series: str | None
    partner_series: str | None
    reason: str | None = None


def chosen_pair(
    mri: Path,
    partner: Path | None,
    mri_series: str | None,
    partner_series: str | None,
    modality: str | None,
    accepted: tuple[bool, bool],
) -> Pair:
    """The two studies that are meant: as given, or, in one folder without any series named, by the rules of cohorts.

    ``accepted`` holds whether gaps are filled, and whether cut series are taken.

    Raises
    ------
    typer.BadParameter
        If a NIfTI file is given without a partner.
    StudyError, SeriesError
        As of `medfuse.cohort.plan_study`.
    """
    from medfuse import cohort, nifti

    same = partner is None or (mri.exists() and partner.exists() and mri.samefile(partner))
    if partner is None and nifti.is_nifti(mri):
        raise typer.BadParameter(f"expected PARTNER beside {mri}, which is NIfTI and holds one volume; give it, too.")
    if not same or nifti.is_nifti(mri) or mri_series or partner_series:
        return Pair(mri, partner or mri, mri_series, partner_series)
    row, _ = cohort.plan_study(mri, modality, fill_gaps=accepted[0], accept_cut=accepted[1])
    stderr.print(f"fusing {row.reason}", highlight=False, markup=False, soft_wrap=True)
    return Pair(row.mri, row.partner, row.mri_series or None, row.partner_series or None, row.reason)
