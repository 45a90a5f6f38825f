"""Fuse by methods other than GeSeNet, to compare it with: average, maximum, Laplacian pyramid, guided filter, blend."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
