"""Choose how DICOM series are written: one set of options from the command down to the writer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from medfuse.dicom.writing.compression import COMPRESSIONS, Compression, require_encoder
from medfuse.dicom.writing.identity import IdentityLike
from medfuse.errors import ExportError

Bits = Literal[8, 16]


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomOptions:
    """How a DICOM series is written.

    Parameters
    ----------
    identity
        Whose patient, study and frame of reference the series takes: an `Identity`, a loaded volume, or its source. By
        default those of the volume's own source, or, of a fused study, those of its MRI. Without a DICOM source the
        values are empty and the UIDs fresh.
    description, number
        SeriesDescription and SeriesNumber; by default they begin with FUSED, REGISTERED or DERIVED, and with 9000.
    compression
        ``none``, or without loss ``rle``, ``jpeg2000`` or ``jpeg-ls``.
    bits
        Of a grey picture: 16, or 8 as Secondary Capture, for MR Image Storage has no 8. Colour has 8 in each channel.
    multiframe
        Whether a picture becomes one file, multi-frame Secondary Capture, which fewer programs read.

    Raises
    ------
    ExportError
        If DICOM cannot hold the description or the number, or bits or compression are none of the above.
    """

    identity: IdentityLike | None = None
    description: str | None = None
    number: int | None = None
    compression: Compression = "none"
    bits: Bits = 16
    multiframe: bool = False

    def __post_init__(self) -> None:
        if self.description is not None and not (0 < len(self.description) <= 64 and self.description.isprintable()):
            raise ExportError(
                "expected a series description of 1 to 64 printable characters; found "
                f"{len(self.description)}{'' if self.description.isprintable() else ', some not printable'}. Shorten "
                "or correct it."
            )
        if self.description is not None and "\\" in self.description:
            raise ExportError("a series description holds no backslash, which separates values in DICOM; leave it out.")
        if self.number is not None and not 0 <= self.number < 2**31:
            raise ExportError(f"a series number is a whole number from 0 to 2147483647; found {self.number}.")
        if self.compression not in COMPRESSIONS:
            raise ExportError(f"expected a compression of {', '.join(COMPRESSIONS)}; found {self.compression!r}.")
        require_encoder(self.compression)
        if self.bits not in get_args(Bits):
            raise ExportError(f"a grey picture has 8 or 16 bits; found {self.bits}.")

    def with_identity(self, default: IdentityLike | None) -> DicomOptions:
        """The same with an identity, where none was chosen."""
        return self if self.identity is not None else replace(self, identity=default)

    def for_partner(self) -> DicomOptions:
        """What of it applies to the registered partner beside a fused picture: identity and compression."""
        return DicomOptions(identity=self.identity, compression=self.compression)
