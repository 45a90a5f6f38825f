"""Read and write through MONAI's `LoadImage` and `SaveImage`."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.data.image_writer import ImageWriter
from monai.data.meta_tensor import MetaTensor

from medfuse import dicom, load_study, nifti
from medfuse.errors import GeometryError, SeriesError
from medfuse.provenance import DISCLAIMER
from medfuse.volume import Modality, plain, source_of

Place = str | PathLike[Any]


def _one(places: Sequence[Place] | Place) -> Path | None:
    if isinstance(places, (str, PathLike)):
        return Path(places)
    return Path(places[0]) if len(places) == 1 else None


class StudyReader(ImageReader):
    """MONAI's `LoadImage` through `medfuse.load`: ``LoadImage(reader=StudyReader(modality="MR"))``."""

    def __init__(
        self,
        modality: Modality | None = None,
        series: str | None = None,
        *,
        volume: int | None = None,
        fill_gaps: bool = False,
        accept_cut: bool = False,
    ) -> None:
        super().__init__()
        self.modality = modality
        self.series = series
        self.volume = volume
        self.fill_gaps = fill_gaps
        self.accept_cut = accept_cut

    def verify_suffix(self, filename: Sequence[Place] | Place) -> bool:
        """Whether one path is a NIfTI file, a folder or a DICOM file."""
        path = _one(filename)
        return path is not None and (nifti.is_nifti(path) or path.is_dir() or path.suffix.lower() in ("", ".dcm"))

    def read(self, data: Sequence[Place] | Place, **_: Any) -> MetaTensor:
        """Load the study at one path."""
        path = _one(data)
        if path is None:
            raise SeriesError("one path is needed: the folder of a series, or one file.")
        return load_study.load(
            path, self.modality, self.series, volume=self.volume, fill_gaps=self.fill_gaps, accept_cut=self.accept_cut
        )

    def get_data(self, img: MetaTensor) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Return the (X, Y, Z) voxels and the metadata in MONAI's words."""
        affine = np.asarray(img.affine)
        meta = dict(img.meta) | {
            "affine": affine,
            "original_affine": affine.copy(),
            "spatial_shape": np.array(img.shape[1:]),
            "original_channel_dim": "no_channel",
            # LoadImage accepts no objects in metadata but inside an array.
            "source": np.array(source_of(img), dtype=object),
        }
        return plain(img)[0].numpy(), meta


class _VolumeWriter(ImageWriter):
    """Take a MetaTensor from `SaveImage` as it is: its grid is never changed on the way."""

    def __init__(self, **_: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def set_data_array(self, data_array: MetaTensor, **_: Any) -> None:
        """Keep the (C, X, Y, Z) volume; `GeometryError` if it does not know its affine."""
        if not isinstance(data_array, MetaTensor):
            raise GeometryError("a volume to be written must be a MetaTensor that knows its affine.")
        self.volume = data_array

    def set_metadata(self, meta_dict: object, **_: Any) -> None:
        """Nothing to do: the volume carries its metadata."""


class NiftiWriter(_VolumeWriter):
    """MONAI's `SaveImage` through `medfuse.nifti.write`: ``SaveImage(writer=NiftiWriter, output_ext=".nii.gz")``."""

    def write(self, filename: Place, verbose: bool = True, **_: Any) -> None:
        """Write the volume and its JSON sidecar; replaces what is there, as `SaveImage` does."""
        nifti.write(self.volume, Path(filename), {"Description": DISCLAIMER}, overwrite=True)


class DicomSeriesWriter(_VolumeWriter):
    """MONAI's `SaveImage` into a DICOM series: ``SaveImage(writer=DicomSeriesWriter, output_ext="")``."""

    def write(self, filename: Place, verbose: bool = True, **_: Any) -> None:
        """Write the volume as a folder of that name; replaces what is there, as `SaveImage` does."""
        dicom.write_series(self.volume, Path(filename), overwrite=True)
