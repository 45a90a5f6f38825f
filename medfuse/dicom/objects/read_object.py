"""Read one DICOM object that is no image series: from its file, or from a folder with this file alone."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from medfuse.dicom.encoding.deflated import read_bounded
from medfuse.errors import MedfuseError, counted
from medfuse.runtime.output.exchange import settle


def read_object(path: Path, what: str, error: type[MedfuseError], *, pixels: bool = False) -> Dataset:
    """Read a file as DICOM.

    Parameters
    ----------
    path
        The file, or a folder with this file alone.
    what
        What messages call it.
    error
        What is raised where there is no such file, a folder holds several, or it cannot be read.
    pixels
        Read Pixel Data too.
    """
    settle(path)
    if path.is_dir():
        files = [one for one in path.iterdir() if one.is_file()]
        if len(files) != 1:
            raise error(f"expected one {what} in {path}, found {counted(len(files), 'file')}; give the file.")
        path = files[0]
    if not path.is_file():
        raise error(f"there is no {what} file {path}; check the path.")
    try:
        dataset = read_bounded(path, stop_before_pixels=not pixels)
        dataset.get("SOPClassUID")
    except Exception as cause:  # pydicom raises many kinds on damaged files
        raise error(f"{path} could not be read as DICOM; check the path and the file.") from cause
    return dataset


def kind_of(dataset: Dataset) -> str:
    """What messages call the class of an object: its name in the Standard, which an unknown UID does not have."""
    kind = dataset.get("SOPClassUID")
    name = kind.name if kind is not None and kind.name != kind else "an object of unknown class"
    return str(name.removesuffix(" Storage"))
