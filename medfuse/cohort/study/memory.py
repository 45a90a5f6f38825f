"""Predict from headers how much memory a fusion takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medfuse import nifti
from medfuse.cohort.running.request import Request
from medfuse.dicom.scanning.sizes import Size, series_size
from medfuse.volume.modality import PARTNERS

BASE_BYTES = 900 * 2**20
"""Python with its libraries, the network, and the search of a registration."""

MRI_BYTES, PARTNER_BYTES = 48, 32
"""For each voxel: as stored, as float32, resampled, fused, and compressed."""

SLICE_BYTES = 4 * 500
"""For each pixel of a slice, four of which the network takes at once with its features."""


@dataclass(frozen=True)
class Prediction:
    """What headers say of a fusion: the bytes that it takes at most, and the partner's modality, if they say it."""

    memory: int
    modality: str


def predict(request: Request) -> Prediction:
    """Predict a fusion's memory from the headers of its inputs; raises as `medfuse.load` where there are none."""
    mri = _size(request.mri, request.mri_series)
    partner = _size(request.partner, request.partner_series)
    memory = BASE_BYTES + MRI_BYTES * mri.voxels + PARTNER_BYTES * partner.voxels + SLICE_BYTES * mri.slice_pixels
    return Prediction(memory, request.modality or (partner.modality if partner.modality in PARTNERS else ""))


def _size(paths: tuple[str, ...], series: str) -> Size:
    if len(paths) == 1 and nifti.is_nifti(paths[0]):
        shape = sorted(nifti.read_size(paths[0])[0])
        return Size(math.prod(shape), math.prod(shape[-2:]))
    return series_size(paths, series)
