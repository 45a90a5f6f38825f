"""Plan which studies of many are fused with which, by rules that can be read and changed, and run the plan."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
