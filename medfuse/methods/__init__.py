"""Fuse by methods under one interface: GeSeNet, simple ones to compare it with, and those of others."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
