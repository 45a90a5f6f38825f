"""Answer the names that public modules had before they moved, for one release."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "medfuse.bench.bench": "medfuse.bench.engines",
    "medfuse.colour": "medfuse.intensity.colour",
    "medfuse.dicom.send": "medfuse.archive.send",
    "medfuse.foreground": "medfuse.intensity.air_mask",
    "medfuse.gesenet.config": "medfuse.gesenet.training.config",
    "medfuse.gesenet.device": "medfuse.runtime.device",
    "medfuse.gesenet.losses": "medfuse.gesenet.training.losses",
    "medfuse.gesenet.pictures": "medfuse.gesenet.training.dataset",
    "medfuse.gesenet.semantic": "medfuse.gesenet.training.semantic",
    "medfuse.scoring": "medfuse.pipeline.scoring",
    "medfuse.slices": "medfuse.volume.planes",
    "medfuse.train": "medfuse.pipeline.train",
    "medfuse.uptake": "medfuse.intensity.suv",
}
"""What the documentation named, and where it is now."""


class _MovedModules:
    """Import the new module where the old one is asked for. Its base classes in importlib.abc are slow to import."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make an empty module, which takes the place of nothing."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the new module in the place of the empty one."""
        old, new = module.__name__, MOVED[module.__name__]
        warnings.warn(f"{old} is now {new}; import it from there.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)


def answer_old_names() -> None:
    """Let Python's import system find modules under their old names, behind all other modules."""
    sys.meta_path.append(_MovedModules())
