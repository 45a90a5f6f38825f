"""Read DICOM files with other programs: SimpleITK, GDCM, and dcm2niix with nibabel."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from medfuse.dicom.consistency import without_negatives
from medfuse.errors import counted
from medfuse.volume.grid import LPS_FROM_RAS

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What one program reads: (X, Y, Z, C) values and where they lie, voxel index → RAS+ mm.

    ``affine`` is None where the program reads no position; the slices then stand in the order of the files.
    """

    values: npt.NDArray[Any]
    affine: Affine | None


class ReadingError(Exception):
    """The program does not read the files; the text holds its reason."""


def read_with_simple_itk(paths: list[Path], uid: str) -> View:
    """Read as a pipeline would: let GDCM's sorter order the files of the folder."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        if len(paths) == 1:
            image = sitk.ReadImage(str(paths[0]))
        else:
            with _folder_of(paths) as folder:
                reader = sitk.ImageSeriesReader()
                reader.SetFileNames(reader.GetGDCMSeriesFileNames(folder, uid))
                image = reader.Execute()
    except RuntimeError as error:
        raise ReadingError(type(error).__name__) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    values = sitk.GetArrayFromImage(image)
    values = values.reshape(*values.shape[:3], -1).transpose(2, 1, 0, 3)
    return View(values, LPS_FROM_RAS @ affine)


def read_with_gdcm(paths: list[Path], uid: str) -> View:
    """Sort by position and decode file by file, as viewers built on GDCM do."""
    import gdcm  # its import changes how libraries are loaded, so only where it is used

    names = [str(path) for path in paths]
    readers = [_open_with_gdcm(name) for name in names[:2]]
    placed = any(any(reader.GetImage().GetOrigin()) for reader in readers)
    if len(names) > 1 and placed:
        sorter = gdcm.IPPSorter()
        sorter.SetComputeZSpacing(True)
        sorter.SetZSpacingTolerance(1e-2)
        if not sorter.Sort(names):
            raise ReadingError("its sorter by position refuses the files")
        names = list(sorter.GetFilenames())
    slices, origins = [], []
    for name in names:
        reader = _open_with_gdcm(name)
        image = reader.GetImage()
        slices.append(_gdcm_pixels(image))
        origins.append(np.array(image.GetOrigin()))
    values = np.concatenate(slices).transpose(2, 1, 0, 3)
    if not placed:  # what it holds of Secondary Capture: a picture without a place
        return View(values, None)
    cosines, spacing = np.array(image.GetDirectionCosines()), image.GetSpacing()
    step = np.cross(cosines[:3], cosines[3:]) * spacing[2]
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    affine = np.eye(4)
    affine[:3] = np.stack((cosines[:3] * spacing[0], cosines[3:] * spacing[1], step, origins[0]), axis=1)
    return View(values, LPS_FROM_RAS @ affine)


def _open_with_gdcm(name: str) -> Any:
    """The reader, which owns the image."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(name)
    if not reader.Read():
        raise ReadingError("a file is not read")
    return reader


def _gdcm_pixels(image: Any) -> npt.NDArray[Any]:
    """(frames, rows, columns, channels) of one file, rescaled as GDCM understands it."""
    import gdcm

    kinds = {getattr(gdcm.PixelFormat, kind.upper()): kind for kind in ("uint8", "int8", "uint16", "int16")}
    kind = kinds.get(image.GetPixelFormat().GetScalarType())
    if kind is None:
        raise ReadingError("an unexpected pixel format")
    raw = image.GetBuffer().encode("utf-8", errors="surrogateescape")
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    stored = np.frombuffer(raw, dtype=kind)
    channels = image.GetPixelFormat().GetSamplesPerPixel()
    if channels == 3 and image.GetPlanarConfiguration() == 1:
        stored = stored.reshape(-1, 3, rows, columns).transpose(0, 2, 3, 1)
    stored = stored.reshape(-1, rows, columns, channels)
    slope, intercept = image.GetSlope(), image.GetIntercept()
    return stored if (slope, intercept) == (1.0, 0.0) else stored * slope + intercept


def read_with_dcm2niix(paths: list[Path], uid: str) -> View:
    """Convert to NIfTI, and read that with nibabel."""
    with _folder_of(paths) as folder, tempfile.TemporaryDirectory() as out:
        command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "converted", "-o", out, folder]
        subprocess.run(command, capture_output=True, check=False, timeout=600)
        converted = sorted(Path(out).glob("*.nii"))
        if len(converted) != 1:
            raise ReadingError(f"it made {counted(len(converted), 'volume')} of one series")
        return read_nifti(converted[0])


def read_nifti(path: Path) -> View:
    """Read a NIfTI file with nibabel, RGB as three channels."""
    image: Any = nib.load(path)
    if image.get_data_dtype().fields is not None:
        stored = np.asarray(image.dataobj)
        values = np.stack([stored[channel] for channel in "RGB"], axis=-1)
    else:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(*values.shape[:3], -1)
    return View(values, np.asarray(image.affine, dtype=np.float64))


@contextmanager
def _folder_of(paths: list[Path]) -> Iterator[str]:
    """A folder that holds only links to these files, for programs that take folders."""
    with tempfile.TemporaryDirectory(prefix="medfuse-verify-", ignore_cleanup_errors=True) as folder:
        for number, path in enumerate(paths):
            Path(folder, f"{number:05d}.dcm").symlink_to(path.resolve())
        yield folder


Reader = Callable[[list[Path], str], View]

READERS: Mapping[str, Reader] = {
    "SimpleITK": read_with_simple_itk,
    "GDCM": read_with_gdcm,
    "dcm2niix, nibabel": read_with_dcm2niix,
}


def installed() -> dict[str, Reader]:
    """The readers that this machine has."""
    there = {"SimpleITK": True, "GDCM": find_spec("gdcm"), "dcm2niix, nibabel": shutil.which("dcm2niix")}
    return {name: reader for name, reader in READERS.items() if there[name]}


def resampled(source: list[Path], uid: str, to_moving: Affine, shape: tuple[int, int, int], onto: Affine) -> View:
    """Interpolate a source series onto a grid with SimpleITK alone; ``to_moving`` maps that grid's world, RAS+ mm."""
    with tempfile.TemporaryDirectory() as folder:
        view = read_with_simple_itk(without_negatives(source, Path(folder)), uid)
    assert view.affine is not None
    lps = LPS_FROM_RAS @ view.affine
    moving = sitk.GetImageFromArray(view.values[..., 0].transpose(2, 1, 0).astype(np.float32))
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    moving.SetSpacing(spacing.tolist())
    moving.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    moving.SetOrigin(lps[:3, 3].tolist())
    # Index of the wanted grid → index-sized world, so that a sheared grid needs no direction matrix of its own.
    total = LPS_FROM_RAS @ to_moving @ onto
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(total[:3, :3].ravel().tolist())
    transform.SetTranslation(total[:3, 3].tolist())
    size = [int(length) for length in shape]
    out = sitk.Resample(
        moving, size, transform, sitk.sitkLinear, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), np.eye(3).ravel().tolist(), np.nan
    )
    return View(sitk.GetArrayFromImage(out).transpose(2, 1, 0)[..., None], onto)
