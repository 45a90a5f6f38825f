from .deidentify import Deidentifier, KeyedDeidentifier
from .objects.blending import unblendable, write_blending
from .objects.dicomdir import require_listable, write_media
from .objects.registration_reader import read_alignment
from .objects.registration_writer import ALIGNMENT_SUFFIX, both_placed, require_placed, write_alignment
from .reading.fused import read_fused
from .reading.volume import DicomSource, read, read_source
from .scanning.scan import Scan, scan
from .scanning.series import Series
from .writing.compression import COMPRESSIONS, Compression, require_compressible
from .writing.identity import Identity, IdentityLike
from .writing.options import Bits, DicomOptions
from .writing.series import require_measurable, write_attribution, write_partner, write_series
from .writing.slice_stream import SliceStream

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
