from .deidentify import Deidentifier, KeyedDeidentifier
from .objects.blending import unblendable, write_blending
from .objects.dicomdir import require_listable, write_media
from .objects.registration_reader import read_alignment
from .objects.registration_writer import ALIGNMENT_SUFFIX, both_placed, require_placed, write_alignment
from .read.fused import read_fused
from .read.volume import DicomSource, read, read_source
from .scan.scan import Scan, scan
from .scan.series import Series
from .write.compression import COMPRESSIONS, Compression, require_compressible
from .write.identity import Identity, IdentityLike
from .write.options import Bits, DicomOptions
from .write.series import require_measurable, write_attribution, write_partner, write_series
from .write.slice_stream import SliceStream

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
