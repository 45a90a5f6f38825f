"""Run the pipeline's steps as MONAI dictionary transforms, and medfuse's reader and writers as MONAI's::

    Compose([
        LoadStudyd("mri", modality="MR"), LoadStudyd("partner"),
        Straightend("mri"),
        Registerd(fixed="mri", moving="partner"),
        Replaned("mri", plane="native"),
        ResampleOntod("partner", onto="mri"),
        Scaled("mri"), Scaled("partner"),
        SplitLumad("partner", luma="luma"),
        FuseSlicesd("mri", "luma", fused="fused"),
        JoinColourd("fused", uptake="partner", mri="mri"),
    ])

This gives the voxels of `medfuse.fuse`. For its ``black_air``, put ``FindAird("mri", air="air")`` before the MRI is
scaled, and ``BlackenAird("mri", "partner", air="air")`` before ``SplitLumad``. Every step reads volumes by key and
leaves volumes by key, so that a transform of yours can stand between any two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from medfuse import load_study
from medfuse.intensity import AirMask, Window, choose_window, outside_value, scale, to_suv
from medfuse.pipeline.fusing_transforms import Data, FuseSlicesd, JoinColourd
from medfuse.pipeline.monai_io import DicomSeriesWriter, NiftiWriter, StudyReader
from medfuse.pipeline.prepare import align_pair, choose_partner_window, straighten
from medfuse.pipeline.steps import blacken_air, choose_palette, over_slabs, slabs, split_luma
from medfuse.registration import Align, Registration, resample
from medfuse.runtime.progress import Progress
from medfuse.runtime.torch_settings import default_settings
from medfuse.volume import (
    Modality,
    Normalisation,
    Plane,
    SuvInputs,
    as_slices,
    grid_of,
    like,
    plain,
    replane,
    require_same_grid,
)

if TYPE_CHECKING:  # methods that need no network do without it
    pass

__all__ = [
    "BlackenAird",
    "DicomSeriesWriter",
    "FindAird",
    "FuseSlicesd",
    "JoinColourd",
    "LoadStudyd",
    "NiftiWriter",
    "Registerd",
    "Replaned",
    "ResampleOntod",
    "Scaled",
    "SplitLumad",
    "Straightend",
    "StudyReader",
    "ToSuvd",
]


class PerVolume(MapTransform):
    """Change each volume by itself, whatever its key."""

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        changed = dict(data)
        for key in self.key_iterator(changed):
            changed[key] = self.changed(changed[key], changed)
        return changed

    @abstractmethod
    def changed(self, volume: Any, data: Data) -> MetaTensor:
        """What takes the volume's place; ``data`` holds the others."""


class LoadStudyd(PerVolume):
    """Load the study whose path stands under each key; see `medfuse.load`."""

    def __init__(
        self,
        keys: KeysCollection,
        modality: Modality | None = None,
        series: str | None = None,
        *,
        volume: int | None = None,
        fill_gaps: bool = False,
        accept_cut: bool = False,
    ) -> None:
        super().__init__(keys)
        self.modality = modality
        self.series = series
        self.volume = volume
        self.fill_gaps = fill_gaps
        self.accept_cut = accept_cut

    def changed(self, volume: Any, data: Data) -> MetaTensor:
        return load_study.load(
            volume, self.modality, self.series, volume=self.volume, fill_gaps=self.fill_gaps, accept_cut=self.accept_cut
        )


class Registerd(MapTransform):
    """Align the moving volume to the fixed one; leaves a `Registration` (fixed → moving), moves no voxel.

    A registration that is given is taken as it is, if the studies overlap under it, and assessed by the pictures.
    """

    def __init__(
        self,
        fixed: str = "mri",
        moving: str = "partner",
        method: Align | Registration = "auto",
        registration: str = "registration",
        force: bool = False,
        progress: Progress | None = None,
    ) -> None:
        super().__init__((fixed, moving))
        self.fixed, self.moving, self.method = fixed, moving, method
        self.registration = registration
        self.force = force
        self.progress = progress

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        fixed, moving = data[self.fixed], data[self.moving]
        found = align_pair(fixed, moving, self.method, force=self.force, progress=self.progress)
        return dict(data) | {self.registration: found}


class Straightend(PerVolume):
    """Interpolate a volume once onto an upright grid if its slices are tilted; see `medfuse.pipeline.prepare`."""

    def changed(self, volume: MetaTensor, data: Data) -> MetaTensor:
        return straighten(volume)


class ToSuvd(PerVolume):
    """Convert PET to SUV; see `medfuse.intensity.suv.to_suv`."""

    def __init__(
        self,
        keys: KeysCollection,
        weight_kg: float | None = None,
        *,
        normalisation: Normalisation = "bw",
        given: SuvInputs = SuvInputs(),
    ) -> None:
        super().__init__(keys)
        self.weight_kg = weight_kg
        self.normalisation = normalisation
        self.given = given

    def changed(self, volume: MetaTensor, data: Data) -> MetaTensor:
        return to_suv(volume, normalisation=self.normalisation, given=self.given, weight_kg=self.weight_kg)


class Replaned(PerVolume):
    """Turn the axes so that the last one runs through the slices of a plane; see `medfuse.volume.planes.replane`."""

    def __init__(self, keys: KeysCollection, plane: Plane = "native") -> None:
        super().__init__(keys)
        self.plane = plane

    def changed(self, volume: MetaTensor, data: Data) -> MetaTensor:
        return replane(volume, self.plane)


class ResampleOntod(PerVolume):
    """Bring each volume onto another's grid by one linear interpolation, through the registration if there is one."""

    def __init__(self, keys: KeysCollection, onto: str = "mri", registration: str = "registration") -> None:
        super().__init__(keys)
        self.onto = onto
        self.registration = registration

    def changed(self, volume: MetaTensor, data: Data) -> MetaTensor:
        return resample(volume, grid_of(data[self.onto]), data.get(self.registration), outside=outside_value(volume))


class Scaled(PerVolume):
    """Map each volume as a whole onto [0, 1], by its window if none is given, as `medfuse.fuse` does."""

    def __init__(self, keys: KeysCollection, window: str | Window | None = None) -> None:
        super().__init__(keys)
        self.window = window

    def changed(self, volume: MetaTensor, data: Data) -> MetaTensor:
        return scale(volume, choose_window(volume, choose_partner_window(volume, self.window)))


class FindAird(MapTransform):
    """Leave under ``air`` where an MRI in its own unit shows nothing; see `medfuse.intensity.AirMask`."""

    def __init__(self, key: str = "mri", air: str = "air", window: str | Window | None = None) -> None:
        super().__init__(key)
        self.air = air
        self.window = window

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        mri = data[self.first_key(dict(data))]
        return dict(data) | {self.air: AirMask.of(mri, choose_window(mri, self.window))}


class BlackenAird(MapTransform):
    """Set the air of both volumes in [0, 1] to black, where `FindAird` found it and the partner shows nothing."""

    def __init__(self, mri: str = "mri", partner: str = "partner", air: str = "air") -> None:
        super().__init__((mri, partner))
        self.mri, self.partner, self.air = mri, partner, air

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        mri, partner = data[self.mri], data[self.partner]
        require_same_grid(mri, partner)
        blackened = [like(torch.empty_like(plain(volume)), volume) for volume in (mri, partner)]
        for here in slabs(mri):
            first, second = (as_slices(plain(volume)[..., here]) for volume in (mri, partner))
            both = blacken_air(first, second, data[self.air], here.start)
            for volume, slab in zip(blackened, both, strict=True):
                plain(volume)[..., here] = slab.permute(1, 3, 2, 0)
        return dict(data) | {self.mri: blackened[0], self.partner: blackened[1]}


class SplitLumad(MapTransform):
    """Leave under ``luma`` what the network sees of a partner in [0, 1]: itself, or its luma in a palette.

    Without a ``palette``, the modality's own is taken, as by `medfuse.fuse`.
    """

    def __init__(self, key: str = "partner", luma: str = "luma", palette: str | None = None) -> None:
        super().__init__(key)
        self.luma = luma
        self.palette = palette

    @default_settings()
    def __call__(self, data: Data) -> dict[Hashable, Any]:
        volume = data[self.first_key(dict(data))]
        palette = choose_palette(self.palette, volume)
        luma = volume if palette is None else over_slabs(volume, 1, lambda _, slab: split_luma(slab, palette))
        return dict(data) | {self.luma: luma}
