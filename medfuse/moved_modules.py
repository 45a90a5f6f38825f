"""Answer the names that public modules had before they moved, for one release."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "medfuse.bench.bench": "medfuse.bench.engines",
    "medfuse.colour": "medfuse.intensity.colour",
    "medfuse.dicom.send": "medfuse.archive.send",
    "medfuse.foreground": "medfuse.intensity.air_mask",
    "medfuse.gesenet.config": "medfuse.gesenet.training.config",
    "medfuse.gesenet.losses": "medfuse.gesenet.training.losses",
    "medfuse.gesenet.pictures": "medfuse.gesenet.training.dataset",
    "medfuse.gesenet.semantic": "medfuse.gesenet.training.semantic",
    "medfuse.scoring": "medfuse.pipeline.scoring",
    "medfuse.slices": "medfuse.volume.planes",
    "medfuse.train": "medfuse.pipeline.train",
    "medfuse.uptake": "medfuse.intensity.suv",
}
"""What the documentation named, and where it is now."""


class _MovedModules(MetaPathFinder, Loader):
    """Import the new module where the old one is asked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {new}; import it from there.", DeprecationWarning, stacklevel=2)
        return importlib.import_module(new)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the new module ran when it was imported."""


def answer_old_names() -> None:
    """Let Python's import system find modules under their old names, behind all other modules."""
    sys.meta_path.append(_MovedModules())
