"""Where voxels are and what they are: grids, modalities, volumes with their metadata, planes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
