"""Write results as a File-set with a DICOMDIR, as discs and importers ask for (PS3.10 8)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from medfuse.dicom.header import quiet
from medfuse.dicom.writing.identity import Identity, IdentityLike
from medfuse.errors import ExportError
from medfuse.runtime.output.atomic_output import atomic_folder, require_outside

INDEXED = ("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID")
"""Type 1 in the records of an index (PS3.3 F.5), and no more than Type 2 in the files themselves."""


def write_media(out: str | Path, folders: Iterable[str | Path], *, overwrite: bool = False) -> None:
    """Write a File-set of what lies in folders.

    Parameters
    ----------
    out
        Folder to appear, with ``DICOMDIR`` and files such as ``PT000000/ST000000/SE000000/IM000000``.
    folders
        Where `write_series`, `write_partner` and others have written; they stay.
    overwrite
        Whether a folder already there is replaced.

    Raises
    ------
    ExportError
        If a folder holds no DICOM file, a file lacks what an index must say, or the folder is taken, lies in one of the
        others, or cannot be written.
    """
    sources = [Path(folder) for folder in folders]
    require_outside(Path(out), sources)
    with atomic_folder(Path(out), overwrite) as temporary, quiet(), _index(temporary.parent) as index:
        files: dict[str, Path] = {}
        for path in (path for source in sources for path in _files(source)):
            header = dcmread(path, stop_before_pixels=True)
            _require_indexed(header)
            _shorten(header)
            try:
                index.add(header)  # it copies what it is given: the pixels follow below
            except (ValueError, AttributeError, NotImplementedError) as error:
                raise ExportError(
                    f"a file cannot be listed in a DICOMDIR ({type(error).__name__}); leave the DICOMDIR out."
                ) from error
            files[str(header.SOPInstanceUID)] = path
        index.write(temporary)
        for instance in index:
            shutil.copyfile(files[str(instance.SOPInstanceUID)], temporary / instance.FileID)


def require_listable(identity: IdentityLike) -> None:
    """Raise `ExportError` where a DICOMDIR of what takes this identity cannot be written."""
    _require_indexed(Identity.of(identity).header)


def _require_indexed(header: Dataset) -> None:
    missing = [keyword for keyword in INDEXED if not header.get(keyword)]
    if missing:
        raise ExportError(
            f"a DICOMDIR must say {', '.join(missing)}, which the study lacks. Give an identity that has it "
            f"(identity=..., --identity {missing[0]}=VALUE), or leave the DICOMDIR out."
        )


def _shorten(header: Dataset) -> None:
    """Leave of a presentation state's images what its record holds (PS3.3 F.5.34); pydicom would copy all."""
    for item in header.get("BlendingSequence") or []:
        for keyword in item.dir():
            if keyword not in ("StudyInstanceUID", "ReferencedSeriesSequence"):
                del item[keyword]


def _files(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.dcm"))
    if not found:
        raise ExportError(f"expected DICOM files in {folder}, found none; write them first.")
    return found


@contextmanager
def _index(folder: Path) -> Iterator[FileSet]:
    """Make an empty index that keeps its temporary files in ``folder`` and not where other users may read them."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        index = FileSet()
        try:
            yield index
        finally:
            index._stage["t"].cleanup()  # pydicom leaves its folder to the garbage collector, which warns
    finally:
        tempfile.tempdir = before
