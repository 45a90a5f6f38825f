"""Read DICOM files with other programs: SimpleITK, GDCM, and dcm2niix with nibabel.

    python readers.py REQUEST.json ANSWER.npz

These believe what files claim: a damaged codestream or header ends the process that reads it, or takes the machine's
memory. So each reads in a process of its own, which imports that program alone: dcm2niix is one, and this module run
as a program is that of the others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medfuse.errors import counted
from medfuse.runtime.apart import CannotRunApartError, limit_memory, run_apart
from medfuse.volume.grid import LPS_FROM_RAS

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What one program reads: (X, Y, Z, C) values and where they lie, voxel index → RAS+ mm.

    ``affine`` is None where the program reads no position; the slices then stand in the order of the files.
    """

    values: npt.NDArray[Any]
    affine: Affine | None


NOT_READ = 3
"""Exit status where a program says that it does not read the files; the answer holds its reason."""

MOST_SECONDS = 600
"""What one program may take to read one series."""

USUAL_BYTES, PER_BYTE = 2**32, 20
"""Address space that reading may take, and more of it for each byte of the files."""


class ReadingError(Exception):
    """The program does not read the files; the text holds its reason."""


def read_with_simple_itk(paths: list[Path], uid: str) -> View:
    """Read as a pipeline would: let GDCM's sorter order the files of the folder."""
    import SimpleITK as sitk

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


def read_with_nibabel(paths: list[Path], uid: str) -> View:
    """Read one NIfTI file, RGB as three channels."""
    import nibabel as nib

    image: Any = nib.load(paths[0])
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

NIFTI_READER = "nibabel"

READERS: dict[str, Reader] = {
    "SimpleITK": read_with_simple_itk,
    "GDCM": read_with_gdcm,
    NIFTI_READER: read_with_nibabel,
}
"""What is called in a process apart."""

CONVERTER = "dcm2niix, nibabel"


def installed() -> list[str]:
    """The names of the programs that this machine has for DICOM."""
    there = {"SimpleITK": True, "GDCM": find_spec("gdcm"), CONVERTER: shutil.which("dcm2niix")}
    return [name for name, found in there.items() if found]


def read(name: str, paths: list[Path], uid: str = "") -> View:
    """Read files with the program of this name; `ReadingError` where it does not read them, or does not survive it."""
    return _converted(paths) if name == CONVERTER else _read_apart(name, paths, uid)


def _converted(paths: list[Path]) -> View:
    """Convert with dcm2niix to NIfTI, which is not compressed and therefore no larger than its file; read that."""
    with _folder_of(paths) as folder, tempfile.TemporaryDirectory() as out:
        command = ["dcm2niix", "-z", "n", "-b", "n", "-f", "converted", "-o", out, folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                limit_memory(_most_memory(paths), running.pid)
                running.wait(MOST_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise _too_slow() from error
            finally:
                running.kill()
        converted = sorted(Path(out).glob("*.nii"))
        if len(converted) != 1:
            raise ReadingError(f"it made {counted(len(converted), 'volume')} of one series")
        return read_with_nibabel(converted, "")


def _read_apart(name: str, paths: list[Path], uid: str) -> View:
    with tempfile.TemporaryDirectory(prefix="medfuse-verify-", ignore_cleanup_errors=True) as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.npz")
        request.write_text(json.dumps({"reader": name, "paths": [str(path.resolve()) for path in paths], "uid": uid}))
        try:
            done = run_apart(Path(__file__), [str(request), str(answer)], MOST_SECONDS)
        except CannotRunApartError as error:
            raise ReadingError("there is no Python interpreter to run it by") from error
        except subprocess.TimeoutExpired as error:
            raise _too_slow() from error
        if done.returncode not in (0, NOT_READ):
            raise ReadingError("it stopped, as on damaged files and on those that claim more than they hold")
        with np.load(answer) as found:
            if done.returncode:
                raise ReadingError(str(found["reason"]))
            return View(found["values"], found.get("affine"))


def _most_memory(paths: list[Path]) -> int:
    return USUAL_BYTES + PER_BYTE * sum(path.stat().st_size for path in paths)


def _too_slow() -> ReadingError:
    return ReadingError(f"it took more than {MOST_SECONDS} s")


def main(request: str, answer: str) -> int:
    """Do what a request asks; returns the exit status."""
    asked = json.loads(Path(request).read_text())
    paths = [Path(path) for path in asked["paths"]]
    limit_memory(_most_memory(paths))
    try:
        view = READERS[asked["reader"]](paths, asked["uid"])
    except Exception as error:  # on files that are wrong, each program fails in its own way
        np.savez(answer, reason=str(error) if isinstance(error, ReadingError) else type(error).__name__)
        return NOT_READ
    affine: dict[str, Any] = {} if view.affine is None else {"affine": view.affine}
    np.savez(answer, values=view.values, **affine)
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # what a damaged file left in a library may end the process as it cleans up
