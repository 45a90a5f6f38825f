"""Coverage-guided fuzzing of what reads files: DICOM folders, media and archives, NIfTI, and transforms.

    tox -e fuzz -- [dicom|codestream|nifti|zip|dicomdir|transform] [-max_total_time=60] [further options of libFuzzer]

Whatever the bytes, the answer is a volume or a `MedfuseError`. Anything else, a hang or more than 4 GiB stops the run
and leaves the bytes in a file named crash-…, which becomes a test.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

TABLES = [
    *("pydicom._dicom_dict", "pydicom._private_dict", "pydicom._uid_dict", "pydicom._version"),
    *("pydicom.sr._cid_dict", "pydicom.sr._concepts_dict", "pydicom.sr._snomed_dict"),
]
"""What holds no decisions to be covered, and takes minutes to instrument."""

INSTRUMENTED = ["medfuse.dicom", "medfuse.nifti", "medfuse.registration.files.declared_sizes", "pydicom", "nibabel"]

with atheris.instrument_imports(include=INSTRUMENTED, exclude=TABLES):
    import nibabel as nib
    import numpy as np
    import pydicom
    from encoded import codestream, compress, series, store
    from pydicom.fileset import FileSet

    import medfuse
    from medfuse.dicom import scan
    from medfuse.dicom.reading.volume import read_series
    from medfuse.errors import MedfuseError
    from medfuse.nifti.reading import read as _  # noqa: F401 - instrumented here, not where it is first needed
    from medfuse.registration import Registration
    from medfuse.registration.files.declared_sizes import require_sizes

LIMITS = ["-timeout=30", "-rss_limit_mb=4096", "-max_len=65536", "-print_final_stats=1"]


def read_all(path: Path) -> None:
    for series in scan(path, fill_gaps=True).series:
        try:
            read_series(series, path)
        except MedfuseError:
            continue


def dicom_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    """One file of a series of four; the other three are whole."""
    medfuse.phantom_study("PT", coarsen=14).write_dicom(place / "study")
    folder = place / "series"
    folder.mkdir()
    for number, path in enumerate(sorted((place / "study" / "mri").iterdir())[:4]):
        shutil.copy(path, folder / f"{number}.dcm")
    for path in sorted((place / "study").rglob("*.dcm"))[::7]:
        shutil.copy(path, seeds)
    shutil.copy(folder / "2.dcm", seeds)

    def one(data: bytes) -> None:
        (folder / "2.dcm").write_bytes(data)
        read_all(folder)

    return one


def codestream_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    """The codestream of one file of a series of four: its first byte says of which kind, the rest is what it holds."""
    cells = (np.arange(40 * 36).reshape(40, 36) * 37 % 3000).astype(np.uint16)
    syntaxes = [pydicom.uid.RLELossless, pydicom.uid.JPEGLSLossless, pydicom.uid.JPEG2000Lossless]
    series(place / "series", lambda header, _: store(header, cells, 16), shape=(36, 40, 4))
    for number, syntax in enumerate(syntaxes):
        (seeds / syntax).write_bytes(bytes([number]) + codestream(cells, syntax, 16))
    path = sorted((place / "series").iterdir())[2]
    header = pydicom.dcmread(path)

    def one(data: bytes) -> None:
        frame = data[1:] or b"\0\0"
        compress(header, [frame], syntaxes[data[0] % len(syntaxes)] if data else syntaxes[0])
        header.save_as(path)
        read_all(place / "series")

    return one


def nifti_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for form in (nib.nifti1.Nifti1Image, nib.nifti2.Nifti2Image):
        for suffix in (".nii", ".nii.gz"):
            form(values, np.diag([-2.0, 2, 3, 1])).to_filename(seeds / f"{form.__name__}{suffix}")

    def one(data: bytes) -> None:
        packed = data[:2] == b"\x1f\x8b"
        path = place / ("a.nii.gz" if packed else "a.nii")
        path.write_bytes(data)
        try:
            medfuse.load(path, "MR")
        except MedfuseError:
            return

    return one


def zip_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    medfuse.phantom_study("PT", coarsen=14).write_dicom(place / "study")
    shutil.make_archive(str(seeds / "seed"), "zip", place / "study" / "partner")

    def one(data: bytes) -> None:
        (place / "a.zip").write_bytes(data)
        try:
            read_all(place / "a.zip")
        except MedfuseError:
            return

    return one


def dicomdir_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    medfuse.phantom_study("PT", coarsen=14).write_dicom(place / "study")
    media = FileSet()
    for path in sorted((place / "study" / "mri").iterdir())[:4]:
        media.add(pydicom.dcmread(path))
    media.write(place / "cd")
    shutil.copy(place / "cd" / "DICOMDIR", seeds)

    def one(data: bytes) -> None:
        (place / "cd" / "DICOMDIR").write_bytes(data)
        try:
            read_all(place / "cd" / "DICOMDIR")
        except MedfuseError:
            return

    return one


def transform_target(place: Path, seeds: Path) -> Callable[[bytes], None]:
    """What is looked at in this process; ITK itself reads in one of its own."""
    fixed = "4 4 4 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1"
    for kind, count in (("BSpline", 192), ("DisplacementField", 192), ("Affine", 12)):
        text = f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}Transform_double_3_3\n"
        text += f"Parameters: {'0 ' * count}\nFixedParameters: {fixed if count > 12 else '0 0 0'}\n"
        (seeds / f"{kind}.tfm").write_text(text)
    head = np.array([0, 12, 1, 0, 27], "<i4").tobytes() + b"AffineTransform_double_3_3\0" + bytes(96)
    (seeds / "a.mat").write_bytes(head + np.array([0, 3, 1, 0, 6], "<i4").tobytes() + b"fixed\0" + bytes(24))
    np.savetxt(seeds / "a.txt", np.eye(4))

    def one(data: bytes) -> None:
        for suffix, read in ((".tfm", require_sizes), (".mat", require_sizes), (".txt", Registration.load)):
            path = place / f"a{suffix}"
            path.write_bytes(data)
            try:
                read(path)
            except MedfuseError:
                continue

    return one


TARGETS = {
    "dicom": dicom_target,
    "codestream": codestream_target,
    "nifti": nifti_target,
    "zip": zip_target,
    "dicomdir": dicomdir_target,
    "transform": transform_target,
}


def main() -> None:
    name, *options = sys.argv[1:] or ["dicom", "-max_total_time=60"]
    if name not in TARGETS:
        sys.exit(f"expected one of {', '.join(TARGETS)}; found {name}.")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        place, seeds = Path(folder), Path(folder) / "seeds"
        seeds.mkdir()
        target = TARGETS[name](place, seeds)
        atheris.Setup([sys.argv[0], *LIMITS, *options, str(seeds)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
