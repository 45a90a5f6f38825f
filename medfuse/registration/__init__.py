"""Register the moving study to the fixed one, and resample it with one interpolation.

A `Registration` maps points **fixed → moving** in RAS+ mm, as an ITK resampler uses it. SimpleITK's LPS+ stays in here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
