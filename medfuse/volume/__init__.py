"""Describe volumes: where voxels are (grids, planes, slabs) and what they are (modalities, units, sources)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
