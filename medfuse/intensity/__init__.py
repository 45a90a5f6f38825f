"""Map values to [0, 1] and to colour: windows, SUV, air, palettes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
