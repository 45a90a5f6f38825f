from .batches import fuse_slices
from .engines.registry import Engine, load_engine
from .loading import load_network
from .network import GeSeNet

__all__ = ["Engine", "GeSeNet", "fuse_slices", "load_engine", "load_network"]
