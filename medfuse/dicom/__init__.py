"""Read and write DICOM: headers, UIDs and the Standard's own coordinates are known in this folder alone.

`scan` lists the series under a path, `read` loads one, `write_series` writes a volume as a new one, and `read_fused`
reads a fused one back.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
