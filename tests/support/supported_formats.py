"""What is proven to be read: every form of DICOM, for every modality that has it, in every transfer syntax.

`test_every_voxel_is_in_its_place` goes through all of it, and the documentation prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
from enhanced import LEGACY, enhance
from mosaics import siemens_mosaic, uih_grid
from pydicom import uid

Form = Callable[[Path, Path], object]
"""Turns a folder of classic files into one of another form."""


def _as_they_are(classic: Path, out: Path) -> None:
    out.mkdir()
    for path in classic.iterdir():
        path.rename(out / path.name)


FORMS: dict[str, tuple[tuple[str, ...], Form]] = {
    "classic, one slice a file": (("MR", "CT", "PT"), _as_they_are),
    "enhanced, many frames a file": (("MR", "CT", "PT"), lambda classic, out: enhance([classic], out / "1.dcm")),
    "legacy converted enhanced": (
        ("MR", "CT", "PT"),
        lambda classic, out: enhance([classic], out / "1.dcm", classes=LEGACY, shuffled=True),
    ),
    "reconstructed tomography": (("NM",), _as_they_are),
    "Siemens mosaic": (("MR",), siemens_mosaic),
    "UIH grid": (("MR",), uih_grid),
}
"""Form: the modalities that have it, and how the tests make it."""

SYNTAXES: dict[str, uid.UID] = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "RLE": uid.RLELossless,
    "JPEG lossless": uid.JPEGLosslessSV1,
    "JPEG-LS": uid.JPEGLSLossless,
    "JPEG 2000": uid.JPEG2000Lossless,
}
"""Short name and UID."""


def store(folder: Path, syntax: uid.UID) -> None:
    """Write all files of a folder again in a transfer syntax, without changing a value."""
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        if syntax == uid.JPEGLosslessSV1:
            _with_gdcm(path)
        elif syntax.is_compressed and not syntax.is_deflated:
            header.compress(syntax, generate_instance_uid=False)
            header.save_as(path)
        elif syntax.is_little_endian:
            header.file_meta.TransferSyntaxUID = syntax
            header.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        else:
            pixels = header.pixel_array
            header.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
            list(header.iterall())  # values are converted, not bytes carried over
            header.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(path, header, implicit_vr=False, little_endian=False, force_encoding=True)


def _with_gdcm(path: Path) -> None:
    """The one encoder for lossless JPEG; its header is left to pydicom."""
    import gdcm  # the documentation, which only prints the table, is built without it

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    packed = path.with_suffix(".packed")
    writer.SetFileName(str(packed))
    assert writer.Write()
    header = pydicom.dcmread(path)
    header.PixelData = pydicom.dcmread(packed).PixelData
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    header.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    packed.unlink()
    header.save_as(path)
