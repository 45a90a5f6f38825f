"""Make the two studies of a phantom patient, with the true map between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor

from medfuse.dicom.simulate import write_acquisition
from medfuse.phantom.head import Head
from medfuse.phantom.scanner import default_grid, default_pose, render
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import MRI, Modality

Matrix = npt.NDArray[np.float64]

MRI_SERIES, PARTNER_SERIES = 2, 3


@dataclass(frozen=True, eq=False)
class PhantomStudy:
    """An MRI and its partner, not aligned.

    Parameters
    ----------
    mri, partner
        (1, X, Y, Z) volumes on grids of their own, each in its own scanner's world.
    truth
        (4, 4) rigid map from the MRI's world to the partner's, fixed → moving, RAS+ mm: what registration should find.
    landmarks
        (3,) positions in the MRI's world by name, RAS+ mm: ``lesion`` (only the partner shows it), ``marker`` (on the
        left of the scalp, in MR and CT), ``left eye``, ``right eye``.
    seed
        What the head and the noise were drawn from.
    """

    mri: MetaTensor
    partner: MetaTensor
    truth: Matrix
    landmarks: dict[str, Matrix] = field(repr=False)
    seed: int

    def write_dicom(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write ``folder/mri`` and ``folder/partner``: two series of one study, in two frames of reference.

        Parameters
        ----------
        folder
            Holds the two; made if missing.
        overwrite
            Whether the two are replaced where they exist.

        Raises
        ------
        ExportError
            If one of the two is taken or cannot be written.
        """
        for name, volume, number in (("mri", self.mri, MRI_SERIES), ("partner", self.partner, PARTNER_SERIES)):
            write_acquisition(volume, Path(folder) / name, study=self.seed, series_number=number, overwrite=overwrite)


@default_settings()
def phantom_study(partner: Modality = "PT", *, seed: int = 7, coarsen: float = 1.0) -> PhantomStudy:
    """Make an MRI and a partner study of the same digital head.

    Parameters
    ----------
    partner
        ``"CT"``, ``"PT"`` (FDG) or ``"NM"`` (HMPAO SPECT).
    seed
        Draws the head's irregularities and the noise; the same seed gives the same voxels.
    coarsen
        Factor on all voxel sizes; 3 renders in about a second, for tests.

    Examples
    --------
    >>> study = phantom_study("NM", coarsen=4)
    >>> study.partner.meta["unit"]
    'counts'
    """
    head = Head(seed)
    mri = render(head, MRI, default_grid(MRI, coarsen), seed=seed)
    other = render(head, partner, default_grid(partner, coarsen), seed=seed)
    mri_pose = default_pose(MRI)
    truth = default_pose(partner) @ np.linalg.inv(mri_pose)
    landmarks = {name: mri_pose[:3, :3] @ place + mri_pose[:3, 3] for name, place in head.landmarks.items()}
    return PhantomStudy(mri, other, truth, landmarks, seed)
