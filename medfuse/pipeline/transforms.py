"""The steps of the line as MONAI dictionary transforms, and our reader and writers as MONAI's::

    Compose([
        LoadStudyd("mri", modality="MR"), LoadStudyd("partner"),
        Straightend("mri"),
        Registerd(fixed="mri", moving="partner"),
        Replaned("mri", plane="native"),
        ResampleOntod("partner", onto="mri"),
        Scaled("mri"), Scaled("partner"),
        SplitLumad("partner", luma="luma"),
        FuseSlicesd("mri", "luma", fused="fused"),
        JoinColourd("fused", uptake="partner"),
    ])

Every step reads volumes by key and leaves volumes by key, so that a transform of yours can stand between any two.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.compose import Compose
from monai.transforms.transform import MapTransform
from torch import nn

from medfuse import load_study
from medfuse.dicom.palettes import palette_table
from medfuse.errors import MedfuseError
from medfuse.gesenet.batches import DEFAULT_BATCH_SIZE, fuse_slices
from medfuse.gesenet.engines.registry import Engine, load_engine
from medfuse.intensity import Window, choose_window, colour, outside_value, scale
from medfuse.intensity.suv import to_suv
from medfuse.pipeline.monai_io import DicomSeriesWriter, NiftiWriter, StudyReader
from medfuse.registration import Align, Registration, judge, register, resample
from medfuse.runtime.progress import Progress
from medfuse.volume import Modality, grid_of, like, plain
from medfuse.volume.planes import Plane, replane, require_same_grid

__all__ = [
    "DicomSeriesWriter",
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

Data = Mapping[Hashable, Any]


def run(line: Compose, data: dict[str, Any]) -> dict[str, Any]:
    """Send data through a line of transforms; what a step of medfuse raises arrives as it is.

    Raises
    ------
    MedfuseError
        As the steps do. MONAI wraps it, and the reader wants the reason.
    """
    try:
        return cast("dict[str, Any]", line(data))
    except RuntimeError as error:
        if isinstance(error.__cause__, MedfuseError):
            raise error.__cause__ from None
        raise


class LoadStudyd(MapTransform):
    """Load the study whose path stands under each key; see `medfuse.load`."""

    def __init__(
        self,
        keys: KeysCollection,
        modality: Modality | None = None,
        series: str | None = None,
        *,
        volume: int | None = None,
        fill_gaps: bool = False,
    ) -> None:
        super().__init__(keys)
        self.modality = modality
        self.series = series
        self.volume = volume
        self.fill_gaps = fill_gaps

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            loaded[key] = load_study.load(
                loaded[key], self.modality, self.series, volume=self.volume, fill_gaps=self.fill_gaps
            )
        return loaded


class Registerd(MapTransform):
    """Align the moving volume to the fixed one; leaves a `Registration` (fixed → moving), moves no voxel.

    A registration that is given is taken as it is, if the studies overlap under it, and judged by the pictures.
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

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        found = (
            judge(self.method, data[self.fixed], data[self.moving])
            if isinstance(self.method, Registration)
            else register(data[self.fixed], data[self.moving], self.method, force=self.force, progress=self.progress)
        )
        return dict(data) | {self.registration: found}


class Straightend(MapTransform):
    """Interpolate a volume once onto the upright grid that covers its own, if that is sheared, as by a tilted gantry.

    Viewers, and most programs, suppose that slices are stacked along their normal.
    """

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        straight = dict(data)
        for key in self.key_iterator(straight):
            volume = straight[key]
            grid = grid_of(volume)
            if not grid.upright:
                straight[key] = resample(volume, grid.straightened(), None, outside=outside_value(volume))
        return straight


class ToSuvd(MapTransform):
    """Convert PET to SUV, body weight; see `medfuse.intensity.suv.to_suv`."""

    def __init__(self, keys: KeysCollection, weight_kg: float | None = None) -> None:
        super().__init__(keys)
        self.weight_kg = weight_kg

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        converted = dict(data)
        for key in self.key_iterator(converted):
            converted[key] = to_suv(converted[key], weight_kg=self.weight_kg)
        return converted


class Replaned(MapTransform):
    """Turn the axes so that the last one runs through the slices of a plane; see `medfuse.volume.planes.replane`."""

    def __init__(self, keys: KeysCollection, plane: Plane = "native") -> None:
        super().__init__(keys)
        self.plane = plane

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        turned = dict(data)
        for key in self.key_iterator(turned):
            turned[key] = replane(turned[key], self.plane)
        return turned


class ResampleOntod(MapTransform):
    """Bring each volume onto another's grid by one linear interpolation, through the registration if there is one."""

    def __init__(self, keys: KeysCollection, onto: str = "mri", registration: str = "registration") -> None:
        super().__init__(keys)
        self.onto = onto
        self.registration = registration

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        moved = dict(data)
        grid = grid_of(moved[self.onto])
        for key in self.key_iterator(moved):
            volume = moved[key]
            moved[key] = resample(volume, grid, moved.get(self.registration), outside=outside_value(volume))
        return moved


class Scaled(MapTransform):
    """Map each volume as a whole onto [0, 1]; see `medfuse.intensity.choose_window`."""

    def __init__(self, keys: KeysCollection, window: str | Window | None = None) -> None:
        super().__init__(keys)
        self.window = window

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            volume = scaled[key]
            scaled[key] = scale(volume, choose_window(volume, self.window))
        return scaled


class SplitLumad(MapTransform):
    """Leave under ``luma`` what the network sees of a volume in [0, 1]: itself, or its luma in a palette."""

    def __init__(self, key: str = "partner", luma: str = "luma", palette: str | None = None) -> None:
        super().__init__(key)
        self.luma = luma
        self.palette = palette

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        volume = data[self.first_key(dict(data))]
        if self.palette is None:
            return dict(data) | {self.luma: volume}
        luma = torch.empty(volume.shape, dtype=torch.float32)
        for k in range(volume.shape[-1]):  # slice by slice: the three colours of a whole volume are never held
            luma[..., k] = colour.palette_luma(plain(volume)[..., k], palette_table(self.palette))
        return dict(data) | {self.luma: like(luma, volume)}


class FuseSlicesd(MapTransform):
    """Fuse two volumes in [0, 1] on one grid slice by slice; see `medfuse.gesenet.fuse_slices`."""

    def __init__(
        self,
        mri: str = "mri",
        partner: str = "luma",
        fused: str = "fused",
        network: nn.Module | Engine | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        progress: Progress | None = None,
    ) -> None:
        super().__init__((mri, partner))
        self.mri, self.partner, self.fused = mri, partner, fused
        self.network = network if network is not None else load_engine()
        self.batch_size = batch_size
        self.progress = progress

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        fused = fuse_slices(
            self.network, data[self.mri], data[self.partner], batch_size=self.batch_size, progress=self.progress
        )
        return dict(data) | {self.fused: fused}


class JoinColourd(MapTransform):
    """Give the fused luma the chroma of the partner in its palette (Eq. 5); nothing without a palette.

    Leaves (3, X, Y, Z) uint8 RGB in place of the (1, X, Y, Z) luma.
    """

    def __init__(
        self,
        luma: str = "fused",
        uptake: str = "partner",
        palette: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__((luma, uptake))
        self.luma, self.uptake, self.palette = luma, uptake, palette
        self.progress = progress

    def __call__(self, data: Data) -> dict[Hashable, Any]:
        if self.palette is None:
            return dict(data)
        luma, uptake = data[self.luma], data[self.uptake]
        x, y, slices = require_same_grid(luma, uptake).shape
        stored = torch.empty((slices, y, x, 3), dtype=torch.uint8)  # the order of files, so that a slice is contiguous
        for k in range(slices):
            stored[k] = colour.join_palette(
                plain(luma)[..., k], plain(uptake)[..., k], palette_table(self.palette)
            ).permute(2, 1, 0)
            if self.progress:
                self.progress("colour", (k + 1) / slices)
        return dict(data) | {self.luma: like(stored.permute(3, 2, 1, 0), luma)}
