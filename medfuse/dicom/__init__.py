"""DICOM in and out: the only place that knows headers, UIDs and the Standard's own coordinates.

`scan` lists the series under a path, `read` loads one, `write_series` writes a fused volume as a new one, and
`read_fused` reads that back.
"""

from medfuse.dicom.fused import read_fused
from medfuse.dicom.read import DicomSource, read
from medfuse.dicom.scan import Scan, scan
from medfuse.dicom.series import Series
from medfuse.dicom.write import require_slices, write_series

__all__ = ["DicomSource", "Scan", "Series", "read", "read_fused", "require_slices", "scan", "write_series"]
