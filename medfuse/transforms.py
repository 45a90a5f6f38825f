"""Offer the pipeline's steps as MONAI dictionary transforms; see `medfuse.pipeline.transforms`."""

from medfuse.pipeline.transforms import *  # noqa: F403
from medfuse.pipeline.transforms import __all__ as __all__
