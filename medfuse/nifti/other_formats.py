"""Name the formats that are not read, by what files are called, and say how to turn them into one that is."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath

from medfuse.errors import SeriesError
from medfuse.nifti.header import PAIR_SUFFIXES, SUFFIXES, header_file

CONVERTIBLE = {
    (".mgz", ".mgh"): ("MGH", "mri_convert of FreeSurfer, or nibabel: nib.save(nib.load(name), 'image.nii.gz')"),
    (".nrrd", ".nhdr"): ("NRRD", "SimpleITK: sitk.WriteImage(sitk.ReadImage(name), 'image.nii.gz')"),
    (".mha", ".mhd"): ("MetaImage", "SimpleITK: sitk.WriteImage(sitk.ReadImage(name), 'image.nii.gz')"),
    (".mnc", ".mnc.gz"): ("MINC", "mnc2nii of MINC, or nibabel"),
    (".head", ".brik", ".brik.gz"): ("AFNI", "3dAFNItoNIFTI of AFNI"),
    (".par", ".rec", ".xml.rec"): ("Philips PAR/REC", "dcm2niix"),
    (".v", ".ecat"): ("ECAT", "nibabel or dcm2niix"),
    (".vtk", ".vti", ".gipl"): ("VTK or GIPL", "SimpleITK: sitk.WriteImage(sitk.ReadImage(name), 'image.nii.gz')"),
    (".npy", ".npz"): ("NumPy", "nibabel, with the affine: nib.save(nib.Nifti1Image(values, affine), 'image.nii.gz')"),
}
"""Images of other programs: the format's name, and what converts it to NIfTI."""

PACKED = (
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
    *(".7z", ".rar", ".gz", ".bz2", ".xz", ".zst", ".z", ".lz4"),
)
"""Archives and compressed files other than .zip and NIfTI's own .gz."""

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pdf")

ADDRESS = re.compile(r"(?P<scheme>https?|ftps?|s3|gs|dicomwebs?|file|ssh|sftp):/", re.IGNORECASE)
"""How an address begins; paths lose one of its two slashes."""

MOST_LOOKED_AT = 10_000
"""Names of a folder or archive that are looked at to say what it holds."""


def require_known_name(path: str | Path) -> None:
    """Raise `SeriesError` where a path names a format that is not read, or no file at all."""
    address = ADDRESS.match(str(path))
    if address:
        raise SeriesError(
            f"{address['scheme']}: addresses are not read; download the study, and give its file or folder."
        )
    path = Path(path)
    if path.is_dir():
        return
    name = path.name.lower()
    if name.endswith((*SUFFIXES, *PAIR_SUFFIXES)) and not path.exists():
        raise SeriesError(f"there is no file {path}; check the path.")
    if not path.is_file() or _begins_as_dicom(path):
        return
    if name.endswith((".img", ".img.gz")) and header_file(path) == path:
        raise SeriesError(f"there is no header (.hdr) beside {path}, without which it has no geometry; add it.")
    advice = _advice(name)
    if advice:
        raise SeriesError(f"{path} is {advice}")


def what_else(path: str | Path) -> str:
    """What a folder or a zip archive without DICOM images holds instead, and what to do; empty if that is not known."""
    path = Path(path)
    names = list(_names(path))
    volumes = [name for name in names if name.lower().endswith((*SUFFIXES, *PAIR_SUFFIXES))]
    if volumes and path.is_dir():
        return (
            f"{path} is a folder of NIfTI files, {len(volumes)} of them: give the one that is meant, and its modality."
        )
    if volumes:
        return f"{path} is an archive of NIfTI files: unpack it and give the one that is meant, and its modality."
    advice = next((advice for name in names if (advice := _advice(name.lower()))), "")
    return f"{path} holds no DICOM images, but at least one file that is {advice}" if advice else ""


def _advice(name: str) -> str:
    """What a file of this name is, and what to do with it; empty where it may be DICOM or NIfTI."""
    if name.endswith(SUFFIXES):
        return ""
    for suffixes, (format_, converter) in CONVERTIBLE.items():
        if name.endswith(suffixes):
            return f"{format_}, which is not read; convert it to NIfTI ({converter})."
    for suffix in PACKED:
        if name.endswith(suffix):
            return f"packed as {suffix}, which is not read; unpack it, and give the file or folder of what is inside."
    if name.endswith(PICTURES):
        return "a picture, which says nothing of place and values; give the DICOM or NIfTI that it was made of."
    return ""


def _begins_as_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark behind its preamble (PS3.10 7.1), however it is called."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _names(path: Path) -> Iterable[str]:
    """Names of files under a folder or in a zip archive; none where neither can be listed."""
    if path.is_dir():
        for number, one in enumerate(path.rglob("*")):
            if number == MOST_LOOKED_AT:
                return
            if one.is_file():
                yield one.name
    elif zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                yield from (PurePath(name).name for name in archive.namelist()[:MOST_LOOKED_AT])
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return
