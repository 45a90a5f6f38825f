"""Send an export to an archive: C-STORE and STOW-RS, with the status of every instance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
