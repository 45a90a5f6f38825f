"""GeSeNet, the fusion network: its parts, its training, its weights and the engine that runs it.

Li et al., IEEE TNNLS 2023, doi:10.1109/TNNLS.2023.3293274.
"""

from medfuse.gesenet.engine import Engine, load_engine
from medfuse.gesenet.loading import load_network
from medfuse.gesenet.network import GeSeNet
from medfuse.gesenet.stacks import fuse_slices

__all__ = ["Engine", "GeSeNet", "fuse_slices", "load_engine", "load_network"]
