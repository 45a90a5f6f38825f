"""Write a fused volume as a DICOM series: geometry from its grid, identity from its sources' headers.

Colour becomes Secondary Capture with the Image Plane attributes (the only classic RGB form that viewers place), grey
becomes MR Image Storage at 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from monai.data.meta_tensor import MetaTensor
from PIL import ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from medfuse.dicom.decimals import decimals
from medfuse.dicom.identity import acquisition, identity
from medfuse.dicom.read import DicomSource
from medfuse.dicom.references import SPATIAL_RESAMPLING, Contribution, coded, equipment, refer
from medfuse.dicom.scan import quiet
from medfuse.errors import ExportError, GeometryError
from medfuse.export import require_outside, whole
from medfuse.grid import LPS_FROM_RAS, Grid
from medfuse.provenance import DISCLAIMER, SOFTWARE, Provenance
from medfuse.slices import DISPLAY_AXES, Plane, replane
from medfuse.volume import Source, grid_of, plain, source_of

SERIES_NUMBER_OFFSET = 9000
"""Added to the base's SeriesNumber: sorts after what scanners number."""


def write_series(
    image: MetaTensor,
    out: str | Path,
    *,
    partner: Source | None = None,
    provenance: Provenance | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Write one file a slice, numbered along the slice normal.

    Parameters
    ----------
    image
        (3, X, Y, Z) uint8 RGB, or (1, X, Y, Z) floating point in [0, 1]. Its ``meta["source"]`` is the base MRI's.
        A volume that does not come from DICOM is turned to the usual view first, for a header knows no up and down of
        its own.
    out
        Folder to appear, with the files ``0001.dcm`` and so on.
    partner
        The other source, where there is one.
    provenance
        What was done, where it is known; a partner needs it, for it holds the alignment.
    overwrite
        Whether a folder already there is replaced.
    progress
        Called with the share done, in (0, 1].

    Raises
    ------
    ExportError
        If the folder is taken, lies in an input, or cannot be written; nothing is left behind.
    """
    out = Path(out)
    base = source_of(image)
    require_outside(out, [source.path for source in (base, partner) if source is not None])
    if not isinstance(base, DicomSource):
        image = replane(image, _nearest_plane(grid_of(image)))
    grid = grid_of(image)
    require_slices(grid)
    contributions = _contributions(base, partner, provenance)
    with quiet():
        template = _template(image, base, partner, contributions, provenance)
    values = plain(image).cpu()
    slices = grid.shape[2]
    normal = np.cross(grid.directions[:, 0], grid.directions[:, 1])
    along = range(slices) if grid.directions[:, 2] @ normal > 0 else range(slices - 1, -1, -1)
    digits = max(4, len(str(slices)))
    with whole(out, overwrite) as folder, quiet():
        folder.mkdir()
        for number, k in enumerate(along, start=1):
            dataset = Dataset()
            dataset.update(template)
            dataset.InstanceNumber = number
            dataset.SOPInstanceUID = generate_uid(prefix=None)
            dataset.ImagePositionPatient = decimals(LPS_FROM_RAS[:3, :3] @ grid.world((0, 0, k)))
            refer(dataset, contributions, grid, k)
            dataset.PixelData = _pixels(values[..., k].permute(2, 1, 0).numpy())
            dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
            _save(dataset, folder / f"{number:0{digits}d}.dcm")
            if progress:
                progress(number / slices)


def require_slices(grid: Grid) -> None:
    """Raise `GeometryError` where rows and columns are not perpendicular: no DICOM image plane can say so."""
    columns, rows, _ = grid.directions.T
    if abs(columns @ rows) > 1e-4:
        raise GeometryError(
            f"rows and columns of the slices must be perpendicular for DICOM; found a cosine of {columns @ rows:.3f}. "
            "Resample the MRI first, or write NIfTI alone."
        )


def _contributions(base: Source | None, partner: Source | None, provenance: Provenance | None) -> list[Contribution]:
    found = []
    if isinstance(base, DicomSource):
        found.append(Contribution(base, np.eye(4), preserved=True))
    if isinstance(partner, DicomSource) and provenance is not None:
        found.append(Contribution(partner, np.array(provenance.registration["matrix"]), preserved=False))
    return found


def _template(
    image: MetaTensor,
    base: Source | None,
    partner: Source | None,
    contributions: list[Contribution],
    provenance: Provenance | None,
) -> Dataset:
    """All that the slices share."""
    base_header = base.first if isinstance(base, DicomSource) else None
    partner_header = partner.first if isinstance(partner, DicomSource) else None
    dataset = identity(base_header, partner_header)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    now = datetime.now()
    for keyword in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{keyword}Date", now.strftime("%Y%m%d"))
        setattr(dataset, f"{keyword}Time", now.strftime("%H%M%S.%f"))
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = SERIES_NUMBER_OFFSET + _series_number(base_header) % SERIES_NUMBER_OFFSET
    dataset.SeriesDescription = f"FUSED MR+{provenance.partner_modality} GeSeNet" if provenance else "DERIVED medfuse"
    dataset.Manufacturer = "medfuse"
    dataset.ManufacturerModelName = "medfuse"
    dataset.SoftwareVersions = SOFTWARE
    dataset.DerivationDescription = provenance.sentence() if provenance else DISCLAIMER
    dataset.DerivationCodeSequence = coded(SPATIAL_RESAMPLING)
    dataset.ContributingEquipmentSequence = equipment(contributions, SOFTWARE)
    burned = any(one.source.first.get("BurnedInAnnotation") == "YES" for one in contributions)
    dataset.BurnedInAnnotation = "YES" if burned else "NO"
    _note_lossy_sources(dataset, contributions)
    _place(dataset, grid_of(image), base_header)
    if len(image) == 3:
        _describe_colour(dataset)
    else:
        _describe_grey(dataset, base if isinstance(base, DicomSource) else None)
    return dataset


def _series_number(base: Dataset | None) -> int:
    """The base's SeriesNumber; 0 where it has none, or one that is no number."""
    try:
        return int(base.get("SeriesNumber") or 0) if base is not None else 0
    except (ValueError, TypeError):
        return 0


def _note_lossy_sources(dataset: Dataset, contributions: list[Contribution]) -> None:
    """Loss is inherited: a source that was compressed with loss marks what is derived from it (PS3.3 C.7.6.1.1.5)."""
    lossy = [one.source.first for one in contributions if one.source.first.get("LossyImageCompression") == "01"]
    dataset.LossyImageCompression = "01" if lossy else "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        for header in lossy:
            if keyword in header:
                setattr(dataset, keyword, header.get(keyword))


def _place(dataset: Dataset, grid: Grid, base: Dataset | None) -> None:
    """Image Plane attributes (PS3.3 C.7.6.2) but the position."""
    columns, rows, _ = grid.shape
    dataset.Rows, dataset.Columns = rows, columns
    along_columns, along_rows, along_slices = grid.spacing
    dataset.PixelSpacing = decimals([along_rows, along_columns])
    directions = LPS_FROM_RAS[:3, :3] @ grid.directions
    dataset.ImageOrientationPatient = decimals([*directions[:, 0], *directions[:, 1]])
    dataset.PatientOrientation = [_orientation_letters(directions[:, axis]) for axis in (0, 1)]
    normal = np.cross(directions[:, 0], directions[:, 1])
    dataset.SliceThickness = decimals([along_slices * abs(float(normal @ directions[:, 2]))])[0]
    if "PatientPosition" not in dataset:
        dataset.PatientPosition = None


def _orientation_letters(direction: npt.NDArray[np.float64]) -> str:
    """PatientOrientation of one LPS direction: its letters by falling weight (PS3.3 C.7.6.1.1.1)."""
    letters = (("R", "L"), ("A", "P"), ("F", "H"))
    order = np.argsort(-np.abs(direction), kind="stable")
    return "".join(letters[axis][int(direction[axis] > 0)] for axis in order if abs(direction[axis]) > 0.01)


def _describe_colour(dataset: Dataset) -> None:
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.ICCProfile = _srgb_profile()
    dataset.ColorSpace = "SRGB"


def _describe_grey(dataset: Dataset, base: DicomSource | None) -> None:
    dataset.SOPClassUID = MRImageStorage
    dataset.Modality = "MR"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", "FUSED"]
    dataset.update(acquisition(base.first, base.slices[0][0][1]) if base else acquisition(None))
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    # The linear window that shows 0 as black and 65535 as white (PS3.3 C.11.2.1.2).
    dataset.WindowCenter, dataset.WindowWidth = "32768", "65536"


def _pixels(values: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> bytes:
    """Bytes of one slice, given as (rows, columns, channels)."""
    if values.dtype != np.uint8:
        values = np.rint(values * 65535.0).astype("<u2")
    data = np.ascontiguousarray(values).tobytes()
    return data + b"\0" * (len(data) % 2)


def _save(dataset: Dataset, path: Path) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    try:
        dataset.save_as(path, enforce_file_format=True)
    except (ValueError, TypeError) as error:
        raise ExportError(f"slice {dataset.InstanceNumber} cannot be encoded ({type(error).__name__}).") from error


def _nearest_plane(grid: Grid) -> Plane:
    axis = grid.axcodes[2]
    return next(plane for plane, axes in DISPLAY_AXES.items() if {axis} & set(_axis_pair(axes[2])))


def _axis_pair(code: str) -> str:
    return next(pair for pair in ("LR", "AP", "IS") if code in pair)


@cache
def _srgb_profile() -> bytes:
    """An sRGB profile of the input class ``scnr``, which the Standard asks for (PS3.3 C.11.15), with a fixed date."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[12:16] = b"scnr"
    profile[24:36] = bytes.fromhex("07ea00010001000000000000")  # 2026-01-01 00:00:00
    profile[84:100] = bytes(16)  # no profile ID: it would be a digest of the above
    return bytes(profile) + b"\0" * (len(profile) % 2)
