"""Write a fusion network for other programs: as ONNX, as a torch.export program, and as a MONAI bundle."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
