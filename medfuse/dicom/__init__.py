"""Read and write DICOM: headers, UIDs and the Standard's own coordinates are known in this folder alone.

`scan` lists the series under a path, `read` loads one, `write_series` writes a volume as a new one, and `read_fused`
reads a fused one back.
"""

from medfuse.dicom.deidentify import Deidentifier, KeyedDeidentifier
from medfuse.dicom.objects.blending import unblendable, write_blending
from medfuse.dicom.objects.dicomdir import require_listable, write_media
from medfuse.dicom.objects.registration_reader import read_alignment
from medfuse.dicom.objects.registration_writer import ALIGNMENT_SUFFIX, both_placed, require_placed, write_alignment
from medfuse.dicom.read.fused import read_fused
from medfuse.dicom.read.volume import DicomSource, read, read_source
from medfuse.dicom.scan.scan import Scan, scan
from medfuse.dicom.scan.series import Series
from medfuse.dicom.write.compression import COMPRESSIONS, Compression, require_compressible
from medfuse.dicom.write.identity import Identity, IdentityLike
from medfuse.dicom.write.options import Bits, DicomOptions
from medfuse.dicom.write.series import require_measurable, write_attribution, write_partner, write_series
from medfuse.dicom.write.slice_stream import SliceStream

__all__ = [
    "ALIGNMENT_SUFFIX",
    "COMPRESSIONS",
    "Bits",
    "Compression",
    "Deidentifier",
    "DicomOptions",
    "DicomSource",
    "Identity",
    "IdentityLike",
    "KeyedDeidentifier",
    "Scan",
    "Series",
    "SliceStream",
    "both_placed",
    "read",
    "read_alignment",
    "read_fused",
    "read_source",
    "require_compressible",
    "require_listable",
    "require_measurable",
    "require_placed",
    "scan",
    "unblendable",
    "write_alignment",
    "write_attribution",
    "write_blending",
    "write_media",
    "write_partner",
    "write_series",
]
