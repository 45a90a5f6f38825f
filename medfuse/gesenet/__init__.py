"""Build, train, load and run GeSeNet, the fusion network.

Li et al., IEEE TNNLS 2023, doi:10.1109/TNNLS.2023.3293274.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
