"""Score fused pictures: pure functions on tensors, batched, on any device, each definition by a name of its own.

`score` takes pictures in [0, 1] or as uint8. The single functions take them on the 8-bit scale, as `eight_bit` makes
them: the constants of published scores, from SSIM's to the eye's noise, are made for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
