"""Read and write NIfTI: nibabel, xyzt_units and form codes are known in this folder alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
